"""`horde-bridge engine try`: an engine beside the one in use, on the same jobs, with the same tiny models.

Nothing of the engine in use is touched, and nothing is changed but the folder of the one that is tried, where its copy
with smaller numbers is kept for the next trial.
"""

import asyncio
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.aio import timeout
from worker.demo import tinies
from worker.demo.trial_jobs import IN_ANY_VERSION, PAYLOAD, TrialJob, trial_jobs, trial_picture
from worker.engine.client import EngineClient
from worker.engine.install.layout import Runtime
from worker.engine.process import EngineProcess, EngineSettings
from worker.engine.versions.shelf import Engine
from worker.engine.versions.trial_report import Compared, Rendered, TrialReport, audit_difference, compare
from worker.errors import EngineChangeRefused, WorkerError
from worker.images import RawImage
from worker.models.disk.store import Store
from worker.models.installed import InstalledModels
from worker.process.file_lock import lock, locked
from worker.process.orphans import end_orphans
from worker.untrusted.text import quote
from worker.workflows.audit import audit_library, suited
from worker.workflows.graph import Graph
from worker.workflows.library import Library
from worker.workflows.materialise import materialise
from worker.workflows.node_classes import with_any_file
from worker.workflows.payload import read_request
from worker.workflows.request import LoraFile, RenderRequest, ServedModel, SourceImage
from worker.workflows.template_selection import select
from worker.workflows.types import Dialect

#: Each job is timed so often, loading aside, and the shortest time counts: other programs only ever make it longer.
TIMES = 2
SEED = 42
#: Longest time for a job, loading included.
JOB_TIMEOUT_S = 240.0
#: Engines that are started in place of those that die of a job.
MOST_STARTS = 4
#: Beginning of the name of a folder that a trial works in; the locks in it and beside it.
FOLDER, OWNED, MAKING = "trial-", ".owned", ".trials.lock"
#: Picture, and whether it is masked → its key in the engine.
KEYS = {False: "trial-picture", True: "trial-picture-masked"}

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Trial:
    """What both engines are put through."""

    runtime: Runtime
    library: Library
    models: InstalledModels
    jobs: Sequence[TrialJob]
    #: progress, a line each
    tell: Tell


@dataclass(frozen=True)
class Outcome:
    """What one engine did. `findings`: template → what it lacks there."""

    findings: Mapping[str, Sequence[str]]
    families: frozenset[str]
    rendered: Mapping[str, Rendered]
    #: of its sizes, what could not be made small
    unchanged: Sequence[str]


async def try_engine(
    runtime: Runtime, candidate: Engine, in_use: Engine, library: Library, tell: Tell, *, only: str = ""
) -> TrialReport:
    """Try `candidate` beside `in_use`, `only` by the jobs whose name contains this.

    Raises EngineChangeRefused where the engine in use itself does not work.
    """
    at = time.time()
    jobs = [job for job in trial_jobs() if only.casefold() in job.name.casefold()]
    if not jobs:
        raise EngineChangeRefused(
            f"No job's name contains {only!r}.", remedy=f"They are: {', '.join(job.name for job in trial_jobs())}."
        )
    versions = (candidate.name, candidate.version, in_use.name, in_use.version, at)
    tell("Making tiny models …")
    await tinies.build(runtime, [], tell=lambda _: None)
    trial = Trial(runtime, library, _models(runtime), jobs, tell)
    tell(f"{in_use.name} (ComfyUI {in_use.version}), which is in use:")
    try:
        before = await _outcome(trial, in_use)
    except WorkerError as error:
        raise EngineChangeRefused(
            f"The engine in use ({in_use.name}) can't be compared with: {quote(error.message)}", remedy=error.remedy
        ) from error
    tell(f"{candidate.name} (ComfyUI {candidate.version}):")
    try:
        now = await _outcome(trial, candidate)
    except WorkerError as error:
        return TrialReport(*versions, error=f"It does not run: {quote(error.message)}")
    lost, gained, kept = audit_difference(before.findings, now.findings)
    pictures = [compare(job.name, job.model, before.rendered[job.name], now.rendered[job.name]) for job in jobs]
    untried = [each for each in pictures if now.unchanged and each.is_lost and each.model not in IN_ANY_VERSION]
    return TrialReport(
        *versions,
        templates_lost=lost,
        templates_gained=gained,
        templates_kept=kept,
        families_lost=sorted(before.families - now.families),
        families_gained=sorted(now.families - before.families),
        pictures=[each for each in pictures if each not in untried and _is_told(each)],
        untried=[each.job for each in untried],
    )


def _is_told(compared: Compared) -> bool:
    """A job that neither engine can do says nothing of the new one."""
    return not (compared.error_before and compared.error_now)


def _models(runtime: Runtime) -> InstalledModels:
    return InstalledModels(Store(tinies.models_folder(tinies.tiny_folder(runtime))), tinies.records())


async def _outcome(trial: Trial, engine: Engine) -> Outcome:
    """Run an engine through the whole trial. Raises WorkerError where it can't be started at all."""
    found, unchanged = await tinies.loading_tree(trial.runtime, engine)
    # ComfyUI compares real paths.
    tree = found.resolve()
    async with trial_folder(tree.parent) as folder:
        settings = EngineSettings(
            python=engine.python,
            comfyui=tree,
            base_directory=folder / "engine",
            log_file=folder / "engine.log",
            model_paths=Store(tinies.models_folder(tinies.tiny_folder(trial.runtime))).model_paths(),
            # Tiny models need no card, and a card in use is left alone.
            arguments=("--cpu", "--cache-classic"),
        )
        return await _through_all(trial, Room(settings), unchanged)


@asynccontextmanager
async def trial_folder(parent: Path) -> AsyncIterator[Path]:
    """A folder for the block. Those that killed trials left in `parent` are cleared away, and their engines ended."""
    # Made and locked as one: another trial would take a folder that nobody holds for one that was left.
    async with locked(parent / MAKING):
        await asyncio.to_thread(_clear_away, parent)
        folder = Path(tempfile.mkdtemp(prefix=FOLDER, dir=parent))
        held = os.open(folder / OWNED, os.O_RDWR | os.O_CREAT, 0o600)
        with contextlib.suppress(OSError):
            lock(held)
    try:
        yield folder
    finally:
        os.close(held)
        shutil.rmtree(folder, ignore_errors=True)


def _clear_away(parent: Path) -> None:
    for folder in parent.glob(f"{FOLDER}*"):
        # One without the file is of an older version, or of a trial that was killed as it made it.
        with contextlib.suppress(OSError):
            held = os.open(folder / OWNED, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                is_left = lock(held)
            finally:
                os.close(held)
            if is_left:
                end_orphans(folder)
                shutil.rmtree(folder, ignore_errors=True)


async def _through_all(trial: Trial, room: "Room", unchanged: Sequence[str]) -> Outcome:
    async with room.open():
        # What is not audited is for families that this engine can't run.
        absent = {template.name: ["its family can't be run"] for template in trial.library.templates}
        findings = {**absent, **audit_library(trial.library, with_any_file(room.object_info))}
        able = suited(trial.library, with_any_file(room.object_info), room.version).without(findings)
        families = {str(family.value) for template in able.templates for family in template.manifest.serves.families}
        families -= {family.value for family in able.unserved}
        rendered: dict[str, Rendered] = {}
        for number, job in enumerate(trial.jobs, 1):
            rendered[job.name] = found = await _rendered(room, able, trial.models, job)
            took = found.error or ("rendered" if job.once else f"{found.seconds:.2f} s")
            trial.tell(f"  {number:2}/{len(trial.jobs)}  {job.name}: {took}")
        return Outcome(findings, frozenset(families), rendered, unchanged)


async def _rendered(room: "Room", library: Library, models: InstalledModels, job: TrialJob) -> Rendered:
    """A job's pictures, one after another as one, and the shortest time of several tries; or why there are none."""
    try:
        model = models.model(job.model)
        if model is None:
            raise EngineChangeRefused("its tiny model could not be made")
        seconds: list[float] = []
        images: list[RawImage] = []
        # Another seed each time, so that all but loading is done again; the last is that of the job.
        for seed in [SEED] if job.once else range(SEED + TIMES, SEED - 1, -1):
            request = _request(job, model, seed)
            made = materialise(select(library, request), request, dialect=Dialect.PACK)
            began = time.monotonic()
            async with timeout(JOB_TIMEOUT_S):
                images = await room.render(made.graph, made.outputs, request.batch)
            seconds.append(time.monotonic() - began)
    except WorkerError as error:
        return Rendered(error=quote(error.message, longest=200))
    except TimeoutError:
        return Rendered(error=f"not done within {JOB_TIMEOUT_S:.0f} s")
    first = images[0]
    return Rendered(
        (first.height, first.width, len(first.mode)),
        b"".join(image.pixels for image in images),
        min(seconds[1:], default=0.0),
    )


def _request(job: TrialJob, model: ServedModel, seed: int) -> RenderRequest:
    source = SourceImage(KEYS[job.masked], 64, 64, has_alpha=job.masked) if job.picture else None
    mode = "inpainting" if job.masked else "img2img" if job.picture else "txt2img"
    loras = (LoraFile(job.lora_file),) if job.lora_file else ()
    return read_request(
        {**PAYLOAD, "seed": str(seed), **job.payload}, model=model, source=source, source_processing=mode, loras=loras
    )


class Room:
    """An engine and its client; another one is started where it dies of a job."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._starts = 0
        self._process: EngineProcess | None = None
        self._client: EngineClient | None = None
        self.object_info: Mapping[str, Any] = {}
        self.version = ""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Start on entry, stop on exit. Raises EngineStartFailed."""
        await self._start()
        try:
            yield
        finally:
            await self._stop()

    async def render(self, graph: Graph, outputs: Collection[str], expected: int) -> list[RawImage]:
        """The images. Raises EngineError, and EngineChangeRefused after too many deaths."""
        if self._process is None or not self._process.alive:
            await self._stop()
            if self._starts >= MOST_STARTS:
                raise EngineChangeRefused("the engine died too often before")
            await self._start()
        assert self._client is not None
        return await self._client.render(graph, outputs, expected=expected)

    async def _start(self) -> None:
        self._starts += 1
        self._process = EngineProcess(self._settings)
        await self._process.start()
        self._client = EngineClient(self._process.url, self._process.token)
        await self._client.open()
        self.object_info, self.version = self._client.object_info, self._client.version
        for masked, key in KEYS.items():
            await self._client.put_input(key, trial_picture(masked=masked))

    async def _stop(self) -> None:
        client, process = self._client, self._process
        self._client = self._process = None
        if client is not None:
            client.expect_end()
        if process is not None:
            await process.stop()
        if client is not None:
            await client.close()


def run_trial(
    runtime: Runtime, candidate: Engine, in_use: Engine, library: Library, tell: Tell, *, only: str = ""
) -> TrialReport:
    """`try_engine`, to its end."""
    return asyncio.run(try_engine(runtime, candidate, in_use, library, tell, only=only))
