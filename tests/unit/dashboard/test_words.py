import re
from pathlib import Path

import pytest

from worker.dashboard import site
from worker.dashboard.charts import HEIGHT, WIDTH, jobs_chart, kudos_chart
from worker.dashboard.words import NONE, at, marked, number, plural, rough_span, size, span
from worker.status.snapshot import HourOfWork, Tally

CSS = (Path(site.__file__).parent / "static" / "page.css").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, NONE), (0, "0"), (0.04, "0.0"), (8.14, "8.1"), (9, "9"), (999.6, "1\u202f000"),
     (1234567.8, "1\u202f234\u202f568")],
)  # fmt: skip
def test_numbers_are_short_and_read_in_groups(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, NONE), (0.04, "0.0 s"), (9.9, "9.9 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3725, "1 h 02 min"),
     (90000, "1 d 1 h")],
)  # fmt: skip
def test_spans_have_two_units_at_most(seconds, text):
    assert span(seconds) == text


def test_other_words():
    assert rough_span(30) == "less than a minute"
    assert rough_span(7300) == "2 h"
    assert size(6_300_000_000) == "5.9 GiB"
    assert plural(1, "job") == "1 job"
    assert plural(2, "hour") == "2 hours"
    assert re.fullmatch(r"\d\d:\d\d", at(1_000_000.0, 1_000_000.0))
    assert re.fullmatch(r"\d{1,2} \w+ \d\d:\d\d", at(1_000_000.0, 2_000_000.0))


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("Run `a <b>`.", "Run <code>a &lt;b&gt;</code>."),
        ("<i>`", "&lt;i&gt;`"),
        ("a ` b ` c ` <d>", "a ` b ` c ` &lt;d&gt;"),
        ("``", "<code></code>"),
    ],
)
def test_what_stands_between_backticks_is_code_and_nothing_is_markup(text, html):
    assert marked(text) == html


def hours(*kudos):
    return [HourOfWork(3600.0 * index, Tally(int(each), 0, 0, each)) for index, each in enumerate(kudos)]


def test_a_chart_says_in_words_what_its_bars_show():
    chart = kudos_chart(hours(0, 10, 1234, 5))
    assert chart.description.startswith("1\u202f249 kudos in 4 hours; the best hour was ")
    assert "1\u202f234" in chart.description
    assert len(chart.bars) == 3
    assert max(chart.bars, key=lambda bar: bar.height).says.endswith("1\u202f234 kudos")


@pytest.mark.parametrize("kudos", [(), (0,), (0.2,), (1,), (3, 7), (1e12, 1), tuple(range(24))])
def test_every_bar_and_line_lies_within_the_chart(kudos):
    for chart in (kudos_chart(hours(*kudos)), jobs_chart(hours(*kudos))):
        assert all(0 <= bar.x <= bar.x + bar.width <= WIDTH for bar in chart.bars)
        assert all(0 <= bar.y <= bar.y + bar.height <= HEIGHT for bar in chart.bars)
        assert all(0 <= y <= HEIGHT for y, _ in chart.scale)
        assert len(chart.scale) >= 2


def luminance(colour):
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1])
def test_the_colours_of_text_and_controls_differ_enough_from_their_grounds(scheme):
    """What WCAG 2.2 asks for at level AA: 4.5 for text, 3 for controls and shapes that mean something."""
    blocks = re.findall(r":root \{(.*?)\n\s*\}", CSS, re.DOTALL)[:2]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[0]))
    if scheme:
        colours |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[1]))
    grounds = [colours[name] for name in ("ground", "sheet")]
    for name in ("text", "quiet", "accent", "warn", "bad"):
        assert all(contrast(colours[name], ground) >= 4.5 for ground in grounds), name
    for ink, ground in (("on-accent", "accent"), ("text", "accent-soft"), ("text", "warn-soft"), ("text", "bad-soft"),
                        ("accent", "warn-soft")):  # fmt: skip
        assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    assert all(contrast(colours["edge"], ground) >= 3 for ground in grounds)
