"""The status as a table with bars, for the live view at the bottom of a terminal. Pure."""

from collections.abc import Iterable, Iterator
from itertools import islice

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from worker.as_typed import as_typed
from worker.clock import duration
from worker.console.status import account_text, image_size, notices
from worker.status.snapshot import DownloadView, Phase, SlotView, Snapshot
from worker.units import GIB, MIB, counted
from worker.untrusted.text import visible

#: Columns of a terminal below which a slot's row leaves out its device, and below which its bar.
ROOM_FOR_DEVICE, ROOM_FOR_BAR = 100, 50
#: Columns of a bar.
BAR_COLUMNS = 16
MOST_NOTICES = 5
#: Rows of slots and downloads shown at least, and lines that everything else takes.
LEAST_ROWS, OTHER_LINES = 2, 8
STYLES = {"working": "green", "ready": "cyan", "starting": "yellow", "resting": "red", "stuck": "red", "stopped": "dim"}
PHASES = {Phase.STARTING: "yellow", Phase.SERVING: "green", Phase.PAUSED: "yellow", Phase.FINISHING: "yellow"}


def status_table(status: Snapshot, *, width: int, height: int) -> RenderableType:
    """The status for a terminal of so many columns and lines; at most half of the lines, in a small one more."""
    rows = max(LEAST_ROWS, height // 2 - OTHER_LINES)
    parts: list[RenderableType] = [
        Rule(characters="-", style="dim"),
        _headline(status),
        _slots(status.slots, rows, width),
    ]
    parts += [_line(text) for text in (_jobs(status), account_text(status)) if text]
    if status.downloads:
        parts.append(_downloads(status.downloads, max(1, rows // 2), width))
    # Whole sentences: why nothing comes, and until when, is what an owner looks for.
    parts += [Text(visible(as_typed(text)), style="yellow") for text in islice(notices(status), MOST_NOTICES)]
    return Group(*parts)


def _line(text: str, style: str = "") -> Text:
    return Text(visible(text), style=style, no_wrap=True, overflow="ellipsis")


def _headline(status: Snapshot) -> Text:
    total, session = status.session.total, status.session
    line = Text(visible(status.name), style="bold", no_wrap=True, overflow="ellipsis")
    line.append(f"  {status.phase.value}", PHASES[status.phase])
    # In a narrow window the end is cut off: what it earns is not.
    line.append(f"  {counted(total.jobs, 'job')}, {total.kudos:.0f} kudos", "not bold")
    if session.kudos_per_hour is not None:
        line.append(f", {session.kudos_per_hour:.0f} an hour", "not bold")
    if total.faulted:
        line.append(f"  {total.faulted} faulted", "red")
    line.append(f"  {duration(session.uptime_s)}", "not bold")
    return line


def _slots(slots: Iterable[SlotView], rows: int, width: int) -> Table:
    all_slots = list(slots)
    # Those that work come first where not all can be shown.
    shown = all_slots if len(all_slots) <= rows else sorted(all_slots, key=lambda slot: slot.job is None)[: rows - 1]
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(min_width=len(str(len(all_slots))))
    if width >= ROOM_FOR_DEVICE:
        table.add_column(no_wrap=True)
    table.add_column(ratio=2, no_wrap=True)
    table.add_column(ratio=3, no_wrap=True)
    # Columns of nothing but blanks confuse the shares of the others.
    if any(slot.job for slot in shown):
        for _ in range(3 if width >= ROOM_FOR_BAR else 2):
            table.add_column(justify="right", no_wrap=True)
    for slot in sorted(shown, key=lambda slot: slot.number):
        table.add_row(*_slot_cells(slot, width))
    if left := len(all_slots) - len(shown):
        table.add_row("", *([""] if width >= ROOM_FOR_DEVICE else []), Text(f"and {left} more", style="dim"))
    return table


def _slot_cells(slot: SlotView, width: int) -> Iterator[RenderableType]:
    yield Text(str(slot.number), style="dim")
    if width >= ROOM_FOR_DEVICE:
        yield Text(visible(slot.device), style="dim", no_wrap=True)
    job = slot.job
    if job is None:
        yield _line(slot.state, STYLES.get(slot.state, ""))
        detail = f"has {', '.join(slot.models[:2])}" if slot.models else ""
        if slot.state in {"resting", "stuck"}:
            detail = slot.reason
        yield _line(detail, "dim")
        return
    yield _line(visible(job.model), "green")
    yield _line(", ".join((image_size(job), *job.details)))
    share = job.step / job.of_steps if job.of_steps else 0.0
    if width >= ROOM_FOR_BAR:
        yield ProgressBar(
            total=1.0, completed=share, width=BAR_COLUMNS if width >= ROOM_FOR_DEVICE else BAR_COLUMNS // 2
        )
    yield Text(f"{share:.0%}")
    yield Text("" if job.left_s is None else duration(job.left_s), style="dim")


def _downloads(downloads: tuple[DownloadView, ...], rows: int, width: int) -> Table:
    table = Table.grid(padding=(0, 1))
    for file in downloads[:rows]:
        share = file.done_bytes / file.total_bytes if file.total_bytes else 0.0
        cells: list[RenderableType] = [
            _line(file.name),
            Text(f"{max(file.total_bytes, file.done_bytes) / GIB:.1f} GiB"),
        ]
        if width >= ROOM_FOR_BAR and file.total_bytes:
            cells.append(ProgressBar(total=1.0, completed=share, width=BAR_COLUMNS // 2))
        cells.append(Text(f"{share:.0%}" if file.total_bytes else "", justify="right", no_wrap=True))
        if file is downloads[0]:
            left = f", {duration(file.left_s)} left" if file.left_s is not None else ""
            cells.append(Text(f"{file.bytes_per_s / MIB:.1f} MiB/s{left}", style="dim", no_wrap=True))
        table.add_row(*cells)
    return table


def _jobs(status: Snapshot) -> str:
    served = sum(model.state == "served" for model in status.models)
    models = f"{served} of {len(status.models)} models" if status.models else "no models"
    return f"{status.waiting} waiting, {status.delivering} being delivered; {models} served"
