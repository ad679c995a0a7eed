"""The table fits the terminal, says what each engine does, and never hides why nothing comes."""

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from tests.unit.console.views import job_view, snapshot
from worker.console.table import status_table
from worker.status.snapshot import DownloadView, ModelView, PauseView, SlotView, WarningView
from worker.units import GIB

SLOTS = (
    SlotView(1, "GPU 0", "working", job=job_view(slot=1, begun_at=1.0, step=12, of_steps=30, left_s=7.0)),
    SlotView(2, "GPU 1", "ready", models=("AlbedoBase XL (SDXL)",)),
    SlotView(3, "GPU 2", "resting", failures=4, reason="out of memory"),
)
PAUSE = PauseView("faults", "15 images were faulted within an hour.", until=5900.0, remedy="The log says why each was.")


def drawn(status, *, width=80, height=40, encoding="utf-8"):
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, errors="replace", newline="")
    Console(file=file, width=width, force_terminal=True, color_system=None).print(
        status_table(status, width=width, height=height)
    )
    file.flush()
    return raw.getvalue().decode(encoding).splitlines()


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal(width):
    wide = job_view(model="名前" * 30, details=("then RealESRGAN_x4plus",) * 9, slot=1, begun_at=1.0, of_steps=30)
    slots = (*SLOTS, SlotView(4, "GPU 3", "working", job=wide))
    lines = drawn(snapshot(slots=slots, pauses=(PAUSE,), name="n" * 300), width=width)
    assert max(map(cell_len, lines)) <= width


def test_each_engine_has_a_row_with_its_progress_and_the_reason_of_its_trouble():
    lines = drawn(snapshot(slots=SLOTS))
    rows = [line.split() for line in lines[2:5]]
    assert rows[0][:2] == ["1", "Deliberate"]
    assert rows[0][-3:] == ["40%", "7", "s"]
    assert "AlbedoBase" in lines[3]
    assert "out of memory" in lines[4]
    assert "GPU 2" in "".join(drawn(snapshot(slots=SLOTS), width=120))


def test_of_many_engines_those_that_work_are_shown_and_the_others_counted():
    many = tuple(SlotView(number, "GPU 0", "ready") for number in range(2, 40))
    lines = drawn(snapshot(slots=(*many, SLOTS[0])), height=24)
    assert len(lines) <= 12
    assert any("Deliberate" in line for line in lines)
    assert any("and 36 more" in line for line in lines)


def test_why_nothing_comes_is_told_in_whole_sentences_however_narrow_the_terminal():
    text = " ".join(" ".join(drawn(snapshot(slots=SLOTS, pauses=(PAUSE,)), width=40)).split())
    assert "For 15 min more. The log says why each was." in text


def test_a_warning_is_told_with_its_remedy_but_not_beside_a_pause_for_the_same():
    warning = WarningView("maintenance", "In maintenance.", "Leave it.", 0.0)
    assert "In maintenance. Leave it." in drawn(snapshot(warnings=(warning,)))
    pause = PauseView("maintenance", "The Horde says so.")
    assert "In maintenance. Leave it." not in drawn(snapshot(warnings=(warning,), pauses=(pause,)))


def test_downloads_have_a_bar_and_their_speed():
    files = (DownloadView("a.safetensors", GIB, 4 * GIB, 2.5e7, 600.0), DownloadView("b.pt", GIB, 0))
    lines = drawn(snapshot(downloads=files, models=(ModelView("a", "waiting"),)))
    (line,) = [line for line in lines if "a.safetensors" in line]
    assert line.split()[1:3] == ["4.0", "GiB"]
    assert "25%" in line
    assert "10 min left" in line
    assert any("0 of 1 models served" in line for line in lines)


def test_an_encoding_without_lines_and_bars_gets_plain_ones():
    text = "".join(drawn(snapshot(slots=SLOTS), encoding="cp1252"))
    assert "?" not in text
    assert "40%" in text


def test_foreign_text_controls_no_terminal():
    slots = (SlotView(1, "GPU 0", "ready", models=("x\x1b]0;owned\x07\u202e",)),)
    text = "".join(drawn(snapshot(slots=slots, name="[bold]me[/bold]\x1b[2J")))
    assert "\x1b]0" not in text
    assert "\x1b[2J" not in text
    assert "\u202e" not in text
    assert "[bold]me[/bold]" in text


def test_what_it_earns_is_read_in_a_narrow_window_too():
    assert "12 jobs, 300 kudos" in drawn(snapshot(name="Second worker"), width=44)[1]
