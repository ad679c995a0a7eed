"""The making of each part: environments by `environments`, ComfyUI's tree by `tree`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from worker.engine.install import tree
from worker.engine.install.environments import Builder
from worker.engine.install.layout import Runtime, packages_folder
from worker.engine.install.plan import Step
from worker.engine.install.record import Choices, Part


@dataclass(frozen=True)
class InstallContext:
    """Everything that the making of parts needs to know."""

    runtime: Runtime
    choices: Choices
    builder: Builder

    def make(self, step: Step, begin: Callable[[], None]) -> None:
        """Carry out one step. `begin` is called before anything that context is touched: what fails earlier changed
        nothing, what fails later leaves a part that must be made anew. Raises RuntimeMissing.
        """
        match step.part:
            case Part.WORKER:
                self.builder.worker(self.runtime.folder / "worker", dev=self.choices.dev, begin=begin)
            case Part.COMFYUI:
                self._comfyui()  # replaced whole or not at all
            case Part.ENGINE if self.choices.comfyui_python:
                self._owners_python(Path(self.choices.comfyui_python))
            case Part.ENGINE:
                # Another ComfyUI knows best what it needs.
                own = self.choices.comfyui or self.choices.comfyui_git
                requirements = self.runtime.comfyui / "requirements.txt" if own else None
                self.builder.engine(self.runtime.folder / "engine", requirements, begin=begin)

    def packages(self, part: Part) -> tuple[str, ...]:
        """The .dist-info folders that a finished environment has; empty for what is no environment of ours."""
        if part is Part.COMFYUI or (part is Part.ENGINE and self.choices.comfyui_python):
            return ()
        folder = packages_folder(self.runtime.folder / part.value, self.builder.interpreter.version)
        return tuple(sorted(path.name for path in folder.glob("*.dist-info")))

    def _comfyui(self) -> None:
        place = self.runtime.folder / "comfyui"
        if self.choices.comfyui:
            tree.inspect(Path(self.choices.comfyui))
        elif self.choices.comfyui_git:
            tree.clone(self.choices.comfyui_git, place, self.builder.shell)
        else:
            tree.fetch_pinned(place, self.builder)

    def _owners_python(self, python: Path) -> None:
        self.builder.shell.run(
            [str(python), "-c", "import aiohttp, torch"],
            log="engine",
            remedy=f"{python} must be able to import torch and aiohttp, as it does for your ComfyUI.",
        )
