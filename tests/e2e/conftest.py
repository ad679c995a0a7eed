"""The worker as its owner runs it: `python -m worker.cli run` in a folder of its own, against the embedded Horde."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.place import Place
from tests.preloaded import Forked, start
from worker.demo.engine import FOLDER as SCRIPTED_ENGINE
from worker.demo.engine import SCRIPT_VARIABLE
from worker.demo.engine.script import Script
from worker.demo.horde.directory import OWNER_KEY
from worker.demo.horde.records import Baseline, ImageRequest, ModelFacts, Outcome
from worker.demo.horde.server import RunningHorde, serve_in_thread
from worker.demo.horde.state import EmbeddedHorde

ROOT = Path(__file__).resolve().parents[2]
#: The commands, with a scripted safety checker: its weights are nothing a test can have.
CLI = Path(__file__).with_name("cli.py")
MODEL = "Tiny SD1.5"
#: For everything a test waits for; a loaded machine needs seconds where an idle one needs milliseconds.
PATIENCE_S = 180.0
#: The smallest file that passes for a whole model: a header that lists no tensor.
EMPTY_MODEL = (2).to_bytes(8, "little") + b"{}"


@dataclass
class Owner:
    """Someone with a worker: a folder, settings, and the process when it runs."""

    folder: Path
    horde: RunningHorde
    config: dict[str, Any] = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)
    process: "subprocess.Popen[bytes] | Forked | None" = None
    #: runs the worker and its commands
    python: Path = Path(sys.executable)
    engine_python: Path = Path(sys.executable)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        model = self.folder / "models" / "compvis" / "tiny.safetensors"
        model.parent.mkdir(parents=True)
        model.write_bytes(EMPTY_MODEL)
        self.config = {
            "api_key": OWNER_KEY,
            "dreamer_name": "e2e worker",
            "horde_url": f"{self.horde.url}/api/",
            "cache_home": "models",
            "models_to_load": [MODEL],
            # Its weights are fetched from the network.
            "aesthetic_score": False,
            # No such folder: nothing is asked of the network, and the owner's own model is served all the same.
            "model_reference": "lists",
            "custom_models": [{"name": MODEL, "baseline": "stable_diffusion_1", "filepath": str(model)}],
            "comfyui_path": str(SCRIPTED_ENGINE),
            "comfyui_python": str(self.engine_python),
            **self.config,
        }

    @property
    def config_file(self) -> Path:
        return self.folder / "bridgeData.yaml"

    @property
    def fatal_stage(self) -> Path:
        """Names the stage of a job at which the worker kills itself, while it is there."""
        return self.folder / "fatal.txt"

    @property
    def output(self) -> str:
        """What the worker has said on its terminal."""
        file = self.folder / "output.txt"
        return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""

    def configure(self, **changes: Any) -> None:
        """Write the settings, with these changes, in one step: a running worker would complain of half a file."""
        self.config |= changes
        draft = self.folder / "draft.yaml"
        draft.write_text(yaml.safe_dump(self.config), encoding="utf-8")
        draft.chmod(0o600)
        draft.replace(self.config_file)

    def play(self, **content: Any) -> None:
        """Put an engine script in force."""
        Script(**content).write(self.folder / "script.json")

    def ask(self, count: int = 1, **params: Any) -> list[str]:
        """Queue requests; their ids."""
        asked = {"width": 64, "height": 64, "steps": 4, "cfg_scale": 5.0, **params}
        return [
            self.horde.state.enqueue(ImageRequest(prompt=f"fox {number}", models=(MODEL,), params=asked, nsfw=False))
            for number in range(count)
        ]

    def outcomes(self) -> Counter[Outcome]:
        return Counter(self.horde.state.accounting().outcomes.values())

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run another command of this owner's to its end."""
        return subprocess.run(
            [str(self.python), "-m", "worker.cli", *arguments],
            cwd=self.folder, env=self._environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False, timeout=PATIENCE_S,
        )  # fmt: skip

    def start(self, *, stderr: int = subprocess.STDOUT, **environment: str | None) -> None:
        """Start the worker, with these variables besides; None for those it must not have."""
        self.configure()
        variables = {k: v for k, v in (self._environment() | environment).items() if v is not None}
        command = [str(CLI), "run", "--cpu", "--config", str(self.config_file), *self.arguments]
        with (self.folder / "output.txt").open("ab") as output, Path(os.devnull).open("rb") as nothing:
            self.process = start(
                self.python, command, cwd=self.folder, env=variables, stdin=nothing.fileno(), stdout=output.fileno(),
                stderr=output.fileno() if stderr == subprocess.STDOUT else stderr,
            )  # fmt: skip

    def _environment(self) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AIWORKER_")}
        return environment | {
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "AIWORKER_STATE_DIR": str(self.folder / "state"),
            "TMPDIR": str(self.folder),
            SCRIPT_VARIABLE: str(self.folder / "script.json"),
            "SAFETY_SCRIPT": str(self.folder / "safety.json"),
            "FATAL_STAGE": str(self.fatal_stage),
        }

    def signal(self, number: int = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def end(self) -> int:
        """Wait for the worker to end; its exit code."""
        assert self.process is not None
        return self.process.wait(PATIENCE_S)

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for something to become true while the worker runs."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert self.process is None or self.process.poll() is None, f"the worker has ended:\n{self.output}"
            assert time.monotonic() < deadline, f"it never came true; the worker said:\n{self.output}"
            time.sleep(0.05)

    def done(self, requests: list[str]) -> None:
        """Wait until the Horde has nothing more to expect for these requests."""
        self.until(lambda: not any(self._is_open(each) for each in requests))

    def _is_open(self, request: str) -> bool:
        check = self.horde.state.check(request)
        return bool(check["waiting"] or check["processing"])

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def horde() -> Iterator[RunningHorde]:
    state = EmbeddedHorde(models={MODEL: ModelFacts(Baseline.SD1)}, seed=1)
    with serve_in_thread(state) as running:
        yield running


@pytest.fixture
def python(quick_worker_python: Path) -> Path:
    """Runs owners' workers and commands."""
    return quick_worker_python


@pytest.fixture
def engine_python(quick_worker_python: Path) -> Path:
    """Runs owners' engines. What is its child ends a moment before the engine: not for tests that look at that."""
    return quick_worker_python


@pytest.fixture
def owner_at(tmp_path: Path, python: Path, engine_python: Path) -> Iterator[Callable[[RunningHorde], Owner]]:
    """An owner whose worker serves this Horde."""
    with contextlib.ExitStack() as stack:

        def owner_at(horde: RunningHorde) -> Owner:
            owner = Owner(tmp_path / "owner", horde, python=python, engine_python=engine_python)
            return stack.enter_context(contextlib.closing(owner))

        yield owner_at


@pytest.fixture
def owner(owner_at: Callable[[RunningHorde], Owner], horde: RunningHorde) -> Owner:
    return owner_at(horde)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)
