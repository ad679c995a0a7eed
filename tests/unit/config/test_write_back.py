"""Settings written back: the values change, and nothing else does."""

import os
import stat
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from worker.config import write_back
from worker.config.load import TEMPLATE, load_config
from worker.config.write_back import change_settings, earlier_versions, with_changes, write_settings
from worker.errors import ConfigError

OWN = """\
# mine
max_power:   8   # small
models_to_load:  # the good ones
    - 'TOP 3'   # popular
    # - Flux
    - "Deliberate"

# end of models
dreamer_name: "Fox # 1"
blacklist: [a, "b, c"]
"""


@pytest.mark.parametrize(
    ("changes", "old", "new"),
    [
        pytest.param({"max_power": 32}, "max_power:   8   # small", "max_power: 32   # small", id="number"),
        pytest.param({"dreamer_name": "Äther"}, '"Fox # 1"', '"Äther"', id="text with a hash sign"),
        pytest.param({"blacklist": []}, '[a, "b, c"]', "[]", id="flow list"),
        pytest.param({"models_to_load": ["TOP 3"]}, '    - "Deliberate"\n', "", id="one element less"),
        pytest.param(
            {"models_to_load": ["TOP 3", "Deliberate", "C"]},
            '"Deliberate"\n',
            '"Deliberate"\n    - "C"\n',
            id="one more",
        ),
        pytest.param({"cache_home": r"D:\ai models"}, None, "cache_home: 'D:\\ai models'", id="windows path"),
    ],
)
def test_only_the_value_changes(changes, old, new):
    changed = with_changes(OWN, changes)
    if old is not None:
        assert changed == OWN.replace(old, new)
    else:
        assert changed.startswith(OWN)
        assert changed.endswith(f"{new}\n")


def test_comments_inside_a_list_survive_its_replacement():
    changed = with_changes(OWN, {"models_to_load": ["Other"]})
    assert 'models_to_load:  # the good ones\n    # - Flux\n  - "Other"\n\n# end of models' in changed


def test_a_key_that_waits_as_a_comment_is_taken_into_use_where_it_stands():
    text = TEMPLATE.read_text("utf-8")
    changed = with_changes(text, {"model_stickiness": 0.5, "devices": [0, 1]})
    assert changed == text.replace("#model_stickiness: 0.0", "model_stickiness: 0.5").replace(
        "#devices: auto", "devices:\n  - 0\n  - 1"
    )


def test_the_last_of_repeated_keys_and_other_spellings_are_the_ones_set():
    text = "dreamer_worker_name: a\ndreamer_name: b\n"
    assert with_changes(text, {"dreamer_name": "c"}) == 'dreamer_worker_name: a\ndreamer_name: "c"\n'
    assert with_changes("dreamer_worker_name: a\n", {"dreamer_name": "c"}) == 'dreamer_worker_name: "c"\n'


@pytest.mark.parametrize(
    "text",
    [
        "max_power: &p 8\nqueue_size: *p\n",
        "max_power: 8\r\nqueue_size: 1\r\n",
        "max_power: 8\nqueue_size: 1",
        "\ufeffmax_power: 8\nqueue_size: 1\n",
        "max_power:\nqueue_size: 1\n",
        "max_power: # nothing\nqueue_size: 1\n",
        "{max_power: 8, queue_size: 1}\n",
        "max_power: >\n  8\n\nqueue_size: 1\n",
        "queue_size: 1\nmax_power: 8\n...\n",
        "queue_size: 1\n? max_power\n: 8\n",
        "",
        "# nothing\n",
    ],
)
def test_odd_files_change_rightly_or_not_at_all(text):
    try:
        changed = with_changes(text, {"max_power": 64})
    except ConfigError as error:
        assert error.remedy  # noqa: PT017 - either answer is right
        return
    values = yaml.safe_load(changed)
    assert values["max_power"] == 64
    assert values.get("queue_size", 1) in (1, 8)
    assert "\r\n" in changed or "\r\n" not in text


ELEMENTS = st.lists(st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=12).filter(str.strip))


@given(ELEMENTS, ELEMENTS, st.text(st.characters(exclude_categories=["C"]), max_size=20))
def test_any_text_and_list_comes_back_as_it_was_set(first, second, name):
    text = with_changes(OWN, {"models_to_load": first, "dreamer_name": name})
    text = with_changes(text, {"models_to_load": second})
    values = yaml.safe_load(text)
    assert values["models_to_load"] == second
    assert (values["dreamer_name"], values["max_power"], values["blacklist"]) == (name, 8, ["a", "b, c"])
    assert "# end of models" in text


def test_the_file_as_it_was_is_kept_and_both_are_private(tmp_path):
    file = tmp_path / "bridgeData.yaml"
    assert write_settings(file, OWN) is None
    kept = change_settings(file, {"max_power": 18})
    assert kept is not None
    assert kept.read_text("utf-8") == OWN
    assert load_config(file, environment={}).data.max_power == 18
    if os.name == "posix":
        assert [stat.S_IMODE(each.stat().st_mode) for each in (file, kept)] == [0o600, 0o600]
    assert change_settings(file, {"max_power": 18}) is None


def test_no_more_than_ten_earlier_versions_are_kept_and_the_newest_stay(tmp_path):
    file = tmp_path / "bridgeData.yaml"
    write_settings(file, "max_power: 1\n")
    for power in range(2, 20):
        change_settings(file, {"max_power": power})
    versions = earlier_versions(file)
    assert len(versions) == write_back.KEPT
    assert versions[-1].read_text("utf-8") == "max_power: 18\n"


def test_a_write_that_fails_leaves_the_file_and_no_rest(tmp_path, monkeypatch):
    file = tmp_path / "bridgeData.yaml"
    write_settings(file, OWN)

    def full(_self: Path, _target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        change_settings(file, {"max_power": 18})
    assert file.read_text("utf-8") == OWN
    assert not list(tmp_path.glob(".bridgeData*"))


def test_a_file_that_is_mounted_by_itself_is_written_in_place(tmp_path, monkeypatch):
    file = tmp_path / "bridgeData.yaml"
    write_settings(file, OWN)

    def mounted(_self: Path, _target: Path) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(Path, "replace", mounted)
    change_settings(file, {"max_power": 18})
    assert "max_power: 18" in file.read_text("utf-8")


def test_a_link_to_the_settings_stays_a_link(tmp_path):
    real = tmp_path / "real.yaml"
    real.write_text(OWN, "utf-8")
    link = tmp_path / "bridgeData.yaml"
    link.symlink_to(real)
    change_settings(link, {"max_power": 18})
    assert link.is_symlink()
    assert "max_power: 18" in real.read_text("utf-8")


@pytest.mark.parametrize(
    "text",
    [
        "a\nnsfw: false", "a: b", "x # y", "'", '"', "it's", "]", "}, {", "- a", "*alias", "&anchor", "%TAG", "@at",
        "!!python/object/apply:os.system [id]", "`tick`", "|", ">", "? a", ": a", "null", "~", "no", "007", "1e3",
        "0x1f", "12:30:00", "2001-01-01", "<<", "--- a", "...", "#", "\u2028nsfw: false", "\x85nsfw: false",
        "\u201cquoted\u201d", "a,", "a\\nb", "${HOME}", "\U0001f600", "[a, b]", "{a: b}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("before", ["blacklist: [x]\nnsfw: true\n", "blacklist:\n  - x\nnsfw: true\n", "nsfw: true\n"])
def test_a_value_is_one_value_whatever_it_contains(before, text):
    values = yaml.safe_load(with_changes(before, {"blacklist": [text, "y"]}))
    assert values == {"blacklist": [text, "y"], "nsfw": True}


def test_a_commented_key_in_the_midst_of_a_list_is_no_place_for_it():
    before = "blacklist:\n  - a\n#max_power: 8\n  - b\n"
    assert with_changes(before, {"max_power": 32}).startswith(before)


def test_comments_inside_brackets_move_above_the_key():
    before = "nsfw: true\nblacklist: [\n  a, # first\n  'b # no'  # second\n]\n"
    assert with_changes(before, {"blacklist": ["c"]}) == 'nsfw: true\n# first\n# second\nblacklist:\n  - "c"\n'


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_encoding_mark_and_line_ends_stay(tmp_path, encoding, mark, end):
    file = tmp_path / "bridgeData.yaml"
    file.write_bytes(f"{mark}max_power: 8{end}# für mich{end}blacklist:{end}  - a{end}".encode(encoding))
    change_settings(file, {"max_power": 16, "blacklist": ["a", "ö"]})
    wanted = f'{mark}max_power: 16{end}# für mich{end}blacklist:{end}  - a{end}  - "ö"{end}'
    assert file.read_bytes() == wanted.encode(encoding)


def test_of_a_version_that_the_full_disk_does_not_take_nothing_is_left(tmp_path, monkeypatch):
    file = tmp_path / "bridgeData.yaml"
    file.write_text("max_power: 8\n", encoding="utf-8")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("worker.config.write_back.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        change_settings(file, {"max_power": 16})
    assert [each.name for each in tmp_path.iterdir()] == ["bridgeData.yaml"]
    assert file.read_text(encoding="utf-8") == "max_power: 8\n"
