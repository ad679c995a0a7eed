"""The engines beside one another: what stands there, which is in use, and every change of that.

    versions/
      state.json       which is in use, what is known of each (state.py)
      NAME/            one engine: whole, or not there
        comfyui/         its tree
        environment/     its Python
        origin.json      where it came from; written last
      NAME.partial/    one that is being made; NAME.gone/ one that is being removed

Each change is one rename or one replaced file, so that a process killed at any moment leaves the engine in use as it
was. One lock is held while folders are made or removed, which takes minutes; another for the moment in which the state
file changes, so that a worker can go back from an engine that fails at any time.
"""

import contextlib
import dataclasses
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from worker.engine.install.layout import Runtime, environment_python
from worker.engine.versions.state import INSTALLED, STATE_FILE, EngineState
from worker.engine.versions.tree import missing_in, version_of
from worker.errors import EngineChangeRefused
from worker.process.file_lock import lock, open_to_lock
from worker.untrusted.archives import is_file_name
from worker.untrusted.json_reader import read_json_file
from worker.whole_file import move_whole, write_whole

FOLDER = "versions"
FOLDERS_LOCK, STATE_LOCK = ".folders.lock", ".lock"
ORIGIN_FILE = "origin.json"
PARTIAL, GONE = ".partial", ".gone"
#: A change of the state takes milliseconds; making an engine takes minutes, which nobody is to wait for unawares.
LOCK_WAIT_S = 2.0
NAME = re.compile(r"[A-Za-z0-9][\w.+-]{0,39}")


@dataclass(frozen=True)
class Engine:
    """A ComfyUI and the Python that runs it."""

    name: str
    comfyui: Path
    python: Path
    #: where it came from, for people
    origin: str = ""
    #: seconds of the epoch; 0: unknown
    added: float = 0.0

    @property
    def version(self) -> str:
        """ComfyUI's version; empty where its tree does not tell."""
        return version_of(self.comfyui)

    @property
    def stands(self) -> bool:
        """Whether it could be started."""
        return (self.comfyui / "main.py").is_file() and self.python.exists()


class Shelf:
    """All engines of a runtime folder."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.folder = runtime.folder / FOLDER
        #: an engine and since when it is in use → the one that this process takes in its place, where that can't be
        #: written down
        self.instead: dict[tuple[str, float], str] = {}

    @property
    def state_file(self) -> Path:
        return self.folder / STATE_FILE

    @property
    def state(self) -> EngineState:
        return EngineState.load(self.folder)

    @property
    def installed(self) -> Engine:
        return Engine(INSTALLED, self._runtime.comfyui, self._runtime.engine_python, "update-runtime")

    def engines(self) -> list[Engine]:
        """The installed one, then the others by age."""
        names = [path.name for path in self.folder.iterdir() if path.is_dir()] if self.folder.is_dir() else []
        found = [engine for name in names if (engine := self.find(name)) and name != INSTALLED]
        return [self.installed, *sorted(found, key=lambda engine: (engine.added, engine.name))]

    def find(self, name: str) -> Engine | None:
        """The engine of this name; None where there is none, or none that is whole."""
        if name == INSTALLED:
            return self.installed
        if not NAME.fullmatch(name) or name.endswith((PARTIAL, GONE)):
            return None
        folder = self.folder / name
        try:
            origin = read_json_file(folder / ORIGIN_FILE)
            where, added, python = str(origin["origin"]), float(origin["added"]), str(origin["python"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        runs_it = Path(python) if python else environment_python(folder / "environment")
        engine = Engine(name, folder / "comfyui", runs_it, where, added)
        return engine if engine.stands else None

    def need(self, name: str) -> Engine:
        """The engine of this name. Raises EngineChangeRefused."""
        engine = self.find(name)
        if engine is None or not engine.stands:
            known = ", ".join(each.name for each in self.engines())
            raise EngineChangeRefused(f"There is no engine {name!r}.", remedy=f"There are: {known}.")
        return engine

    @property
    def in_use(self) -> Engine:
        """The engine that starts next: the current one if it stands, else the installed one."""
        state = self.state
        return self.find(self.instead.get((state.current, state.since), state.current)) or self.installed

    # Changes

    def add(self, name: str, origin: str, make: Callable[[Path], None], *, python: Path | None = None) -> Engine:
        """Put an engine on the shelf; `make` fills the folder it is given with `comfyui` and `environment`.

        `python`: one of the owner's, in place of an environment. Nothing else is touched, and what was begun and not
        finished is cleared away. Raises EngineChangeRefused, and what `make` raises.
        """
        if not is_name(name):
            raise EngineChangeRefused(
                f"An engine can't be called {name!r}.",
                remedy="Give it another --name: letters, digits, full stops and hyphens, 40 of them at most.",
            )
        with self._locked(FOLDERS_LOCK):
            self._clear_away()
            if (self.folder / name).exists():
                raise EngineChangeRefused(
                    f"There is an engine {name!r} already.",
                    remedy=f"Give this one another --name, or first `horde-bridge engine remove {name}`.",
                )
            partial = self.folder / f"{name}{PARTIAL}"
            partial.mkdir()
            try:
                make(partial)
                if missing := missing_in(partial / "comfyui"):
                    raise EngineChangeRefused(f"What came is no ComfyUI: it has no {', '.join(missing)}.")
                told = {"origin": origin, "added": time.time(), "python": str(python or "")}
                write_whole(partial / ORIGIN_FILE, json.dumps(told))
                with self._locked(STATE_LOCK):
                    self._forget(name)
                    partial.rename(self.folder / name)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
        return self.need(name)

    def runtime_for(self, *, own: bool) -> Runtime:
        """The runtime with the engine in use in the place of the installed one, unless the owner names his `own`."""
        if own:
            return self._runtime
        engine = self.in_use
        return dataclasses.replace(self._runtime, comfyui=engine.comfyui, engine_python=engine.python)

    def use(self, name: str, *, reason: str = "") -> EngineState:
        """Have this engine started from now on; the one before is kept. `reason`: why, if not for the owner's word."""

        def using(state: EngineState) -> EngineState:
            self.need(name)
            return state if state.current == name else state.using(name, now=time.time(), reason=reason)

        return self.change(using)

    def take_instead(self, name: str) -> None:
        """Have this process start `name` in place of the current engine: the disk is full, or can only be read."""
        state = self.state
        self.instead[state.current, state.since] = name

    def change(self, change: Callable[[EngineState], EngineState]) -> EngineState:
        """Change the state file."""
        with self._locked(STATE_LOCK):
            before = self.state
            state = change(before)
            if state != before:
                state.save(self.folder)
            return state

    def remove(self, name: str) -> int:
        """Take an engine off the shelf, and clear away what killed commands left; the bytes that are free again.

        Raises EngineChangeRefused for the one in use, or one that still runs. Works on a full disk.
        """
        if name == INSTALLED:
            raise EngineChangeRefused("The installed engine is not removed: the worker falls back to it.")
        with self._locked(FOLDERS_LOCK), self._locked(STATE_LOCK):
            self._clear_away()
            engine = self.need(name)
            if self.state.current == name:
                raise EngineChangeRefused(
                    f"{name} is in use.", remedy="First `horde-bridge engine rollback`, or `use` another one."
                )
            if pids := running(engine):
                raise EngineChangeRefused(
                    f"{name} still runs (process {', '.join(map(str, pids))}).",
                    remedy="A worker changes its engines when they are idle: wait a moment, or stop it.",
                )
            size = disk_bytes(self.folder / name)
            # In this order: an engine that is half removed is not to be found any more, and to write needs room.
            move_whole(self.folder / name, self.folder / f"{name}{GONE}")
            shutil.rmtree(self.folder / f"{name}{GONE}", ignore_errors=True)
            self.state.without(name).save(self.folder)
            return size

    def _forget(self, name: str) -> None:
        """Forget an engine that was called so and is gone without `remove`: nothing of it holds for another one."""
        state = self.state
        if state.current == name:
            state = state.using(INSTALLED, now=time.time(), reason=f"{name} was gone")
        if (state := state.without(name)) != self.state:
            state.save(self.folder)

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Hold a lock. Raises EngineChangeRefused while another process does."""
        descriptor = open_to_lock(self.folder / name)
        try:
            deadline = time.monotonic() + LOCK_WAIT_S
            while not lock(descriptor):
                if time.monotonic() > deadline:
                    raise EngineChangeRefused(
                        "Another command is at work on the engines.", remedy="Wait until it has ended, then try again."
                    )
                time.sleep(0.1)
            yield
        finally:
            os.close(descriptor)

    def _clear_away(self) -> None:
        """Remove what a killed process left. Only under the lock: whoever made it is gone."""
        for path in self.folder.iterdir():
            if path.name.endswith((PARTIAL, GONE)):
                shutil.rmtree(path, ignore_errors=True)  # a file in use on Windows: the next command tries again


def is_name(name: str) -> bool:
    """Whether an engine may be called so: by no name of the shelf's own, nor one that some system reads as another."""
    folded = name.casefold()
    taken = folded in {INSTALLED, STATE_FILE} or folded.endswith((PARTIAL, GONE))
    return bool(NAME.fullmatch(name)) and not taken and is_file_name(name)


def running(engine: Engine) -> list[int]:
    """Ids of the processes that run an engine's tree."""
    tree = str(engine.comfyui)
    return [each.pid for each in psutil.process_iter(["cmdline"]) if tree in (each.info["cmdline"] or ())]


def disk_bytes(folder: Path) -> int:
    """What removing a folder would free: files that are shared with others by hard links do not count."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                stat = os.lstat(os.path.join(root, name))  # noqa: PTH118 - a hundred thousand files
                total += stat.st_size if stat.st_nlink == 1 else 0
    return total
