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
from worker.status.snapshot import Outcome, Phase, SlotView, Snapshot, Tally

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
#: One number, None for none; numbers by the value of the one label; or by those of several.
Reading = float | None | Mapping[str, float] | Iterable[Sample]


@dataclass(frozen=True)
class MetricSpec:
    """One metric. `name` without the prefix, and for a counter without `_total`; every one has the label `worker`."""

    name: str
    #: counter or gauge
    kind: str
    help: str
    labels: tuple[str, ...]
    read: Callable[[Snapshot], Reading]

    @property
    def full_name(self) -> str:
        """As Prometheus shows it."""
        return f"{PREFIX}{self.name}{'_total' if self.kind == 'counter' else ''}"

    def samples(self, status: Snapshot) -> Iterable[Sample]:
        """What is to be told now."""
        found = self.read(status)
        if isinstance(found, Mapping):
            return [((name,), number) for name, number in found.items()]
        if found is None or isinstance(found, (int, float)):
            return [] if found is None else [((), found)]
        return found


def _counter(name: str, help_: str, read: Callable[[Snapshot], Reading], *labels: str) -> MetricSpec:
    return MetricSpec(name, "counter", help_, labels, read)


def _gauge(name: str, help_: str, read: Callable[[Snapshot], Reading], *labels: str) -> MetricSpec:
    return MetricSpec(name, "gauge", help_, labels, read)


def _models(status: Snapshot, pick: Callable[[Tally], float]) -> dict[str, float]:
    """The first by name, the others in one sum: were it the best, the sum would fall whenever one becomes better."""
    tallies = [(name, tally) for name, tally in status.session.models.items() if name != OTHER_MODELS]
    rest = [tally for _, tally in tallies[MOST_MODELS:]]
    rest += [tally for name, tally in status.session.models.items() if name == OTHER_MODELS]
    found = {name: pick(tally) for name, tally in tallies[:MOST_MODELS]}
    return {**found, OTHER_MODELS: sum(map(pick, rest))} if rest else found


def _slots(status: Snapshot, read: Callable[[SlotView], float]) -> list[Sample]:
    return [((str(slot.number), slot.device), read(slot)) for slot in status.slots]


def _slot_states(status: Snapshot) -> list[Sample]:
    return [
        ((str(slot.number), slot.device, state), slot.state == state) for slot in status.slots for state in SLOT_STATES
    ]


def _jobs(status: Snapshot) -> dict[str, float]:
    total, given_back = status.session.total, status.session.faults.get(Outcome.GIVEN_BACK.value, 0)
    return {"done": total.jobs, "faulted": total.faulted - given_back, "given_back": given_back}


def _jobs_under_way(status: Snapshot) -> dict[str, float]:
    rendering = len(status.jobs) - status.waiting - status.delivering
    return {"waiting": status.waiting, "rendering": rendering, "delivering": status.delivering}


def _count(names: Iterable[str], all_of: Iterable[str]) -> dict[str, float]:
    found = list(names)
    return {name: found.count(name) for name in all_of}


#: The whole list; docs/monitoring.md has it as a table.
METRICS: Final = (
    _gauge(
        "info", "1, with the versions as labels.", lambda s: [((s.versions.worker, s.versions.python), 1.0)],
        "version", "python",
    ),
    _gauge("start_time_seconds", "When the worker started, since 1970.", lambda s: s.started_at),
    _gauge(
        "phase", "1 for what the worker as a whole does.", lambda s: {phase.value: phase is s.phase for phase in Phase},
        "phase",
    ),
    _counter("jobs", "Jobs that ended, by how.", _jobs, "outcome"),
    _counter("images", "Images that the Horde took.", lambda s: s.session.total.images),
    _counter("faulted_images", "Images that were reported as faulted.", lambda s: s.session.faulted_images),
    _counter("kudos", "Kudos that jobs brought.", lambda s: s.session.total.kudos),
    _counter(
        "faults", "Jobs that failed, by whose failure it was.",
        # Zeros as well: an increase from nothing would not be seen.
        lambda s: {blame: s.session.faults.get(blame, 0) for blame in BLAMES},
        "blame",
    ),
    _counter(
        "model_jobs", f"Jobs done, by model; beyond {MOST_MODELS} models the rest is {OTHER_MODELS}.",
        lambda s: _models(s, lambda tally: tally.jobs), "model",
    ),
    _counter(
        "model_kudos", f"Kudos by model; beyond {MOST_MODELS} models the rest is {OTHER_MODELS}.",
        lambda s: _models(s, lambda tally: tally.kudos), "model",
    ),
    _counter("stage_seconds", "Seconds that jobs spent in each stage.", lambda s: asdict(s.session.stages), "stage"),
    _counter(
        "idle_seconds", "Seconds in which an engine stood ready, jobs were asked for and none came.",
        lambda s: s.session.idle_s,
    ),
    _counter("pops", "Requests for jobs, by what they brought.", lambda s: s.session.pops, "result"),
    _counter("pop_seconds", "Seconds that all requests for jobs took.", lambda s: s.session.pop_s),
    _gauge(
        "jobs_under_way", "Jobs that wait for an engine, are rendered, or are delivered.", _jobs_under_way, "stage"
    ),
    _gauge("slot_state", "1 for the state of each engine slot.", _slot_states, "slot", "device", "state"),
    _counter(
        "slot_failures", "Losses of the engine in each slot.", lambda s: _slots(s, lambda slot: slot.failures),
        "slot", "device",
    ),
    _gauge(
        "slot_memory_bytes", "Memory of the machine that each engine holds.",
        lambda s: _slots(s, lambda slot: slot.memory_bytes), "slot", "device",
    ),
    _gauge(
        "models", "Models that the owner wants, by what has become of them.",
        lambda s: _count((model.state for model in s.models), MODEL_STATES), "state",
    ),
    _gauge(
        "download_remaining_bytes", "Bytes that running downloads have left.",
        lambda s: sum(max(0, each.total_bytes - each.done_bytes) for each in s.downloads),
    ),
    _gauge(
        "paused", "1 for each reason why no jobs are asked for.",
        lambda s: {kind: kind in {pause.kind for pause in s.pauses} for kind in PAUSES}, "reason",
    ),
    _gauge(
        "skipped_requests", "Requests that the Horde passed over at the last pop, by its reason.",
        lambda s: s.skipped, "reason",
    ),
    _gauge("horde_reachable", "Whether the Horde's last answer came.", lambda s: s.standing.reachable),
    _gauge(
        "maintenance", "Whether the worker is in maintenance mode on the Horde.", lambda s: s.standing.maintenance
    ),
    _gauge(
        "paused_by_moderator", "Whether a moderator of the Horde paused the worker.", lambda s: s.standing.paused
    ),
    _gauge("account_kudos", "Kudos of the account, as last looked up.", lambda s: s.standing.account_kudos),
    _gauge("warnings", "Warnings that hold now.", lambda s: len(s.warnings)),
    _gauge("disk_free_bytes", "Free on the disk that the engines write to.", lambda s: s.machine.disk_free_bytes),
    _gauge(
        "disk_needed_bytes", "Free bytes below which no jobs are taken.", lambda s: s.machine.disk_needed_bytes or None
    ),
    _gauge(
        "memory_available_bytes", "Memory of the machine that programs can still get.",
        lambda s: s.machine.memory_free_bytes,
    ),
    _counter(
        "supervisor_cpu_seconds", "Processor time of the worker's own process, without engines.",
        lambda _: sum(psutil.Process().cpu_times()[:2]),
    ),
    _gauge(
        "supervisor_memory_bytes", "Memory of the worker's own process, without engines.",
        lambda _: psutil.Process().memory_info().rss,
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
            for values, number in spec.samples(status):
                made.add_metric((status.name, *values), float(number))
            yield made


def exposition(read: Callable[[], Snapshot]) -> bytes:
    """All metrics in Prometheus' text form."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StatusCollector(read))
    return generate_latest(registry)


def routes(status: StatusBoard) -> list[Route]:
    async def metrics(_: Request) -> Response:
        return Response(exposition(status.snapshot), media_type=CONTENT_TYPE_LATEST)

    return [Route("/metrics", metrics)]
