"""The scripts an owner starts, in a folder with a space in its name, with a Python and an installer that only tell."""

import json
import re
import shutil
import signal
import stat
import subprocess
import sys

import psutil
import pytest

from tests.e2e.place import PATIENCE_S, ROOT, Place, program
from worker import __version__

pytestmark = pytest.mark.e2e

INSTALL = ROOT / "worker" / "engine" / "install"
SHELL_SCRIPTS = sorted([*ROOT.glob("*.sh"), *INSTALL.glob("*.sh"), ROOT / ".ci" / "run"])


@pytest.mark.parametrize("script", SHELL_SCRIPTS, ids=lambda path: path.name)
def test_a_shell_script_is_executable_and_bash_can_read_it(script):
    assert script.stat().st_mode & stat.S_IXUSR
    subprocess.run(["bash", "-n", script], check=True)


@pytest.mark.parametrize("script", SHELL_SCRIPTS, ids=lambda path: path.name)
def test_a_shell_script_hands_arguments_on_whole_and_waits_for_no_key(script):
    text = script.read_text()
    assert not re.search(r"^\s*(read|select)\b", text, re.MULTILINE)
    assert "$*" not in text
    assert not re.search(r'(?<!")\$@', text)


# update-runtime.sh


def test_the_set_up_gets_all_arguments_whole_and_stays_where_the_owner_is(place):
    place.python("python3.11")
    done = place.run("update-runtime.sh", "--comfyui", "my comfy/folder", "--dev")
    told = json.loads(done.stdout)
    assert told["arguments"] == ["--comfyui", "my comfy/folder", "--dev"]
    assert told["cwd"] == str(place.elsewhere)


def test_a_package_named_worker_in_the_current_folder_is_not_taken_for_ours(place):
    place.python("python3.11")
    (place.elsewhere / "worker").mkdir()
    (place.elsewhere / "worker" / "__init__.py").write_text("raise SystemExit('the wrong one')")
    assert place.run("update-runtime.sh").returncode == 0


def test_a_link_to_the_script_finds_its_folder(place):
    place.python("python3.11")
    (place.elsewhere / "set-up").symlink_to(place.clone / "update-runtime.sh")
    assert place.run("../else where/set-up").returncode == 0


@pytest.mark.parametrize(
    ("fit", "unfit", "chosen"),
    [
        (["python3.12", "python3.11", "python3"], [], "python3.11"),
        (["python3.13", "python3.10"], ["python3.11"], "python3.13"),
        (["python3"], ["python3.11", "python3.12"], "python3"),
    ],
)
def test_the_first_python_that_can_make_environments_is_taken(place, fit, unfit, chosen):
    for name in fit:
        place.python(name)
    for name in unfit:
        place.python(name, fit=False)
    assert json.loads(place.run("update-runtime.sh").stdout)["python"] == chosen


def test_the_python_an_owner_names_comes_first(place):
    place.python("python3.11")
    place.python("my python")
    done = place.run("update-runtime.sh", PYTHON=str(place.system / "my python"))
    assert json.loads(done.stdout)["python"] == "my"


def test_a_named_python_of_no_use_is_an_error_and_no_other_is_taken(place):
    place.python("python3.11")
    place.python("python3.9", fit=False)
    done = place.run("update-runtime.sh", PYTHON="python3.9")
    assert (done.returncode, done.stdout) == (1, "")
    assert "ERROR: PYTHON is python3.9" in done.stderr


def with_uv(place: Place, body: str) -> None:
    """No Python, and a script that fetches a uv of this behaviour."""
    program(place.clone / "worker" / "engine" / "install" / "fetch-uv.sh", f'echo "{place.system}/uv"')
    program(place.system / "uv", f'echo "uv $* [$UV_PYTHON_INSTALL_DIR]" >&2\n{body}')


def test_without_any_python_one_is_fetched_into_the_runtime_folder(place):
    python = place.clone / "runtime" / "python" / "cpython-3.11.1" / "bin" / "python3"
    program(python, f'exec {sys.executable} "$@"')
    python.chmod(0o644)
    with_uv(place, f'case "$*" in *install*) chmod +x "{python}" ;; *find*) echo "{python}" ;; esac')
    done = place.run("update-runtime.sh", "--dev")
    assert json.loads(done.stdout)["arguments"] == ["--dev"]
    assert f"python install --managed-python 3.11 [{place.clone}/runtime/python]" in done.stderr
    # The next time it is there.
    (place.system / "uv").unlink()
    assert json.loads(place.run("update-runtime.sh").stdout)["arguments"] == []


def test_without_any_python_and_without_a_network_the_remedy_is_named(place):
    with_uv(place, "exit 1")
    done = place.run("update-runtime.sh")
    assert (done.returncode, done.stdout) == (1, "")
    assert "UV_PYTHON_INSTALL_MIRROR" in done.stderr
    assert "PYTHON=/path/to/python3.12" in done.stderr


def test_a_question_fetches_nothing(place):
    with_uv(place, "exit 1")
    done = place.run("update-runtime.sh", "--check")
    assert (done.returncode, done.stderr) == (1, "")
    assert "update-runtime will fetch one" in done.stdout


def test_no_python_is_put_into_a_folder_in_use_for_other_things(place):
    with_uv(place, "exit 1")
    (place.elsewhere / "precious").touch()
    done = place.run("update-runtime.sh", AIWORKER_RUNTIME_DIR=str(place.elsewhere))
    assert done.returncode == 1
    assert "holds no runtime of the worker" in done.stderr
    assert [path.name for path in place.elsewhere.iterdir()] == ["precious"]


@pytest.mark.parametrize("version", ["3.9", "3.14"])
def test_a_python_too_old_or_too_new_is_passed_by(place, version):
    """The check itself, by the real Python, with another version number."""
    check = re.search(r"-I -c '(.+)' >", (ROOT / "update-runtime.sh").read_text())[1]
    numbers = tuple(int(number) for number in version.split("."))
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
    pretending = f"import sys; sys.version_info = {numbers!r}; {check}"
    assert subprocess.run([sys.executable, "-c", pretending], check=False).returncode == 1


def test_the_rocm_scripts_set_up_for_rocm(place):
    place.python("python3.11")
    done = place.run("update-runtime-rocm.sh", "--dev")
    assert json.loads(done.stdout)["arguments"] == ["--rocm", "--dev"]


@pytest.mark.parametrize("missing", ["_ctypes", "_ssl", "_sqlite3", "_lzma", "_bz2"])
def test_a_python_that_was_built_without_a_module_is_passed_by(missing):
    """pyenv leaves out what it finds no library for; the set-up, or the first job, ended in a traceback."""
    check = re.search(r"-I -c '(import sys, .+)' >", (ROOT / "update-runtime.sh").read_text())[1]
    without = f"import sys; sys.modules[{missing!r}] = None; "
    assert subprocess.run([sys.executable, "-I", "-c", check], check=False).returncode == 0
    assert subprocess.run([sys.executable, "-I", "-c", without + check], check=False, capture_output=True).returncode


@pytest.mark.parametrize(
    "other", ["sys.implementation.name = 'pypy'", "import sysconfig; sysconfig.get_config_var = lambda _: 1"]
)
def test_a_python_that_no_package_is_built_for_is_passed_by(other):
    check = re.search(r"-I -c '(import sys, .+)' >", (ROOT / "update-runtime.sh").read_text())[1]
    assert subprocess.run([sys.executable, "-I", "-c", f"import sys; {other}; {check}"], check=False).returncode == 1


def test_a_python_is_fetched_into_a_runtime_folder_that_is_named_from_here(place):
    python = place.elsewhere / "rt" / "python" / "cpython-3.11.1" / "bin" / "python3"
    program(python, f'exec {sys.executable} "$@"')
    python.chmod(0o644)
    (place.elsewhere / "rt" / ".lock").touch()
    with_uv(place, f'case "$*" in *install*) chmod +x "{python}" ;; *find*) echo "{python}" ;; esac')
    done = place.run("update-runtime.sh", AIWORKER_RUNTIME_DIR="rt")
    assert done.returncode == 0, done.stderr
    assert f"[{place.elsewhere}/rt/python]" in done.stderr


@pytest.mark.skipif(shutil.which("dash") is None, reason="no dash")
@pytest.mark.parametrize("script", sorted(path.name for path in ROOT.glob("*.sh") if path.name != "test.sh"))
def test_a_script_that_is_started_with_sh_goes_on_in_bash(place, script):
    """Debian's sh is dash: "Bad substitution", and nothing of a remedy."""
    with_runtime(place, check=0)
    (place.system / "sh").symlink_to(str(shutil.which("dash")))
    done = subprocess.run(
        ["sh", str(place.clone / script), "python"], cwd=place.elsewhere, capture_output=True, text=True, check=False,
        env={"PATH": str(place.system), "HOME": str(place.elsewhere)}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["horde-bridge.sh", "update-runtime.sh"])
def test_a_script_without_its_folder_says_so(place, name):
    program(place.system / "python3.11", "exit 0")  # none that might know another folder's worker
    shutil.rmtree(place.clone / "worker")
    done = place.run(name)
    assert (done.returncode, done.stdout) == (1, "")
    assert "of no use alone" in done.stderr
    assert "unpack the whole archive" in done.stderr


@pytest.mark.parametrize("name", ["horde-bridge.sh", "update-runtime.sh"])
def test_a_folder_that_is_gone_under_the_shell_is_told(place, name):
    """Python was not found from there, and one was fetched."""
    for python in (place.system / "python3.11", place.clone / "runtime/worker/bin/python"):
        program(python, "exit 0")
    gone = f'cd "{place.elsewhere}" && rmdir "{place.elsewhere}" && exec "{place.clone / name}" --check'
    done = subprocess.run(
        ["bash", "-c", gone], env={"PATH": f"{place.system}:/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "is gone. Change into one that is there" in done.stderr


def test_a_command_of_the_environment_is_found_in_a_folder_that_no_path_can_hold(place):
    colon = place.clone.with_name("a:b")
    place.clone.rename(colon)
    place.clone = colon
    with_runtime(place, check=0)
    assert "started as" in place.run("runtime.sh", "python").stdout


# horde-bridge.sh

WORKER_PYTHON = """
case "$*" in
    *--check*) exit {check} ;;
    *) printf '%s\\n' "started as $$ in $PWD with ${{MIOPEN_FIND_MODE:-none}}" "$@" ;;
esac
"""


def with_runtime(place: Place, *, check: int) -> None:
    """A set-up runtime, complete or not, and a set-up that tells on stdout that it was called."""
    program(place.clone / "runtime" / "worker" / "bin" / "python", WORKER_PYTHON.format(check=check))
    program(place.clone / "update-runtime.sh", 'echo "setting up $*"')


def test_a_complete_runtime_starts_the_worker_at_once_with_arguments_whole(place):
    with_runtime(place, check=0)
    done = place.run("horde-bridge.sh", "-n", "Instance 1", "--config", "a b.yaml")
    first, *arguments = done.stdout.splitlines()
    assert arguments == ["-I", "-m", "worker.cli", "-n", "Instance 1", "--config", "a b.yaml"]
    assert f"in {place.elsewhere} " in first
    assert "setting up" not in done.stderr


def test_the_worker_takes_the_place_of_the_script_so_that_signals_reach_it(place):
    with_runtime(place, check=0)
    with subprocess.Popen(
        [place.clone / "horde-bridge.sh"],
        env={"PATH": str(place.system), "HOME": str(place.elsewhere)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as worker:
        assert worker.stdout.readline().startswith(f"started as {worker.pid} ")


def test_an_incomplete_runtime_is_set_up_first_and_stdout_stays_the_workers(place):
    with_runtime(place, check=1)
    done = place.run("horde-bridge.sh", "demo", "--json")
    assert "setting up" in done.stderr
    assert "setting up" not in done.stdout
    assert done.stdout.splitlines()[1:] == ["-I", "-m", "worker.cli", "demo", "--json"]


def test_a_set_up_that_fails_ends_the_start(place):
    with_runtime(place, check=1)
    program(place.clone / "update-runtime.sh", "exit 1")
    done = place.run("horde-bridge.sh")
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize(
    ("command", "goes_on"),
    [("status", True), ("finish", True), ("pause", True), ("run", False), ("-v", False), ("", False), ("demo", False)],
)
def test_what_steers_a_running_worker_does_without_the_packages_it_keeps_from_being_replaced(place, command, goes_on):
    with_runtime(place, check=1)
    program(place.clone / "update-runtime.sh", "exit 3")
    done = place.run("horde-bridge.sh", *([command] if command else []))
    assert done.returncode == (0 if goes_on else 3)
    assert bool(done.stdout) is goes_on


def test_without_a_runtime_it_is_set_up(place):
    program(
        place.clone / "update-runtime.sh",
        'mkdir -p "${0%/*}/runtime/worker/bin" && f="${0%/*}/runtime/worker/bin/python"\n'
        'printf "#!/usr/bin/env bash\\necho started" > "$f" && chmod +x "$f"',
    )
    assert place.run("horde-bridge.sh").stdout == "started\n"


def test_the_runtime_can_lie_elsewhere(place):
    with_runtime(place, check=0)
    shutil.move(place.clone / "runtime", place.elsewhere / "run time")
    for folder in (str(place.elsewhere / "run time"), "~/run time"):
        done = place.run("horde-bridge.sh", AIWORKER_RUNTIME_DIR=folder)
        assert done.stdout.startswith("started"), done.stderr


@pytest.mark.parametrize(("complete", "told"), [(True, ""), (False, "setting up --rocm")])
def test_the_rocm_launcher_sets_up_for_rocm_and_starts_the_same_worker(place, complete, told):
    with_runtime(place, check=0 if complete else 1)
    done = place.run("horde-bridge-rocm.sh", "-n", "Instance 1")
    assert done.stdout.splitlines()[1:] == ["-I", "-m", "worker.cli", "-n", "Instance 1"]
    assert "with FAST" in done.stdout
    assert done.stderr.strip() == told


@pytest.mark.parametrize("name", ["preload-models.sh", "download_models.py"])
def test_models_are_fetched_beforehand_under_the_names_the_former_worker_has_for_it(place, name):
    with_runtime(place, check=0)
    command = [place.clone / name, "--purge-unused-loras", "a b"]
    if name.endswith(".py"):
        shutil.copy2(ROOT / name, place.clone)
        command.insert(0, sys.executable)
    done = subprocess.run(
        command, cwd=place.elsewhere, env={"PATH": str(place.system)}, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, check=True, timeout=PATIENCE_S,
    )  # fmt: skip
    first, *arguments = done.stdout.splitlines()
    assert arguments == ["-I", "-m", "worker.cli", "models", "download", "--purge-unused-loras", "a b"]
    assert f"in {place.elsewhere} " in first


def test_the_worker_starts_under_the_name_the_former_worker_has_for_it(place: Place) -> None:
    with_runtime(place, check=0)
    done = run_python(place, "run_worker.py", "-n", "Instance 1", "--amd")
    assert done.stdout.splitlines()[1:] == ["-I", "-m", "worker.cli", "run", "-n", "Instance 1", "--amd"]


def test_settings_become_a_file_of_variables_that_only_its_owner_can_read(place: Place) -> None:
    program(place.clone / "horde-bridge.sh", 'printf "AIWORKER_X=1\\n"; echo "$*" >&2')
    done = run_python(place, "convert_config_to_env.py", "-f", "my file.yaml")
    assert done.stderr.strip() == "config to-env --config my file.yaml"
    written = place.elsewhere / "bridgeData.env"
    assert written.read_text() == "AIWORKER_X=1\n"
    assert written.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("horde-bridge.sh", ["-v"]), ("horde-bridge-rocm.sh", ["-v"]), ("run_worker.py", ["run", "-v"]),
        ("preload-models.sh", ["models", "download", "-v"]), ("download_models.py", ["models", "download", "-v"]),
        ("runtime.sh", None), ("runtime-rocm.sh", None), ("update-runtime-rocm.sh", None),
    ],
)  # fmt: skip
def test_scripts_run_though_what_unpacked_them_has_left_their_modes_out(place, name, told):
    with_runtime(place, check=1)
    if name.startswith("runtime"):
        shutil.rmtree(place.clone / "runtime")
    if name.endswith(".py"):
        shutil.copy2(ROOT / name, place.clone)
    for script in place.clone.glob("*.sh"):
        script.chmod(0o644)
    runner = sys.executable if name.endswith(".py") else "bash"
    done = subprocess.run(
        [runner, place.clone / name, "true" if told is None else "-v"],
        cwd=place.elsewhere, env={"PATH": str(place.system)}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False, timeout=PATIENCE_S,
    )  # fmt: skip
    assert "denied" not in done.stderr
    assert "setting up" in done.stdout + done.stderr
    if told:
        assert done.stdout.splitlines()[1:] == ["-I", "-m", "worker.cli", *told]


@pytest.mark.parametrize(("name", "fits"), [("python3.12", True), ("python3.13", False)])
def test_directml_gets_a_python_that_it_has_a_build_for(place, name, fits):
    program(place.system / name, f"""
case "$*" in
    *"> (3, 12)"*) exit {0 if fits else 1} ;;
    *maxsize*) exit 0 ;;
esac
echo "{name} is taken"
""")  # fmt: skip
    done = place.run("update-runtime.sh", "--directml", "--check")
    assert (f"{name} is taken" in done.stdout) == fits
    assert f"{name} is taken" in place.run("update-runtime.sh", "--cpu", "--check").stdout


def run_python(place: Place, name: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    shutil.copy2(ROOT / name, place.clone)
    return subprocess.run(
        [sys.executable, place.clone / name, *arguments], cwd=place.elsewhere, env={"PATH": str(place.system)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=PATIENCE_S,
    )  # fmt: skip


@pytest.mark.parametrize(("script", "told"), [("runtime.sh", ""), ("runtime-rocm.sh", "--rocm")])
def test_a_command_runs_in_the_workers_environment_which_is_set_up_if_need_be(
    place: Place, script: str, told: str
) -> None:
    python = place.clone / "runtime" / "worker" / "bin" / "python"
    program(place.clone / "update-runtime.sh", f'echo "setting up $*"; mkdir -p "{python.parent}"; touch "{python}"')
    done = place.run(script, "env", PYTHONPATH="/foreign")
    assert done.stderr.strip() == f"setting up {told}".strip()
    program(python, 'echo "$VIRTUAL_ENV ${PYTHONPATH:-none}"; printf "%s\\n" "$@"')
    done = place.run(script, "python", "a b", "c", PYTHONPATH="/foreign")
    assert done.stdout.splitlines() == [f"{python.parents[1]} none", "a b", "c"]
    assert place.run(script).returncode == 2


@pytest.mark.parametrize("arguments", [("--help",), ("-h",), ("help", "run"), ("run", "--help")])
@pytest.mark.parametrize("script", ["horde-bridge.sh", "horde-bridge-rocm.sh"])
def test_help_needs_no_set_up(place, script, arguments):
    with_runtime(place, check=1)
    shutil.copy2(ROOT / "worker" / "usage.txt", place.clone / "worker")
    done = place.run(script, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: horde-bridge" in done.stdout


def test_the_version_needs_no_set_up(place):
    with_runtime(place, check=1)
    shutil.copy2(ROOT / "worker" / "__init__.py", place.clone / "worker")
    done = place.run("horde-bridge.sh", "--version")
    assert (done.stdout.strip(), done.stderr) == (__version__, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_a_launcher_that_is_ended_ends_the_set_up(place, number):
    package = place.clone / "worker" / "engine" / "install"
    shutil.copytree(
        ROOT / "worker", place.clone / "worker", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
    )
    command = package / "command.py"
    text = command.read_text()
    waiting = """
            try:
                sys.stderr.write("working\\n"); sys.stderr.flush(); time.sleep(60)
            finally:
                sys.stderr.write("ended in order\\n"); sys.stderr.flush()
"""
    command.write_text(text.replace("            return _check(folder", f"{waiting}            return _check(folder"))
    place.python("python3.11")
    with subprocess.Popen(
        [place.clone / "horde-bridge.sh"], env={"PATH": str(place.system), "HOME": str(place.elsewhere)},
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as launcher:  # fmt: skip
        while "working" not in launcher.stderr.readline():
            assert launcher.poll() is None
        [installer] = psutil.Process(launcher.pid).children()
        launcher.send_signal(number)
        installer.wait(PATIENCE_S)
        assert not installer.is_running()
        # What can be passed on is, so that the set-up can clean up; it is killed only where nobody could tell it.
        assert ("ended in order" in launcher.stderr.read()) is (number is not signal.SIGKILL)
