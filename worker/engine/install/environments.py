"""Python environments made by uv: the worker's, and one for each ComfyUI.

Everything that can be known beforehand is installed by hash from the lock files. What can't: torch from an index other
than the default one, and the requirements of a ComfyUI that is not the pinned one; these are installed by version from
HTTPS, and the files' sums are noted by uv beside the packages (RECORD), where `verify` finds them.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.engine.install import pip_settings, uv, uv_settings
from worker.engine.install.builds import (
    TORCH,
    Target,
    TorchSource,
    choose_source,
    probe_index,
    torch_requirements,
)
from worker.engine.install.layout import LOCKS, ROOT, Runtime, environment_python, packages_folder
from worker.engine.install.locks import Pin, read_lock
from worker.engine.install.machine import Accelerator, Card, Host, Interpreter, detect_card, require_room
from worker.engine.install.plan import COMFYUI, ENGINE_LOCKS, worker_lock
from worker.engine.install.record import Record
from worker.engine.install.shell import Screen, Shell, the_only_set_up
from worker.errors import RuntimeMissing
from worker.whole_file import remove

#: Leads from the worker's environment to the code of this folder.
PATH_FILE = "horde-bridge.pth"
#: The worker's environment with what the tests need, with room to spare.
WORKER_DISK_BYTES = 500 * 10**6
#: All wheels, torch for CUDA among them, while the largest of them is being fetched.
WHEELS_DISK_BYTES = 5 * 10**9
#: Of another ComfyUI's requirements, what an engine without a page does not use.
PAGES = ("comfyui-embedded-docs", "comfyui-workflow-templates")

#: Whichever index has the file: its sha256 says that it is the right one. uv by itself stops at the first index that
#: knows a name, which may be a company's with one old version.
BEST_MATCH = "unsafe-best-match"
#: The first index that knows the name, and no other.
FIRST_INDEX = "first-index"

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


def make_engine_environment(tree: Path, folder: Path, *, screen: Screen) -> Path:
    """Make a Python environment at `folder` that runs the ComfyUI in `tree`; its interpreter is returned.

    For the card, the Python and the torch index that the runtime was set up with; what stood at `folder` is replaced.
    One with the requirements of the pinned ComfyUI gets the very same packages, which cost no disk. Waits for other
    set-ups. Raises RuntimeMissing.
    """
    runtime = Runtime.locate()
    with the_only_set_up(runtime.folder, screen) as shell:
        record = Record.load(runtime.state)
        interpreter = Interpreter.current()
        if record.python and record.python_version and Path(record.python).exists():
            interpreter = Interpreter(Path(record.python), record.python_version)
        pinned = runtime.folder / "comfyui"
        Builder.of(shell, interpreter, record, detect_card(Host())).engine(
            folder, None if same_requirements(tree, pinned) else tree / "requirements.txt"
        )
    return environment_python(folder)


def same_requirements(tree: Path, other: Path) -> bool:
    """Whether two ComfyUIs ask for the same packages."""
    try:
        digests = {hashlib.sha256((one / "requirements.txt").read_bytes()).digest() for one in (tree, other)}
    except OSError:
        return False
    return len(digests) == 1


def _nothing() -> None:
    """Nothing has to be noted."""


@dataclass(frozen=True)
class Builder:
    """Makes environments of one Python for one card. `asked_for`: the owner named the accelerator."""

    shell: Shell
    interpreter: Interpreter
    card: Card
    asked_for: bool = False
    torch_index: str | None = None

    @classmethod
    def of(cls, shell: Shell, interpreter: Interpreter, record: Record, found: Card) -> "Builder":
        """For what the record names. What is known of the card that was found serves only if torch is for it."""
        card = found
        if record.accelerator not in {None, found.accelerator}:
            card = Card(record.accelerator, "chosen earlier or by option")
        choices = record.choices
        return cls(shell, interpreter, card, choices.accelerator is not None, choices.torch_index)

    def worker(self, folder: Path, *, dev: bool, begin: Callable[[], None]) -> None:
        """The worker's environment, from its lock alone. `begin` is called before what stands there is touched."""
        require_room("The worker's packages need", WORKER_DISK_BYTES, self.shell.folder)
        uv.ensure(self.shell)
        begin()
        python = self._environment(folder, log="worker")
        self._sync(python, [worker_lock(dev=dev)], log="worker")
        # ASCII, since Pythons before 3.13 read this file in the encoding of the system.
        line = f"import sys; sys.path.append({str(ROOT)!a})\n"
        (packages_folder(folder, self.interpreter.version) / PATH_FILE).write_text(line, encoding="ascii")

    def engine(self, folder: Path, requirements: Path | None, *, begin: Callable[[], None] = _nothing) -> None:
        """An engine's environment: torch for the card, ComfyUI's packages, the node pack's, the safety child's.

        `requirements`: those of another ComfyUI than the pinned one, in place of the lock.
        """
        source = self._torch_source()
        if source.notice:
            self.shell.screen.say(f"      {source.notice}")
        require_room("The engine needs", source.disk_bytes, self.shell.folder)
        uv.ensure(self.shell)
        begin()
        python = self._environment(folder, log="engine")
        if self._torch_is_locked(source) and requirements is None:
            self._sync(python, [LOCKS / name for name in ENGINE_LOCKS], log="engine")
        else:
            self._engine_in_steps(python, source, requirements)
        self._look_at_torch(python)

    def _torch_is_locked(self, source: TorchSource) -> bool:
        """Whether it is the default index's build, whose hashes are known, and not one in the owner's only folders."""
        environ = self._environ()
        another = uv.is_on(environ, "UV_NO_INDEX") and any(
            next(folder.glob(f"torch-{TORCH}+*.whl"), None) for folder in uv_settings.local_folders(environ)
        )
        return source.index is None and self.card.accelerator is not Accelerator.DIRECTML and not another

    def _engine_in_steps(self, python: Path, source: TorchSource, requirements: Path | None) -> None:
        """torch first, by version; then the rest, which can't replace it."""
        torch = source.requirements
        if self._torch_is_locked(source):
            self._sync(python, [LOCKS / "torch.txt", LOCKS / "engine.txt"], log="engine")
        else:
            remedy = f"{NO_NETWORK} Another index can be named with --torch-index URL."
            self._install(python, *torch, remedy=remedy, index=source.index)
        if requirements is not None:
            excluded = self.shell.scratch / "left-out.txt"
            excluded.parent.mkdir(parents=True, exist_ok=True)
            excluded.write_text("".join(f"{name}\n" for name in PAGES), encoding="utf-8")
            self._install(python, *torch, "--requirements", str(requirements), "--excludes", str(excluded))
            files = ["pack.txt", "safety.txt"]
        else:
            files = ["engine.txt", "pack.txt", "safety.txt"]
        own = [word for name in files for word in ("--requirements", str(LOCKS / name))]
        self._install(python, "--no-deps", "--require-hashes", *own)

    def _torch_source(self) -> TorchSource:
        environ = self._environ()
        if uv.is_on(environ, "UV_NO_INDEX"):
            # Whatever build is in the owner's folders.
            return TorchSource(torch_requirements(self.card.accelerator), None, 0)
        return choose_source(
            self.card,
            Target.here(self.interpreter.version),
            asked_for=self.asked_for,
            index=self.torch_index,
            probe=lambda url, target: probe_index(url, target, environ),
        )

    def _environment(self, folder: Path, *, log: str) -> Path:
        try:
            remove(folder)
        except OSError as error:
            raise RuntimeMissing(
                f"{error.filename} can't be removed: {error.strerror}.",
                remedy="Stop the worker and whatever else uses it, then run update-runtime again.",
            ) from error
        self._uv("venv", "--python", str(self.interpreter.executable), str(folder), log=log)
        return environment_python(folder)

    def _sync(self, python: Path, locks: Sequence[Path], *, log: str) -> None:
        """Exactly what the locks say, by hash and ready-built: no package runs code of its own here."""
        words = ("--require-hashes", "--only-binary", ":all:")
        self._uv("pip", "sync", "--python", str(python), *words, *map(str, locks), log=log, remedy=NO_NETWORK)

    def _install(self, python: Path, *words: str, remedy: str = NO_NETWORK, index: str | None = None) -> None:
        self._uv("pip", "install", "--python", str(python), *words, log="engine", remedy=remedy, index=index)

    def _uv(self, *words: str, log: str, remedy: str = "", index: str | None = None) -> None:
        """Run uv. An index is no argument, which every user of the machine sees: the URL may contain a password."""
        environment = self._environ()
        if index:
            # It alone says which build of torch this is: with the best of all indexes an owner's one for another card
            # would win.
            environment |= {
                "UV_DEFAULT_INDEX": index,
                "UV_INDEX": f"{index} {environment.get('UV_INDEX', '')}".strip(),
                "UV_INDEX_STRATEGY": FIRST_INDEX,
            }
        if "--require-hashes" in words:
            environment["UV_INDEX_STRATEGY"] = BEST_MATCH
        if uv.is_on(environment, "UV_NO_INDEX") and words[0] == "pip":
            words = (*words, "--no-index")  # uv has no variable for it
        directory = ("--directory", str(self.shell.folder))
        uv.run(self.shell, *directory, *words, log=log, remedy=remedy, environ=environment)

    def _environ(self) -> dict[str, str]:
        return uv.environment(self.shell.folder, self.shell.environ)

    def fetch(self, pin: Pin, folder: Path, *, log: str) -> None:
        """Unpack one wheel into `folder`, copied, by version and hash."""
        wanted = self.shell.scratch / f"{log}.txt"
        wanted.parent.mkdir(parents=True, exist_ok=True)
        wanted.write_text(pin.line, encoding="utf-8")
        words = ("--no-deps", "--require-hashes", "--only-binary", ":all:", "--link-mode", "copy")
        target = ("--python", str(self.interpreter.executable), "--target", str(folder))
        self._uv("pip", "install", *words, *target, "--requirements", str(wanted), log=log, remedy=NO_NETWORK)

    def collect(self, folder: Path) -> None:
        """Download what an installation without a network needs into `folder`: by hash, for this system and Python.

        uv keeps no files of its own, so pip does it, from an environment that goes with the scratch folder.
        """
        require_room("The wheels need", WHEELS_DISK_BYTES, folder)
        folder.mkdir(parents=True, exist_ok=True)
        pip, more = self.shell.scratch / "pip.txt", self.shell.scratch / "more.txt"
        pip.parent.mkdir(parents=True, exist_ok=True)
        pip.write_text(next(pin.line for pin in read_lock(worker_lock(dev=True)) if pin.name == "pip"), "utf-8")
        uv_itself = Pin("uv", uv.version(), "", uv.sums())
        more.write_text(uv_itself.line + COMFYUI.line, "utf-8")
        python = self._environment(self.shell.scratch / "pip", log="wheels")
        self._sync(python, [pip], log="wheels")
        shell = self.shell.with_environment(pip_settings.for_pip(self._environ()))
        options = ("--require-hashes", "--no-deps", "--only-binary", ":all:", "--progress-bar", "off")
        for number, lock in enumerate((more, worker_lock(dev=False), *(LOCKS / name for name in ENGINE_LOCKS)), 1):
            shell.screen.say(f"      {number} of {len(ENGINE_LOCKS) + 2}: {lock.name}")
            words = (*options, "--dest", str(folder), "--requirement", str(lock))
            shell.run([str(python), "-I", "-m", "pip", "download", *words], log="wheels", remedy=NO_NETWORK)

    def _look_at_torch(self, python: Path) -> None:
        """Import it once: a driver that does not fit shows here, and not at an owner's first job."""
        if self.card.accelerator is Accelerator.DIRECTML:
            return  # its devices are seen by torch_directml alone
        self.shell.screen.say("      trying torch …")
        code = self.shell.run(
            [str(python), "-I", "-c", LOOK_AT_TORCH],
            log="engine",
            allowed=(0, NO_DEVICE),
            remedy="The packages are installed but torch can't be imported; see the lines above.",
        )
        if code == NO_DEVICE and self.card.accelerator in {Accelerator.CUDA, Accelerator.ROCM}:
            self.shell.screen.say(
                f"      torch is installed but finds no {self.card.accelerator.value} device now: check the driver "
                "(nvidia-smi, rocminfo) and, in a container, that the card is passed in."
            )
