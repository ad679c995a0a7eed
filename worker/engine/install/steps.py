"""The making of each part: environments by venv and pip, ComfyUI's tree by `tree`."""

import dataclasses
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from worker.engine.install import tree
from worker.engine.install.builds import Target, choose_source, probe_index, torch_requirements
from worker.engine.install.layout import LOCKS, Runtime, environment_python, packages_folder
from worker.engine.install.machine import Accelerator, Card, Interpreter, free_bytes
from worker.engine.install.plan import Step
from worker.engine.install.record import Choices, Part
from worker.engine.install.shell import Shell
from worker.errors import RuntimeMissing

#: The worker's environment with the `dev` extra, and ComfyUI's tree, each with room to spare.
WORKER_DISK_BYTES = 500 * 10**6
COMFYUI_DISK_BYTES = 200 * 10**6
#: An update in place replaces some packages.
UPDATE_DISK_BYTES = 2 * 10**9

NO_NETWORK = "If the machine was offline, go online and run update-runtime again; otherwise see the lines above."

#: Prints what torch sees. Exit 3: it works, but finds no device to compute on.
LOOK_AT_TORCH = """
import torch, torchvision
version = getattr(torch.version, "hip", None) or getattr(torch.version, "cuda", None)
print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, built for {version or 'the processor'}")
if torch.cuda.is_available():
    print("sees", ", ".join(torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())))
raise SystemExit(0 if torch.cuda.is_available() else 3)
"""
NO_DEVICE = 3


@dataclass(frozen=True)
class InstallContext:
    """Everything that the making of parts needs to know. `card`'s accelerator is the one that was decided on."""

    runtime: Runtime
    choices: Choices
    card: Card
    interpreter: Interpreter
    shell: Shell

    def make(self, step: Step, begin: Callable[[], None]) -> None:
        """Carry out one step. `begin` is called before anything that works is touched: what fails earlier changed
        nothing, what fails later leaves a part that must be made anew. Raises RuntimeMissing.
        """
        if step.moved:
            begin()
            if not self._relocate(step):
                self.make(dataclasses.replace(step, anew=True, moved={}, only_moved=False), begin)
                return
            if step.only_moved:
                return
        match step.part:
            case Part.WORKER:
                self._worker(step, begin)
            case Part.COMFYUI:
                self._comfyui()  # replaced whole or not at all
            case Part.ENGINE if self.choices.comfyui_python:
                self._owners_python(Path(self.choices.comfyui_python))
            case Part.ENGINE:
                self._engine(step, begin)

    def packages(self, part: Part) -> tuple[str, ...]:
        """The .dist-info folders that a finished environment has; empty for what is no environment of ours."""
        if part is Part.COMFYUI or (part is Part.ENGINE and self.choices.comfyui_python):
            return ()
        folder = packages_folder(self.runtime.folder / part.value, self.interpreter.version)
        return tuple(sorted(path.name for path in folder.glob("*.dist-info")))

    def _worker(self, step: Step, begin: Callable[[], None]) -> None:
        self._room_for("worker", WORKER_DISK_BYTES)
        begin()
        python = self._environment("worker", anew=step.anew)
        project = f"{self.runtime.root}[dev]" if self.choices.dev else str(self.runtime.root)
        lock = str(LOCKS / "worker.txt")
        self.shell.pip(python, "install", "--constraint", lock, "--editable", project, log="worker", remedy=NO_NETWORK)

    def _comfyui(self) -> None:
        place = self.runtime.folder / "comfyui"
        if self.choices.comfyui:
            tree.inspect(Path(self.choices.comfyui))
            return
        self._room_for("comfyui", COMFYUI_DISK_BYTES)
        if self.choices.comfyui_git:
            tree.clone(self.choices.comfyui_git, place, self.shell)
        else:
            tree.fetch_pinned(self.runtime.worker_python, place, self.shell)

    def _engine(self, step: Step, begin: Callable[[], None]) -> None:
        if step.anew:
            self._engine_with_torch(begin)
        else:
            self._room_for("engine", UPDATE_DISK_BYTES)
            begin()
        # Another ComfyUI knows best what it needs.
        own = self.choices.comfyui or self.choices.comfyui_git
        requirements = self.runtime.comfyui / "requirements.txt" if own else LOCKS / "engine.txt"
        # torch is named again so that nothing replaces the build that was chosen.
        torch = torch_requirements(self.card.accelerator)
        python = self.runtime.engine_python
        self.shell.pip(python, "install", *torch, "--requirement", str(requirements), log="engine", remedy=NO_NETWORK)
        own_needs = (arg for lock in ("pack.txt", "safety.txt") for arg in ("--requirement", str(LOCKS / lock)))
        self.shell.pip(python, "install", "--no-deps", *own_needs, log="engine", remedy=NO_NETWORK)
        self._look_at_torch(python)

    def _engine_with_torch(self, begin: Callable[[], None]) -> None:
        source = choose_source(
            self.card,
            Target.here(self.interpreter.version),
            asked_for=self.choices.accelerator is not None,
            index=self.choices.torch_index,
            probe=probe_index,
        )
        if source.notice:
            self.shell.screen.say(f"      {source.notice}")
        self._room_for("engine", source.disk_bytes)
        begin()
        python = self._environment("engine", anew=True)
        remedy = f"{NO_NETWORK} Another index can be named with --torch-index URL."
        self.shell.pip(python, "install", *source.requirements, log="engine", remedy=remedy, index=source.index)

    def _look_at_torch(self, python: Path) -> None:
        """Import it once: a driver that does not fit shows here, and not at an owner's first job."""
        if self.card.accelerator is Accelerator.DIRECTML:
            return  # its devices are seen by torch_directml alone
        allowed = (0, NO_DEVICE)
        code = self.shell.run(
            [str(python), "-I", "-c", LOOK_AT_TORCH],
            log="engine",
            allowed=allowed,
            remedy="The packages are installed but torch can't be imported; see the lines above.",
        )
        if code == NO_DEVICE and self.card.accelerator in {Accelerator.CUDA, Accelerator.ROCM}:
            self.shell.screen.say(
                f"      torch is installed but finds no {self.card.accelerator.value} device now: check the driver "
                "(nvidia-smi, rocminfo) and, in a container, that the card is passed in."
            )

    def _owners_python(self, python: Path) -> None:
        self.shell.run(
            [str(python), "-c", "import aiohttp, torch"],
            log="engine",
            remedy=f"{python} must be able to import torch and aiohttp, as it does for your ComfyUI.",
        )

    def _relocate(self, step: Step) -> bool:
        """Write the new place into a moved environment's scripts and paths; whether it works there."""
        folder = self.runtime.folder / step.part.value
        packages = packages_folder(folder, self.interpreter.version)
        scripts = environment_python(folder).parent
        moved = {os.fsencode(old): os.fsencode(new) for old, new in step.moved.items()}
        longest_first = sorted(moved, key=len, reverse=True)
        places = re.compile(b"(?:%s)(?![\\w.-])" % b"|".join(map(re.escape, longest_first)))
        texts = (path for path in (*scripts.iterdir(), *packages.glob("*.pth")) if path.is_file())
        for path in (folder / "pyvenv.cfg", *(text for text in texts if not text.is_symlink())):
            before = path.read_bytes()
            after = places.sub(lambda found: moved[found[0]], before)
            # A program would be broken by a path of another length.
            if after != before and b"\0" not in before:
                path.write_bytes(after)
        try:
            self.shell.run([str(environment_python(folder)), "-I", "-c", "pass"], log=step.part.value)
        except RuntimeMissing:
            return False
        return True

    def _environment(self, name: str, *, anew: bool) -> Path:
        folder = self.runtime.folder / name
        if anew and (folder.is_symlink() or folder.exists()):
            try:
                folder.unlink() if folder.is_symlink() else shutil.rmtree(folder)
            except OSError as error:
                raise RuntimeMissing(
                    f"{error.filename} can't be removed: {error.strerror}.",
                    remedy="Stop the worker and whatever else uses it, then run update-runtime again.",
                ) from error
        python = environment_python(folder)
        if not python.exists():
            version = self.interpreter.version
            remedy = f"On Debian and Ubuntu: apt install python{version}-venv. Or set PYTHON to another Python."
            self.shell.python(self.interpreter.executable, "venv", str(folder), log=name, remedy=remedy)
        return python

    def _room_for(self, name: str, needed: int) -> None:
        free = free_bytes(self.runtime.folder)
        if free < needed:
            raise RuntimeMissing(
                f"The {name} needs {needed / 1e9:.1f} GB in {self.runtime.folder}, and {free / 1e9:.1f} GB are free.",
                remedy="Make room, or set AIWORKER_RUNTIME_DIR to a folder on another disk.",
            )
