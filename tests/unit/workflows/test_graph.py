import pytest

from worker.workflows.graph import (
    Graph,
    Input,
    Link,
    as_link,
    copied,
    dangling,
    links,
    pruned,
    renamed,
    rewire,
    splice,
    titles,
    with_pinned,
)


def graph() -> Graph:
    """A loader that feeds two samplers, and one picture."""
    return {
        "1": {"class_type": "Loader", "inputs": {"name": "x"}, "_meta": {"title": "loader"}},
        "2": {"class_type": "Sampler", "inputs": {"model": ["1", 0]}, "_meta": {"title": "first"}},
        "3": {"class_type": "Sampler", "inputs": {"model": ["1", 0], "latent": ["2", 0]}, "_meta": {"title": "second"}},
        "4": {"class_type": "Decode", "inputs": {"samples": ["3", 0], "vae": ["1", 2]}},
    }


def lora(node_id: str) -> Graph:
    return {node_id: {"class_type": "Lora", "inputs": {"strength": 1.0}}}


def put_lora(target: Graph, ports: dict[str, Link], node_id: str) -> None:
    splice(target, ports, lora(node_id), takes={"model": [Input(node_id, "model")]}, gives={"model": Link(node_id, 0)})


@pytest.mark.parametrize(
    ("value", "link"),
    [
        (["1", 0], Link("1", 0)),
        (("1", 0), Link("1", 0)),
        (["1", "0"], None),
        ([1, 0], None),
        (["1"], None),
        ("1", None),
        ([], None),
    ],
)
def test_a_link_is_a_node_and_an_output(value: object, link: Link | None) -> None:
    assert as_link(value) == link


def test_titles_lead_to_every_node_that_carries_them() -> None:
    assert titles(graph()) == {"loader": ["1"], "first": ["2"], "second": ["3"], "": ["4"]}


def test_a_copy_may_be_changed() -> None:
    original = graph()
    copy = copied(original, without={"4"})
    copy["1"]["inputs"]["name"] = "y"
    assert original == graph()
    assert list(copy) == ["1", "2", "3"]


def test_renaming_renames_links_within_and_leaves_those_to_the_outside() -> None:
    piece: Graph = {
        "a": {"class_type": "A", "inputs": {"x": ["b", 1], "y": ["1", 0]}},
        "b": {"class_type": "B", "inputs": {}},
    }
    assert [*links(renamed(piece, {"a": "p-a", "b": "p-b"}))] == [
        (Input("p-a", "x"), Link("p-b", 1)),
        (Input("p-a", "y"), Link("1", 0)),
    ]


def test_rewiring_reaches_every_consumer_but_the_excepted() -> None:
    changed = graph()
    rewire(changed, {Link("1", 0): Link("9", 1)}, beside={"3"})
    assert changed["2"]["inputs"]["model"] == ["9", 1]
    assert changed["3"]["inputs"]["model"] == ["1", 0]
    assert changed["4"]["inputs"]["vae"] == ["1", 2]


def test_a_spliced_piece_feeds_every_consumer_its_source_had() -> None:
    target, ports = graph(), {"model": Link("1", 0)}
    put_lora(target, ports, "lora-1")
    assert target["lora-1"]["inputs"] == {"strength": 1.0, "model": ["1", 0]}
    assert target["2"]["inputs"]["model"] == target["3"]["inputs"]["model"] == ["lora-1", 0]
    assert ports == {"model": Link("lora-1", 0)}


def test_pieces_follow_one_another() -> None:
    target, ports = graph(), {"model": Link("1", 0)}
    put_lora(target, ports, "lora-1")
    put_lora(target, ports, "lora-2")
    assert target["lora-2"]["inputs"]["model"] == ["lora-1", 0]
    assert target["3"]["inputs"]["model"] == ["lora-2", 0]


def test_ports_with_one_source_move_together() -> None:
    target, ports = graph(), {"model": Link("1", 0), "base_model": Link("1", 0)}
    put_lora(target, ports, "lora-1")
    assert ports["base_model"] == Link("lora-1", 0)


def test_a_port_can_stand_in_for_another() -> None:
    target = graph()
    ports = {"model": Link("1", 0), "sampled": Link("2", 0)}
    splice(target, ports, {}, takes={}, gives={"sampled": "model"})
    assert target["3"]["inputs"]["latent"] == ["1", 0]
    assert ports["sampled"] == Link("1", 0)


def test_two_replacements_at_once_do_not_chase_one_another() -> None:
    target = graph()
    ports = {"model": Link("1", 0), "sampled": Link("2", 0)}
    splice(target, ports, lora("x"), takes={}, gives={"sampled": "model", "model": Link("x", 0)})
    assert target["3"]["inputs"] == {"model": ["x", 0], "latent": ["1", 0]}
    assert ports == {"model": Link("x", 0), "sampled": Link("1", 0)}


def test_a_port_only_the_piece_gives_is_new() -> None:
    target, ports = graph(), {"model": Link("1", 0)}
    splice(target, ports, lora("x"), takes={}, gives={"mask": Link("x", 1)})
    assert ports["mask"] == Link("x", 1)
    assert target == {**graph(), **lora("x")}


def test_an_unknown_port_is_an_error() -> None:
    with pytest.raises(KeyError):
        splice(graph(), {}, lora("x"), takes={"model": [Input("x", "model")]}, gives={})


def test_dangling_links_are_found() -> None:
    assert dangling(graph()) == []
    assert dangling(copied(graph(), without={"2"})) == [(Input("3", "latent"), Link("2", 0))]


def test_pruning_keeps_what_is_needed_in_its_order() -> None:
    assert list(pruned(graph(), ["3"])) == ["1", "2", "3"]
    assert list(pruned(graph(), ["2"])) == ["1", "2"]
    with pytest.raises(KeyError):
        pruned(copied(graph(), without={"1"}), ["2"])


def test_a_pinned_port_stays_what_the_template_gave() -> None:
    ports = with_pinned({"model": Link("1", 0)})
    put_lora(graph(), ports, "lora")
    assert ports == {"model": Link("lora", 0), "template.model": Link("1", 0)}
