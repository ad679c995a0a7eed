"""Older and newer ComfyUI: found out by asking, and served by one worker."""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from worker.demo.engine import FOLDER
from worker.demo.engine.dialect import NEWER, OLDER
from worker.demo.engine.settings import scripted_settings
from worker.engine import command_flags
from worker.engine.client import EngineClient
from worker.engine.command_flags import flags_of, named_in, taken
from worker.engine.process import EngineProcess, EngineSettings
from worker.errors import EngineStartFailed, GraphRejected
from worker.process.child import log_tail

Build = Callable[..., dict[str, Any]]
Play = Callable[..., None]

DIALECTS = pytest.mark.parametrize("dialect", [OLDER, NEWER])
#: As argparse prints it: in two columns, a long name on a line of its own.
HELP = """usage: main.py [-h] [--listen [IP]] [--cache-lru CACHE_LRU]

options:
  -h, --help            show this help message and exit
  --listen [IP]         Where to listen, as --bind did in earlier versions.
  --cache-lru CACHE_LRU
                        Use LRU caching; --cache-ram is
                        --cache-something-else now.
  -q, --quiet, --silent  Say less.
"""


def test_a_help_names_the_flags_that_it_defines_and_not_those_it_mentions() -> None:
    assert named_in(HELP) == {"--help", "--listen", "--cache-lru", "--quiet", "--silent"}


def test_flags_that_an_engine_does_not_have_go_with_their_values() -> None:
    wanted = ["--port", "1", "--cache-lru", "10", "--whitelist-custom-nodes", "a", "b", "--cpu"]

    assert taken(wanted, {"--port", "--cpu"}) == ["--port", "1", "--cpu"]
    assert taken(wanted, None) == wanted


async def test_an_engine_that_does_not_tell_its_flags_is_given_all(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("raise SystemExit('no')", encoding="utf-8")

    assert await flags_of(Path(sys.executable), tmp_path) is None
    assert await flags_of(tmp_path / "no-python", tmp_path) is None


async def test_a_help_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_flags, "HELP_MAX_BYTES", 10_000)
    (tmp_path / "main.py").write_text("while True: print('  --flag')", encoding="utf-8")

    assert await flags_of(Path(sys.executable), tmp_path) == {"--flag"}


async def test_the_help_is_asked_for_again_when_the_tree_has_changed(tmp_path: Path) -> None:
    main = tmp_path / "main.py"
    main.write_text("print('  --first')", encoding="utf-8")
    first = await flags_of(Path(sys.executable), tmp_path)
    main.write_text("print('  --second, --third')", encoding="utf-8")

    assert (first, await flags_of(Path(sys.executable), tmp_path)) == ({"--first"}, {"--second", "--third"})


async def test_many_engines_of_a_tree_ask_once(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("open('asked', 'a').write('x')\nprint('  --flag')", encoding="utf-8")

    await asyncio.gather(*(flags_of(Path(sys.executable), tmp_path) for _ in range(8)))

    assert (tmp_path / "asked").read_text(encoding="utf-8") == "x"


@DIALECTS
async def test_an_engine_of_either_dialect_renders(
    tmp_path: Path, dialect: str, plain_graph: Build, quick_worker_python: Path
) -> None:
    settings = replace(scripted_settings(tmp_path / "engine", dialect=dialect), python=quick_worker_python)
    settings = replace(settings, arguments=(*settings.arguments, "--disable-dynamic-vram", "--reserve-vram", "1.0"))

    async with Opened(EngineProcess(settings)) as client:
        assert (await client.system_stats())["system"]["comfyui_version"] == dialect
        assert len(await client.render(plain_graph(), ("out",))) == 1


@DIALECTS
async def test_a_running_and_a_waiting_job_are_cancelled_on_either(
    settings: EngineSettings, dialect: str, sampler_graph: Build, play: Play
) -> None:
    play(seconds=3600.0)
    settings = replace(settings, arguments=(*settings.arguments, "--dialect", dialect))
    async with Opened(EngineProcess(settings)) as client:
        begun = asyncio.Event()
        running = asyncio.ensure_future(client.render(sampler_graph(), ("out",), on_progress=lambda _: begun.set()))
        await begun.wait()
        waiting = asyncio.ensure_future(client.render(sampler_graph(seed=2), ("out",)))
        while len(client._prompts) < 2:
            await asyncio.sleep(0.01)
        waiting.cancel()
        running.cancel()
        await asyncio.wait([running, waiting])
        play(seconds=0.0)

        assert len(await client.render(sampler_graph(seed=3), ("out",))) == 1
    log = settings.log_file.read_text(encoding="utf-8")
    assert ("Cancelling running prompt" in log) is (dialect == NEWER)


@DIALECTS
async def test_a_graph_with_an_unknown_node_class_is_refused_by_either(
    tmp_path: Path, dialect: str, plain_graph: Build, quick_worker_python: Path
) -> None:
    graph = plain_graph()
    graph["out"] = {**graph["out"], "class_type": "OfAnotherWorld"}
    settings = replace(scripted_settings(tmp_path / "engine", dialect=dialect), python=quick_worker_python)
    async with Opened(EngineProcess(settings)) as client:
        with pytest.raises(GraphRejected, match=r"no node class OfAnotherWorld \(out\)"):
            await client.render(graph, ("out",))


async def test_a_flag_of_another_version_ends_the_scripted_engine_as_it_ends_comfyui(quick_worker_python: Path) -> None:
    child = await asyncio.create_subprocess_exec(
        quick_worker_python, str(FOLDER / "main.py"), "--disable-dynamic-vram", stderr=asyncio.subprocess.PIPE
    )

    _, said = await child.communicate()

    assert child.returncode == 2
    assert b"--disable-dynamic-vram" in said


async def test_a_newer_engine_does_not_start_on_the_database_of_its_folder(quick_worker_python: Path) -> None:
    child = await asyncio.create_subprocess_exec(
        quick_worker_python, str(FOLDER / "main.py"), "--dialect", NEWER, stderr=asyncio.subprocess.PIPE
    )

    _, said = await child.communicate()

    assert child.returncode == 1
    assert b"database" in said


async def test_the_end_of_a_log_is_quoted_without_its_colours(settings: EngineSettings, play: Play) -> None:
    play(faults=[{"kind": "start_failure"}])
    settings = replace(settings, arguments=(*settings.arguments, "--dialect", NEWER))

    with pytest.raises(EngineStartFailed) as failed:
        await EngineProcess(settings).start()

    assert "[ERROR] RuntimeError: Found no NVIDIA driver" in failed.value.message
    assert "\x1b" not in failed.value.message
    assert "\x1b" in settings.log_file.read_text(encoding="utf-8")
    assert "\x1b" not in log_tail(settings.log_file)


class Opened:
    """A client of an engine that runs while the block lasts."""

    def __init__(self, process: EngineProcess) -> None:
        self._process = process

    async def __aenter__(self) -> EngineClient:
        await self._process.start()
        self._client = EngineClient(self._process.url, self._process.token)
        await self._client.open()
        return self._client

    async def __aexit__(self, *_: object) -> None:
        self._client.expect_end()
        await self._client.close()
        await self._process.stop(timeout_s=0)
