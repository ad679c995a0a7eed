"""/metrics for Prometheus: the status at the moment of the scrape, and nothing counted here.

Labels have bounded values: models beyond a number are counted together, everything else is a word of ours.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Final

import psutil
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from worker.errors import Blame
from worker.status.board import StatusBoard
from worker.status.session import OTHER_MODELS
from worker.status.snapshot import Outcome, Phase, Snapshot, Tally

PREFIX: Final = "horde_bridge_"
#: Models with a line of their own; what the others did is summed up as OTHER_MODELS.
MOST_MODELS: Final = 50
SLOT_STATES: Final = ("working", "starting", "ready", "resting", "stuck", "stopped")
MODEL_STATES: Final = ("served", "waiting", "withheld", "failed")
#: Why no jobs are asked for, as `worker.status.snapshot.PauseView.kind`.
PAUSES: Final = (
    "owner", "maintenance", "faults", "machine", "safety", "engines", "cards", "models", "size", "horde",
)  # fmt: skip

BLAMES: Final = (*(blame.value for blame in Blame), Outcome.GIVEN_BACK.value)

#: values of the labels, in the metric's order → the number
Sample = tuple[tuple[str, ...], float]


@dataclass(frozen=True)
class MetricSpec:
    """One metric. `name` without the prefix, and for a counter without `_total`; every one has the label `worker`."""

    name: str
    #: counter or gauge
    kind: str
    help: str
    labels: tuple[str, ...]
    read: Callable[[Snapshot], Iterable[Sample]]

    @property
    def full_name(self) -> str:
        """As Prometheus shows it."""
        return f"{PREFIX}{self.name}{'_total' if self.kind == 'counter' else ''}"


def _one(value: float | None) -> Iterator[Sample]:
    if value is not None:
        yield (), float(value)


def _by_name(values: Mapping[str, float]) -> Iterator[Sample]:
    for name, value in values.items():
        yield (name,), float(value)


def _is(current: str, all_of: Iterable[str]) -> Iterator[Sample]:
    for name in all_of:
        yield (name,), float(name == current)


def _models(status: Snapshot, pick: Callable[[Tally], float]) -> Iterator[Sample]:
    """The first by name, the others in one sum: were it the best, the sum would fall whenever one becomes better."""
    tallies = [(name, tally) for name, tally in status.session.models.items() if name != OTHER_MODELS]
    rest = [tally for _, tally in tallies[MOST_MODELS:]]
    rest += [tally for name, tally in status.session.models.items() if name == OTHER_MODELS]
    yield from (((name,), float(pick(tally))) for name, tally in tallies[:MOST_MODELS])
    if rest:
        yield (OTHER_MODELS,), float(sum(map(pick, rest)))


def _slot_states(status: Snapshot) -> Iterator[Sample]:
    for slot in status.slots:
        for state in SLOT_STATES:
            yield (str(slot.number), slot.device, state), float(slot.state == state)


def _count(names: Iterable[str], all_of: Iterable[str]) -> Iterator[Sample]:
    found = list(names)
    return _by_name({name: float(found.count(name)) for name in all_of})


#: The whole list; docs/monitoring.md has it as a table.
METRICS: Final = (
    MetricSpec(
        "info", "gauge", "1, with the versions as labels.", ("version", "python"),
        lambda s: [((s.versions.worker, s.versions.python), 1.0)],
    ),
    MetricSpec("start_time_seconds", "gauge", "When the worker started, since 1970.", (), lambda s: _one(s.started_at)),
    MetricSpec(
        "phase", "gauge", "1 for what the worker as a whole does.", ("phase",),
        lambda s: _is(s.phase.value, (phase.value for phase in Phase)),
    ),
    MetricSpec(
        "jobs", "counter", "Jobs that ended, by how.", ("outcome",),
        lambda s: _by_name({
            "done": s.session.total.jobs,
            "faulted": s.session.total.faulted - s.session.faults.get(Outcome.GIVEN_BACK.value, 0),
            "given_back": s.session.faults.get(Outcome.GIVEN_BACK.value, 0),
        }),
    ),
    MetricSpec("images", "counter", "Images that the Horde took.", (), lambda s: _one(s.session.total.images)),
    MetricSpec(
        "faulted_images", "counter", "Images that were reported as faulted.", (),
        lambda s: _one(s.session.faulted_images),
    ),
    MetricSpec("kudos", "counter", "Kudos that jobs brought.", (), lambda s: _one(s.session.total.kudos)),
    MetricSpec(
        "faults", "counter", "Jobs that failed, by whose failure it was.", ("blame",),
        # Zeros as well: an increase from nothing would not be seen.
        lambda s: _by_name({blame: s.session.faults.get(blame, 0) for blame in BLAMES}),
    ),
    MetricSpec(
        "model_jobs", "counter", f"Jobs done, by model; beyond {MOST_MODELS} models the rest is {OTHER_MODELS}.",
        ("model",),
        lambda s: _models(s, lambda tally: tally.jobs),
    ),
    MetricSpec(
        "model_kudos", "counter", f"Kudos by model; beyond {MOST_MODELS} models the rest is {OTHER_MODELS}.",
        ("model",),
        lambda s: _models(s, lambda tally: tally.kudos),
    ),
    MetricSpec(
        "stage_seconds", "counter", "Seconds that jobs spent in each stage.", ("stage",),
        lambda s: _by_name(asdict(s.session.stages)),
    ),
    MetricSpec(
        "idle_seconds", "counter", "Seconds in which an engine stood ready, jobs were asked for and none came.", (),
        lambda s: _one(s.session.idle_s),
    ),
    MetricSpec(
        "pops", "counter", "Requests for jobs, by what they brought.", ("result",), lambda s: _by_name(s.session.pops)
    ),
    MetricSpec(
        "pop_seconds", "counter", "Seconds that all requests for jobs took.", (), lambda s: _one(s.session.pop_s)
    ),
    MetricSpec(
        "jobs_under_way", "gauge", "Jobs that wait for an engine, are rendered, or are delivered.", ("stage",),
        lambda s: _by_name({
            "waiting": s.waiting,
            "rendering": len(s.jobs) - s.waiting - s.delivering,
            "delivering": s.delivering,
        }),
    ),
    MetricSpec(
        "slot_state", "gauge", "1 for the state of each engine slot.", ("slot", "device", "state"), _slot_states
    ),
    MetricSpec(
        "slot_failures", "counter", "Losses of the engine in each slot.", ("slot", "device"),
        lambda s: [((str(slot.number), slot.device), float(slot.failures)) for slot in s.slots],
    ),
    MetricSpec(
        "slot_memory_bytes", "gauge", "Memory of the machine that each engine holds.", ("slot", "device"),
        lambda s: [((str(slot.number), slot.device), float(slot.memory_bytes)) for slot in s.slots],
    ),
    MetricSpec(
        "models", "gauge", "Models that the owner wants, by what has become of them.", ("state",),
        lambda s: _count((model.state for model in s.models), MODEL_STATES),
    ),
    MetricSpec(
        "download_remaining_bytes", "gauge", "Bytes that running downloads have left.", (),
        lambda s: _one(sum(max(0, each.total_bytes - each.done_bytes) for each in s.downloads)),
    ),
    MetricSpec(
        "paused", "gauge", "1 for each reason why no jobs are asked for.", ("reason",),
        lambda s: _by_name({kind: float(kind in {pause.kind for pause in s.pauses}) for kind in PAUSES}),
    ),
    MetricSpec(
        "skipped_requests", "gauge", "Requests that the Horde passed over at the last pop, by its reason.", ("reason",),
        lambda s: _by_name(s.skipped),
    ),
    MetricSpec(
        "horde_reachable", "gauge", "Whether the Horde's last answer came.", (),
        lambda s: _one(s.standing.reachable),
    ),
    MetricSpec(
        "maintenance", "gauge", "Whether the worker is in maintenance mode on the Horde.", (),
        lambda s: _one(s.standing.maintenance),
    ),
    MetricSpec(
        "paused_by_moderator", "gauge", "Whether a moderator of the Horde paused the worker.", (),
        lambda s: _one(s.standing.paused),
    ),
    MetricSpec(
        "account_kudos", "gauge", "Kudos of the account, as last looked up.", (),
        lambda s: _one(s.standing.account_kudos),
    ),
    MetricSpec("warnings", "gauge", "Warnings that hold now.", (), lambda s: _one(len(s.warnings))),
    MetricSpec(
        "disk_free_bytes", "gauge", "Free on the disk that the engines write to.", (),
        lambda s: _one(s.machine.disk_free_bytes),
    ),
    MetricSpec(
        "disk_needed_bytes", "gauge", "Free bytes below which no jobs are taken.", (),
        lambda s: _one(s.machine.disk_needed_bytes or None),
    ),
    MetricSpec(
        "memory_available_bytes", "gauge", "Memory of the machine that programs can still get.", (),
        lambda s: _one(s.machine.memory_free_bytes),
    ),
    MetricSpec(
        "supervisor_cpu_seconds", "counter", "Processor time of the worker's own process, without engines.", (),
        lambda _: _one(sum(psutil.Process().cpu_times()[:2])),
    ),
    MetricSpec(
        "supervisor_memory_bytes", "gauge", "Memory of the worker's own process, without engines.", (),
        lambda _: _one(psutil.Process().memory_info().rss),
    ),
)  # fmt: skip


class StatusCollector(Collector):
    """Reads the status at each scrape."""

    def __init__(self, read: Callable[[], Snapshot]) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        """Nothing: a scrape at registration would come before the worker is there."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Every metric with its samples of now."""
        status = self._read()
        for spec in METRICS:
            family = CounterMetricFamily if spec.kind == "counter" else GaugeMetricFamily
            made = family(f"{PREFIX}{spec.name}", spec.help, labels=("worker", *spec.labels))
            for values, number in spec.read(status):
                made.add_metric((status.name, *values), number)
            yield made


def exposition(read: Callable[[], Snapshot]) -> bytes:
    """All metrics in Prometheus' text form."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StatusCollector(read))
    return generate_latest(registry)


def routes(status: StatusBoard) -> list[Route]:
    """/metrics."""

    async def metrics(_: Request) -> Response:
        return Response(exposition(status.snapshot), media_type=CONTENT_TYPE_LATEST)

    return [Route("/metrics", metrics)]
