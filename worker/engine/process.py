"""One ComfyUI process: start, readiness, end.

The engine listens on a free loopback port with its own token and base directory, and writes to a bounded log file. It
ends with the worker (see launch.py).
"""

import asyncio
import random
import secrets
import socket
import subprocess
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import yaml
from loguru import logger

from worker.engine.child_log import log_variables
from worker.engine.command_flags import LAUNCHER, flags_of, taken
from worker.engine.install.remedies import remedy_of
from worker.engine.loopback import loopback_client
from worker.engine.nan_log import NAN_WARNINGS
from worker.errors import EngineDied, EngineNotRunnable, EngineStartFailed
from worker.process.child import (
    STOP_TIMEOUT_S,
    describe_exit,
    end_child,
    log_tail,
    open_log,
    start_child,
)
from worker.process.orphans import note_child

#: Longest time from launch to the first answer. A cold start from a slow disk with a busy CPU takes a minute.
START_TIMEOUT_S = 600.0

#: Below the ports of outgoing connections (Linux from 32768, Windows and macOS from 49152), one of which could take
#: the port before the engine listens on it.
PORTS = range(20_000, 32_768)
PORTS_TRIED = 20

NODE_PACK = Path(__file__).with_name("nodes")
#: The file among ComfyUI's custom nodes that imports the node pack from its own folder.
PACK_FILE = "horde_nodes.py"
PACK_LOADER = """\
import importlib.util, sys

spec = importlib.util.spec_from_file_location("horde_nodes_pack", {init!r}, submodule_search_locations=[{folder!r}])
pack = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pack)
NODE_CLASS_MAPPINGS = pack.NODE_CLASS_MAPPINGS
NODE_DISPLAY_NAME_MAPPINGS = pack.NODE_DISPLAY_NAME_MAPPINGS
"""
#: As the node pack names it, which can't import the worker: worker/engine/nodes/engine_token.py.
TOKEN_VARIABLE = "HORDE_ENGINE_TOKEN"  # noqa: S105 - the name of the variable, not a secret


@dataclass(frozen=True)
class EngineSettings:
    """Settings of one engine."""

    python: Path
    comfyui: Path
    #: the engine's own working folder; created if missing
    base_directory: Path
    log_file: Path
    #: content for --extra-model-paths-config: where the models are (ComfyUI's own format)
    model_paths: dict[str, dict[str, str]] = field(default_factory=dict)
    #: device, memory and cache flags of ComfyUI
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    #: False: a stock engine, without the node pack
    with_node_pack: bool = True
    #: also load the custom nodes of the ComfyUI folder (an owner's own installation)
    own_custom_nodes: bool = False
    start_timeout_s: float = START_TIMEOUT_S
    #: an idle engine that holds more memory than this is replaced; 0: never
    memory_limit_bytes: int = 0
    #: name of its device; engines with the same name share it
    device: str = "cpu"
    #: models kept in memory
    models_kept: int = 1
    #: replace the engine at each change of model: a last resort against leaks
    fresh_for_each_model: bool = False
    #: largest image for this device, width times height; 0: no limit of its own
    max_pixels: int = 0
    #: models for this device; empty: all
    models: frozenset[str] = frozenset()

    def serves(self, model: str) -> bool:
        """Whether the owner allows this model here."""
        return not self.models or model in self.models

    def takes(self, model: str, pixels: int) -> bool:
        """Whether the owner allows a job of this model and size here."""
        return self.serves(model) and pixels <= (self.max_pixels or pixels)


def free_port() -> int:
    """A loopback port that nobody listens on at this moment. Raises EngineStartFailed when there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
        try:
            # Sends nothing; fails where no route leads there.
            route.connect(("127.0.0.1", 9))
        except OSError as error:
            raise EngineNotRunnable(
                f"127.0.0.1, by which the worker speaks to its engines, can't be reached: {error.strerror}.",
                remedy="Bring up the loopback interface: ip link set lo up.",
            ) from error
    # Port 0 lets the system choose.
    for port in (*random.sample(PORTS, min(PORTS_TRIED, len(PORTS))), 0):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise EngineStartFailed("The system has no free port.", remedy="See what holds so many connections.")


def command_line(
    settings: EngineSettings, *, port: int, model_paths_file: Path, flags: Collection[str] | None = None
) -> list[str]:
    """The command that runs ComfyUI by the launcher. `flags`: those it has, None where that is not known."""
    wanted = ["--listen", "127.0.0.1", "--port", str(port), "--disable-auto-launch", "--disable-api-nodes"]
    wanted += ["--disable-metadata", "--base-directory", str(settings.base_directory)]
    # Two engines that start at once would race for the database of the ComfyUI folder, which may be the owner's own.
    wanted += ["--database-url", "sqlite:///:memory:"]
    # An empty page: the packages of ComfyUI's own one (some 40 MB) need not be installed.
    wanted += ["--front-end-root", str(settings.base_directory / "web")]
    wanted += ["--extra-model-paths-config", str(model_paths_file)]
    if not settings.own_custom_nodes:
        packs = [PACK_FILE] if settings.with_node_pack else []
        wanted += ["--disable-all-custom-nodes", "--whitelist-custom-nodes", "websocket_image_save.py", *packs]
    return [str(settings.python), str(LAUNCHER), str(settings.comfyui), *taken([*wanted, *settings.arguments], flags)]


def model_paths_yaml(settings: EngineSettings) -> str:
    """The extra model paths, and ComfyUI's own folder of custom nodes."""
    stock = {"custom_nodes": str(settings.comfyui / "custom_nodes")}
    return yaml.safe_dump({**settings.model_paths, "custom_nodes": stock}, sort_keys=False)


def _prepare_folder(settings: EngineSettings) -> Path:
    """Create the engine's folder with what ComfyUI expects in it. Returns the file with the model paths."""
    custom_nodes = settings.base_directory / "custom_nodes"
    custom_nodes.mkdir(parents=True, exist_ok=True)
    (settings.base_directory / "web").mkdir(exist_ok=True)
    pack = custom_nodes / PACK_FILE
    if settings.with_node_pack:
        loader = PACK_LOADER.format(init=str(NODE_PACK / "__init__.py"), folder=str(NODE_PACK))
        pack.write_text(loader, encoding="utf-8")
    else:
        pack.unlink(missing_ok=True)
    model_paths_file = settings.base_directory / "extra_model_paths.yaml"
    model_paths_file.write_text(model_paths_yaml(settings), encoding="utf-8")
    return model_paths_file


def _family(pid: int) -> tuple[psutil.Process, ...]:
    """A process and its children: the engine may be one of them, behind an owner's script or a launcher such as the
    Python of a virtual environment on Windows.
    """
    try:
        first = psutil.Process(pid)
        return (first, *first.children(recursive=True))
    except (psutil.Error, OSError):
        return ()


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except (psutil.Error, OSError):  # such as no free file handle, which must not cost the job that has just been made
        return 0


class EngineProcess:
    """One running ComfyUI. `start` once, `stop` once; a restart is a new object."""

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.token = secrets.token_urlsafe(32)
        self.url = ""
        self._child: asyncio.subprocess.Process | None = None
        #: the processes of the ready engine
        self._members: tuple[psutil.Process, ...] = ()

    @property
    def pid(self) -> int:
        return self._child.pid if self._child else 0

    @property
    def alive(self) -> bool:
        return self._child is not None and self._child.returncode is None

    async def start(self) -> None:
        """Launch and wait until the engine answers. Raises EngineStartFailed with the end of its log."""
        started = time.monotonic()
        await self._spawn()
        try:
            await self._wait_until_ready(started + self.settings.start_timeout_s)
        except BaseException:
            await self.stop(timeout_s=0)
            raise
        self._members = _family(self.pid)
        seconds = time.monotonic() - started
        logger.bind(action="engine_ready", pid=self.pid, seconds=seconds).info(
            "Engine ready after {:.1f} s (pid {}, {})", seconds, self.pid, self.url
        )

    async def _spawn(self) -> None:
        settings = self.settings
        if not (settings.comfyui / "main.py").is_file():
            raise EngineNotRunnable(
                f"There is no ComfyUI in {settings.comfyui}.", remedy="Run update-runtime, or mend comfyui_path."
            )
        flags = await flags_of(settings.python, settings.comfyui, settings.environment)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        ours = {**NAN_WARNINGS, TOKEN_VARIABLE: self.token, **log_variables(settings.log_file)}
        try:
            model_paths_file = _prepare_folder(settings)
            log = await open_log(settings.log_file)
        except OSError as error:
            raise EngineNotRunnable(
                f"The engine's folder or log can't be written: {error}.",
                remedy=f"Make room and see to the rights of {settings.base_directory} and {settings.log_file}.",
            ) from error
        with log:
            try:
                self._child = await start_child(
                    command_line(settings, port=port, model_paths_file=model_paths_file, flags=flags),
                    {**ours, **settings.environment},
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            except OSError as error:
                raise EngineNotRunnable(
                    f"The engine's Python {settings.python} can't be started: {error}.", remedy="Run update-runtime."
                ) from error

        note_child(settings.base_directory, self._child.pid)

    async def _wait_until_ready(self, deadline: float) -> None:
        """Wait for the first answer; give up at once when the process ends, or at the deadline."""
        async with loopback_client(self.url, token=self.token, timeout_s=5.0) as http:
            told_at = time.monotonic()
            while True:
                if not self.alive:
                    death = self.death()
                    remedy = remedy_of(self.log_tail().splitlines()) or death.remedy
                    raise EngineStartFailed(f"It did not start. {death.message}", remedy=remedy)
                try:
                    response = await http.get("/system_stats")
                except httpx.TransportError:
                    pass
                else:
                    if response.status_code == httpx.codes.OK:
                        return
                now = time.monotonic()
                if now > deadline:
                    raise EngineStartFailed(
                        f"The engine did not answer within {self.settings.start_timeout_s:.0f} s.\n{self.log_tail()}"
                    )
                if now - told_at > 15:  # noqa: PLR2004 - seconds between signs of life
                    told_at = now
                    logger.info("The engine is still starting (log: {})", self.settings.log_file)
                await asyncio.sleep(0.1)

    def memory_bytes(self) -> int:
        """Resident memory of the engine; 0 before it is ready, and when it has ended."""
        return sum(map(_resident_bytes, self._members)) if self.alive else 0

    async def wait(self) -> int:
        """Wait for the process to end; its exit code, negative for a signal."""
        assert self._child is not None
        return await self._child.wait()

    def death(self) -> EngineDied:
        """How the process ended, and the last lines of its log. Only after its end."""
        code = self._child.returncode if self._child else None
        how, remedy = describe_exit(code)
        return EngineDied(f"The engine {how}.\n{self.log_tail()}".strip(), remedy=remedy)

    async def stop(self, *, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End the process: politely first, by force after `timeout_s`. Harmless when it has ended."""
        if self._child is not None:
            await end_child(self._child, timeout_s=timeout_s, name="engine")

    def log_tail(self) -> str:
        """The last lines the engine wrote."""
        return log_tail(self.settings.log_file)
