"""The picture of the rooms."""

import re

import pytest

from tools.draw_rooms import Room, layers, reduced, svg


def test_the_layers_are_those_of_the_import_contract() -> None:
    text = '[[x]]\ntype = "layers"\nlayers = [\n  "w.top",\n  "w.left | w.right",\n]\n'
    assert layers(text) == [["w.top"], ["w.left", "w.right"]]
    with pytest.raises(ValueError, match="no import contract"):
        layers("")


def test_an_arrow_that_a_longer_path_implies_is_left_out() -> None:
    edges = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert reduced(edges) == {"a": {"b"}, "b": {"c"}, "c": set()}


def test_every_room_is_drawn_and_no_arrow_leads_to_the_floor() -> None:
    rows = [[Room("top", "Uses <all>.", floor=False)], [Room("mid", "", floor=False)], [Room("low", "", floor=True)]]
    picture = svg(rows, {"top": {"mid", "low"}, "mid": {"low"}, "low": set()})
    assert re.findall(r"font-weight[^>]*>(\w+)<", picture) == ["top", "mid", "low"]
    assert picture.count("marker-end") == 1
    assert "Uses &lt;all&gt;." in picture
