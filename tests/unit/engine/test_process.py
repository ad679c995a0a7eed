"""How an engine is started and ended: its command line, its environment, its log, its death."""

import asyncio
import errno
import json
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import httpx
import psutil
import pytest
import yaml

import worker
from worker.after_fault import after_fault
from worker.demo.engine import FOLDER
from worker.demo.engine.script import Fault, FaultKind
from worker.engine.process import (
    LAUNCHER,
    PACK_FILE,
    TOKEN_VARIABLE,
    EngineProcess,
    EngineSettings,
    command_line,
    model_paths_yaml,
)
from worker.errors import EngineStartFailed
from worker.process import child
from worker.process.child import trim_log

Until = Callable[[Callable[[], object]], Awaitable[None]]

#: Stands in ComfyUI's place, tells its environment and working folder, and ends.
TELLTALE = """
import json, os, sys
print(json.dumps({"environment": dict(os.environ), "folder": os.getcwd(), "arguments": sys.argv}))
"""


@pytest.fixture
def quick_worker_python() -> Path:
    """Here the start of an engine is the subject."""
    return Path(sys.executable)


@pytest.fixture
def telltale(tmp_path: Path, settings: EngineSettings) -> EngineSettings:
    """Settings for a "ComfyUI" that writes how it was started into its log, and ends."""
    folder = tmp_path / "telltale"
    folder.mkdir()
    (folder / "main.py").write_text(TELLTALE, encoding="utf-8")
    return replace(settings, comfyui=folder)


async def told(settings: EngineSettings) -> dict[str, object]:
    with pytest.raises(EngineStartFailed):
        await EngineProcess(settings).start()
    content: dict[str, object] = json.loads(settings.log_file.read_text(encoding="utf-8").splitlines()[0])
    return content


def test_the_command_is_the_engines_python_the_launcher_and_comfyuis_arguments(tmp_path: Path) -> None:
    settings = EngineSettings(
        python=Path("/env/python"),
        comfyui=Path("/comfyui"),
        base_directory=tmp_path,
        log_file=tmp_path / "log",
        arguments=("--cpu", "--reserve-vram", "1.5"),
    )

    command = command_line(settings, port=1234, model_paths_file=Path("/models.yaml"))

    assert command[:3] == [str(Path("/env/python")), str(LAUNCHER), str(Path("/comfyui"))]
    assert " ".join(command).count("--listen 127.0.0.1 --port 1234") == 1
    assert command[command.index("--base-directory") + 1] == str(tmp_path)
    assert command[command.index("--extra-model-paths-config") + 1] == str(Path("/models.yaml"))
    assert {"--disable-auto-launch", "--disable-api-nodes", "--disable-metadata"} <= set(command)
    assert command[-3:] == ["--cpu", "--reserve-vram", "1.5"]


@pytest.mark.parametrize(
    ("with_node_pack", "own_custom_nodes", "expected"),
    [
        (
            True,
            False,
            ["--disable-all-custom-nodes", "--whitelist-custom-nodes", "websocket_image_save.py", "horde_nodes.py"],
        ),
        (False, False, ["--disable-all-custom-nodes", "--whitelist-custom-nodes", "websocket_image_save.py"]),
        (True, True, []),
        (False, True, []),
    ],
)
def test_only_the_wanted_custom_nodes_are_loaded(
    settings: EngineSettings, with_node_pack: bool, own_custom_nodes: bool, expected: list[str]
) -> None:
    settings = replace(settings, with_node_pack=with_node_pack, own_custom_nodes=own_custom_nodes, arguments=())

    command = command_line(settings, port=1, model_paths_file=Path("f"))

    assert command[command.index("f") + 1 :] == expected


def test_custom_nodes_come_from_comfyuis_own_folder(settings: EngineSettings) -> None:
    settings = replace(settings, model_paths={"horde": {"checkpoints": "/models/checkpoints"}})

    paths = yaml.safe_load(model_paths_yaml(settings))

    assert paths["horde"] == {"checkpoints": "/models/checkpoints"}
    assert paths["custom_nodes"]["custom_nodes"] == str(FOLDER / "custom_nodes")


# What Linux has for a byte that is no UTF-8 is the last of them.
@pytest.mark.parametrize(
    "folder", ["/models/a: b # c", "/modèles", "/\U0001f600 models", "C:\\m\\\U00020000", "/m\udcff"]
)
async def test_models_may_lie_in_a_folder_of_any_name(telltale: EngineSettings, folder: str) -> None:
    await told(replace(telltale, model_paths={"horde": {"checkpoints": folder}}))

    written = (telltale.base_directory / "extra_model_paths.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(written)["horde"]["checkpoints"] == folder


@pytest.mark.parametrize("with_node_pack", [True, False])
async def test_our_pack_is_among_an_engines_custom_nodes_only_where_it_is_wanted(
    settings: EngineSettings, with_node_pack: bool
) -> None:
    process = EngineProcess(replace(settings, with_node_pack=with_node_pack))
    await process.start()
    await process.stop()

    assert (settings.base_directory / "custom_nodes" / PACK_FILE).exists() == with_node_pack


async def test_an_engine_gets_the_variables_it_needs_and_no_others(
    telltale: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {
        "AIWORKER_API_KEY": "s1",
        "AIWORKER_CACHE_HOME": "s2",
        "CIVIT_API_TOKEN": "s3",
        "HF_TOKEN": "s4",
        "some_api_key": "s5",
        "AWS_SECRET_ACCESS_KEY": "s6",
        "DATABASE_PASSWORD": "s7",
        "PYTHONPATH": "/nowhere",
        "PYTHONHOME_OF_MINE": "s8",
        "VIRTUAL_ENV": "/venv",
        "AWS_PROFILE": "s9",
        "GH_PAT": "s10",
        "GPG_PASSPHRASE": "s11",
        "DATABASE_URL": "postgres://user:s12@host/",
        "NVIDIA_API_KEY": "s13",
        "HF_HUB_TOKEN": "s14",
        "SOME_PROGRAM_OF_THE_OWNER": "s15",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    needed = {
        "HSA_OVERRIDE_GFX_VERSION": "11.0.0",
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
        "LD_LIBRARY_PATH": "/usr/lib/wsl/lib",
        "https_proxy": "http://proxy:3128",
        "HF_HOME": "/cache",
        "OMP_NUM_THREADS": "4",
        "NUMBA_NUM_THREADS": "4",
        "LC_ALL": "C.UTF-8",
    }
    for name, value in needed.items():
        monkeypatch.setenv(name, value)

    environment = (await told(replace(telltale, environment={"CUDA_VISIBLE_DEVICES": "1"})))["environment"]

    assert isinstance(environment, dict)
    assert not secrets.keys() & environment.keys()
    assert not set(secrets.values()) & set(environment.values())
    assert needed.items() <= environment.items()
    assert environment["CUDA_VISIBLE_DEVICES"] == "1"
    assert (environment["PYTHONUNBUFFERED"], environment["PYTHONNOUSERSITE"]) == ("1", "1")


def test_the_node_pack_and_the_scripted_engine_look_for_the_token_where_the_worker_puts_it() -> None:
    for file in ("engine/nodes/engine_token.py", "demo/engine/main.py"):
        assert f'"{TOKEN_VARIABLE}"' in (Path(worker.__file__).parent / file).read_text("utf-8")


async def test_every_start_has_a_token_of_its_own_that_is_on_no_command_line(telltale: EngineSettings) -> None:
    first, second = await told(telltale), await told(replace(telltale, log_file=telltale.log_file.with_name("second")))

    tokens = [start["environment"][TOKEN_VARIABLE] for start in (first, second)]  # type: ignore[index]
    assert len(set(tokens)) == 2
    assert all(len(token) >= 32 for token in tokens)
    assert tokens[0] not in str(first["arguments"])


async def test_the_engine_runs_in_comfyuis_folder(telltale: EngineSettings) -> None:
    start = await told(telltale)

    assert Path(str(start["folder"])) == telltale.comfyui.resolve()
    assert start["arguments"][0] == str(telltale.comfyui / "main.py")  # type: ignore[index]


async def test_a_ready_engine_answers_its_token_and_nobody_else(engine: EngineProcess) -> None:
    async with httpx.AsyncClient(base_url=engine.url, trust_env=False) as http:
        with_token = await http.get("/system_stats", headers={"Authorization": f"Bearer {engine.token}"})
        without = await http.get("/system_stats")

    assert engine.alive
    assert (with_token.status_code, without.status_code) == (200, 401)


async def test_a_failed_start_carries_the_end_of_the_log_and_leaves_no_process(
    settings: EngineSettings, play: Callable[..., None]
) -> None:
    play(faults=(Fault(FaultKind.START_FAILURE),))
    process = EngineProcess(settings)

    with pytest.raises(EngineStartFailed, match=r"(?s)ended with code 1\.\n.*Found no NVIDIA driver") as caught:
        await process.start()

    assert after_fault(caught.value).restarts_engine
    assert not process.alive
    assert not psutil.pid_exists(process.pid)


async def test_a_start_that_fails_for_a_known_reason_says_what_to_do(
    settings: EngineSettings, play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Libraries of CUDA or conda in LD_LIBRARY_PATH, found before torch's own."""
    play(faults=(Fault(FaultKind.START_FAILURE),))
    monkeypatch.setattr(
        EngineProcess, "log_tail", lambda _: "ImportError: libnvshmem_host.so.3: undefined symbol: _ZTV"
    )
    with pytest.raises(EngineStartFailed) as caught:
        await EngineProcess(settings).start()
    assert "unset LD_LIBRARY_PATH" in caught.value.remedy


async def test_a_death_while_starting_is_noticed_long_before_the_time_is_up(
    settings: EngineSettings, play: Callable[..., None], until: Until
) -> None:
    play(start_seconds=3600)
    process = EngineProcess(replace(settings, start_timeout_s=3600))
    start = asyncio.ensure_future(process.start())
    await until(lambda: process.pid)

    psutil.Process(process.pid).kill()

    with pytest.raises(EngineStartFailed, match=r"did not start. The engine was killed by SIGKILL"):
        await start


async def test_an_engine_that_does_not_answer_in_time_is_ended(
    settings: EngineSettings, play: Callable[..., None]
) -> None:
    play(start_seconds=3600)
    process = EngineProcess(replace(settings, start_timeout_s=0.3))

    with pytest.raises(EngineStartFailed, match="did not answer within 0 s"):
        await process.start()

    assert not psutil.pid_exists(process.pid)


async def test_a_start_that_is_given_up_leaves_no_process(
    settings: EngineSettings, play: Callable[..., None], until: Until
) -> None:
    play(start_seconds=3600)
    process = EngineProcess(settings)
    start = asyncio.ensure_future(process.start())
    await until(lambda: process.pid)

    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start

    assert not psutil.pid_exists(process.pid)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"comfyui": Path("/no/such/folder")}, "There is no ComfyUI in"),
        ({"python": Path("/no/such/python")}, "can't be started"),
    ],
)
async def test_wrong_paths_fail_the_start_with_a_remedy(
    settings: EngineSettings, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(EngineStartFailed, match=message) as caught:
        await EngineProcess(replace(settings, **wrong)).start()

    assert "update-runtime" in caught.value.remedy


async def test_stopping_twice_or_before_the_start_is_harmless(settings: EngineSettings) -> None:
    await EngineProcess(settings).stop()
    process = EngineProcess(settings)
    await process.start()

    await process.stop()
    await process.stop()

    assert not process.alive
    assert await process.wait() != 0


@pytest.mark.skipif(sys.platform == "win32", reason="the script is for a shell")
async def test_the_memory_of_an_engine_behind_a_launcher_is_the_engines(
    settings: EngineSettings, tmp_path: Path
) -> None:
    launcher = tmp_path / "python"
    launcher.write_text(f'#!/bin/sh\n"{settings.python}" "$@"\nexit $?\n', encoding="utf-8")
    launcher.chmod(0o755)
    process = EngineProcess(replace(settings, python=launcher))
    await process.start()
    try:
        [interpreter] = psutil.Process(process.pid).children()
        assert process.memory_bytes() > interpreter.memory_info().rss / 2
        interpreter.kill()
        await process.wait()
        assert process.memory_bytes() == 0
    finally:
        await process.stop(timeout_s=0)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to ignore")
async def test_an_engine_that_ignores_the_polite_request_is_killed(
    settings: EngineSettings, play: Callable[..., None]
) -> None:
    play(ignore_sigterm=True)
    process = EngineProcess(settings)
    await process.start()

    await process.stop(timeout_s=0.2)

    assert await process.wait() == -9


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to ignore")
async def test_a_stop_that_is_given_up_still_kills(
    settings: EngineSettings, play: Callable[..., None], until: Until
) -> None:
    play(ignore_sigterm=True)
    process = EngineProcess(settings)
    await process.start()
    stop = asyncio.ensure_future(process.stop(timeout_s=3600))
    await asyncio.sleep(0)

    stop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stop

    await until(lambda: not process.alive)


async def test_a_log_that_has_grown_is_set_aside_and_begins_anew(
    settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "LOG_LIMIT_BYTES", 10)
    log = settings.log_file
    log.parent.mkdir(parents=True)
    process = EngineProcess(settings)
    await trim_log(process.settings.log_file)
    log.write_bytes(b"0123456789")
    await trim_log(process.settings.log_file)
    assert log.read_bytes() == b"0123456789"

    with log.open("ab") as still_open:
        still_open.write(b"x")
        still_open.flush()
        await trim_log(process.settings.log_file)
        still_open.write(b"new")

    assert log.read_bytes() == b"new"
    assert log.with_name("engine.log.1").read_bytes() == b"123456789x"


async def test_a_flood_of_lines_is_copied_beside_the_event_loop(
    settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied_by: list[int] = []
    monkeypatch.setattr(child, "LOG_LIMIT_BYTES", 1)
    monkeypatch.setattr(child.shutil, "copyfileobj", lambda *_: copied_by.append(threading.get_ident()))
    settings.log_file.parent.mkdir(parents=True)
    settings.log_file.write_bytes(b"0123456789")

    await trim_log(settings.log_file)

    assert copied_by != [threading.get_ident()]
    assert len(copied_by) == 1


def no_room(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_log_that_has_grown_is_emptied_even_when_the_disk_has_no_room_for_the_old_one(
    settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "LOG_LIMIT_BYTES", 1)
    monkeypatch.setattr(child.shutil, "copyfileobj", no_room)
    settings.log_file.parent.mkdir(parents=True)
    settings.log_file.write_bytes(b"0123456789")

    await trim_log(settings.log_file)

    assert settings.log_file.read_bytes() == b""


async def test_a_full_disk_fails_the_start_with_a_remedy(
    settings: EngineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "write_text", no_room)
    process = EngineProcess(settings)

    with pytest.raises(EngineStartFailed, match="No space left") as caught:
        await process.start()

    assert "Make room" in caught.value.remedy
    assert not process.alive


def test_the_tail_of_a_log_is_its_last_lines_whatever_bytes_are_in_it(settings: EngineSettings) -> None:
    process = EngineProcess(settings)
    assert process.log_tail() == ""
    settings.log_file.parent.mkdir(parents=True)
    settings.log_file.write_bytes(b"\xff\xfe" * 9000 + b"".join(b"\nline %d" % number for number in range(40)))

    assert process.log_tail().splitlines() == [f"line {number}" for number in range(28, 40)]


async def launched(folder: Path, code: str, output: int | BinaryIO) -> tuple[int, bytes]:
    """Run some code as ComfyUI's main.py; the exit code and what it printed."""
    (folder / "main.py").write_text(code, encoding="utf-8")
    engine = await asyncio.create_subprocess_exec(
        *(sys.executable, str(LAUNCHER), str(folder)),
        stdin=asyncio.subprocess.PIPE,
        stdout=output,
        stderr=asyncio.subprocess.STDOUT,
    )
    said = await engine.stdout.read() if engine.stdout else b""
    return await engine.wait(), said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
async def test_an_engine_whose_log_has_no_room_works_on(tmp_path: Path) -> None:
    code = "import pathlib, sys; print('x' * 100_000); sys.stderr.write('y'); pathlib.Path('done').touch()"
    with Path("/dev/full").open("wb") as full:  # noqa: ASYNC230 - no file that anybody waits for
        assert await launched(tmp_path, code, full) == (0, b"")
    assert (tmp_path / "done").exists()


async def test_what_is_put_over_the_engines_output_keeps_working(tmp_path: Path) -> None:
    # As ComfyUI's own log does.
    code = "import gc, io, sys; sys.stdout = io.TextIOWrapper(sys.stdout.buffer); gc.collect(); print('x', flush=True)"
    assert await launched(tmp_path, code, asyncio.subprocess.PIPE) == (0, b"x\n")


async def test_what_an_engine_prints_arrives_before_its_sudden_end(tmp_path: Path) -> None:
    code = "import os, sys; print('grüße'); sys.stderr.write('step 1'); sys.stderr.flush(); os._exit(3)"
    assert await launched(tmp_path, code, asyncio.subprocess.PIPE) == (3, "grüße\nstep 1".encode())


def test_the_launcher_needs_nothing_but_the_standard_library() -> None:
    imports = {
        line.split()[1] for line in LAUNCHER.read_text(encoding="utf-8").splitlines() if line.startswith("import ")
    }

    assert imports <= sys.stdlib_module_names
    assert "os" in imports
    assert os.sep not in "".join(imports)


@pytest.mark.parametrize(
    ("code", "how"),
    [
        (1, "ended with code 1"),
        (-9, "was killed by SIGKILL"),
        (-11, "was killed by SIGSEGV"),
        (-200, "was killed by signal 200"),
        (0xC0000005, "ended with code 0xC0000005"),
        (None, "ended"),
    ],
)
def test_how_a_process_ended_is_said_in_the_systems_words(code: int | None, how: str) -> None:
    assert child.describe_exit(code)[0] == how
