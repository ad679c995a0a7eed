"""What the extra texts of a QR-code job mean, and how its steps are divided."""

import pytest

from worker.workflows.qr import (
    DEFAULT_TEXT,
    DRAWERS,
    patterns_step,
    patterns_strength,
    read_qr,
    settled_step,
    whole_strength,
)
from worker.workflows.request import QrCode


def test_without_any_text_it_is_haidras_address_in_the_middle():
    assert read_qr({}, "a garden") == QrCode(DEFAULT_TEXT, 0, 0, 1, "square", "a garden")


def test_every_reference_is_read():
    texts = {
        "qr_code": "aihorde.net", "protocol": "Https", "module_drawer": "Gapped Square", "x_offset": "64",
        "y_offset": " 128 ", "qr_border": "2", "function_layer_prompt": "a pond",
    }  # fmt: skip
    assert read_qr(texts, "a garden") == QrCode("https://aihorde.net", 64, 128, 2, "gapped square", "a pond")


@pytest.mark.parametrize(
    ("texts", "field", "value"),
    [
        ({"qr_text": "hello"}, "text", "hello"),
        ({"qr_text": "https://a.b", "protocol": "http"}, "text", "https://a.b"),
        ({"qr_text": "a.b", "protocol": "ftp"}, "text", "a.b"),
        ({"x_offset": "-3"}, "x", 10),
        ({"y_offset": "left"}, "y", 0),
        ({"qr_border": "-1"}, "border", 10),
        ({"qr_border": "1000"}, "border", 64),
        ({"module_drawer": "hearts"}, "drawer", "square"),
    ],
)
def test_what_makes_no_sense_is_mended(texts, field, value):
    assert getattr(read_qr(texts, ""), field) == value


def test_25_steps_are_divided_as_they_always_were():
    assert (patterns_step(25), settled_step(25)) == (1, 11)


@pytest.mark.parametrize("steps", range(1, 101))
def test_the_division_grows_with_the_steps_and_leaves_some_for_each_part(steps):
    assert 0 <= patterns_step(steps) < settled_step(steps) <= max(1, steps - 1)
    assert abs(settled_step(steps) / steps - 11 / 25) < 0.6 / steps or steps < 3


def test_strengths_are_multiples_of_what_was_asked_and_bounded():
    assert (patterns_strength(1.0), whole_strength(1.0)) == (6.0, 1.5)
    assert (patterns_strength(3.0), whole_strength(3.0)) == (10.0, 4.5)


def test_every_drawer_is_known_by_the_name_a_payload_has():
    assert all(read_qr({"module_drawer": drawer.capitalize()}, "").drawer == drawer for drawer in DRAWERS)
