"""`auto_update: auto` from end to end: the launcher, the worker it starts, and newer versions given out meanwhile."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.complete_runtime import make_runtime
from tests.e2e.conftest import MODEL, Owner
from tests.e2e.test_update import NEWER, Forge, archive_of, forge, pristine, run_git, take_compiled, version  # noqa: F401
from worker import __version__
from worker.demo.horde.records import Baseline, ModelFacts, Outcome
from worker.demo.horde.server import serve_in_thread
from worker.demo.horde.state import EmbeddedHorde
from worker.update.switch import read_journal

pytestmark = pytest.mark.e2e

#: In the worker's environment: looks for newer versions at once, and has a scripted safety checker.
ON_START = """
from functools import partial
from worker.app import build
from worker.demo.engine import SCRIPT_VARIABLE
from worker.demo.safety.settings import scripted_safety
from worker.process import child

child.NEEDED |= {SCRIPT_VARIABLE}
build.safety_settings = lambda *_, home, **__: scripted_safety(home / "safety")
build.UpdateWatch = partial(build.UpdateWatch, first_s=1.0, period_s=1.0)
"""
BROKEN = b"import nothing_of_this_name\n"


class Unattended(Owner):
    """An owner who has started the launcher, and is away."""

    def launch(self, folder: Path, runtime: Path, **settings: Any) -> None:
        self.config |= {"auto_update": "auto", **settings}
        (folder / "bridgeData.yaml").write_text(yaml.safe_dump(self.config))
        environment = self._environment() | {"AIWORKER_RUNTIME_DIR": str(runtime), "PATH": "/usr/bin:/bin"}
        del environment["PYTHONPATH"]
        with (self.folder / "output.txt").open("ab") as output:
            self.process = subprocess.Popen(
                ["bash", str(folder / "horde-bridge.sh"), "run", "--cpu"],
                cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip

    def serves(self) -> None:
        """A job asked for now is done."""
        before = self.outcomes()[Outcome.OK]
        self.ask()
        self.until(lambda: self.outcomes()[Outcome.OK] > before)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture
def unattended(tmp_path: Path) -> Iterator[Unattended]:
    state = EmbeddedHorde(models={MODEL: ModelFacts(Baseline.SD1)}, seed=1)
    with serve_in_thread(state) as horde, contextlib.closing(Unattended(tmp_path / "owner", horde)) as owner:
        yield owner


def archive(tmp_path: Path, forge: Forge, pristine: Path) -> tuple[Path, Callable[[bytes | None], None]]:  # noqa: F811
    """A folder out of an archive, and what gives a newer one out; with this as its command line, if anything."""
    folder = tmp_path / "my wörker"
    shutil.copytree(pristine, folder)

    def give_out(cli: bytes | None) -> None:
        forge.offer(NEWER, archive_of(pristine, more={"worker/cli.py": cli} if cli else None))

    return folder, give_out


def clone(tmp_path: Path, forge: Forge, pristine: Path) -> tuple[Path, Callable[[bytes | None], None]]:  # noqa: F811
    """The same for a clone."""
    origin, folder = tmp_path / "origin", tmp_path / "my wörker"
    shutil.copytree(pristine, origin, ignore=shutil.ignore_patterns("__pycache__"))
    (origin / ".gitignore").write_text(".updates/\nlogs/\nbridgeData.yaml\n__pycache__/\n")
    for words in (("init", "-q", "-b", "main"), ("add", "-A"), ("commit", "-qm", "one"), ("tag", f"v{__version__}")):
        run_git(origin, *words)
    run_git(tmp_path, "clone", "-q", str(origin), str(folder))
    take_compiled(pristine, folder)

    def give_out(cli: bytes | None) -> None:
        file = origin / "worker" / "__init__.py"
        file.write_text(file.read_text().replace(f'"{__version__}"', f'"{NEWER}"'))
        if cli:
            (origin / "worker" / "cli.py").write_bytes(cli)
        run_git(origin, "commit", "-qam", "two")
        run_git(origin, "tag", f"v{NEWER}")

    return folder, give_out


@pytest.fixture(params=[archive, clone])
def place(request, tmp_path: Path, forge: Forge, pristine: Path) -> tuple[Path, Callable[[bytes | None], None], str]:  # noqa: F811
    """A worker's folder, what gives a newer version out, and where that is given out."""
    forge.files.pop("/releases.json", None)
    folder, give_out = request.param(tmp_path, forge, pristine)
    return folder, give_out, forge.url


@pytest.mark.parametrize("cli", [None, BROKEN], ids=["good", "broken"])
def test_a_running_worker_takes_a_newer_version_unattended_and_the_old_one_again_if_that_does_not_serve(
    unattended, place, tmp_path, cli
):
    folder, give_out, source = place
    runtime = make_runtime(tmp_path / "runtime", folder, ON_START)
    unattended.launch(folder, runtime, update_source=source)
    unattended.serves()
    give_out(cli)

    def settled() -> bool:
        journal = read_journal(folder)
        return journal is not None and journal.phase == "settled"

    unattended.until(settled)
    assert version(folder) == (NEWER if cli is None else __version__)
    unattended.serves()
    if cli:
        # It is not taken again, though it is the newest.
        said = unattended.output.count("lies ready")
        unattended.serves()
        assert (unattended.output.count("lies ready"), said) == (1, 1)
    unattended.signal(signal.SIGTERM)
    assert unattended.end() == 0, unattended.output
    assert unattended.outcomes()[Outcome.OK] == sum(unattended.outcomes().values())
