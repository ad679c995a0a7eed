import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.config.key_types import Effect, allowed_values, key_doc, split_list
from worker.config.schema import BridgeData


@pytest.mark.parametrize(
    ("written", "elements"),
    [
        ("", []),
        ("[]", []),
        ("['']", []),
        ("TOP 3", ["TOP 3"]),
        ("TOP 3, Deliberate", ["TOP 3", "Deliberate"]),
        ("a; b ;c,", ["a", "b", "c"]),
        ("['TOP 3', 'AlbedoBase XL (SDXL)']", ["TOP 3", "AlbedoBase XL (SDXL)"]),
        ('["one, two", "three; four"]', ["one, two", "three; four"]),
        ("['one, two', \"three; four\"]", ["one, two", "three; four"]),
        ("it's, what it is", ["it's", "what it is"]),
        ("'it's', fine", ["it's", "fine"]),
        (r"['C:\models', 'D:\more']", [r"C:\models", r"D:\more"]),
        ("[a, b", ["a", "b"]),
    ],
)
def test_a_list_in_one_text_is_split_as_written(written, elements):
    assert split_list(written) == elements


@settings(deadline=None)  # the machine may be busy
@given(st.text())
def test_splitting_never_fails_and_leaves_no_empty_element(written):
    listed = split_list("," + written)
    assert all(element.strip() for element in listed)


@settings(deadline=None)  # the machine may be busy
@given(
    st.lists(st.text(alphabet=st.characters(exclude_characters="\"'[]\\,;", exclude_categories=("Z", "C")), min_size=1))
)
def test_elements_in_quotes_come_back_whole(elements):
    joined = [f"{element}, {element};" for element in elements]
    assert split_list("[" + ", ".join(f"'{element}'" for element in joined) + "]") == joined


def test_every_key_has_a_description_and_says_when_a_change_counts():
    for name, field in BridgeData.model_fields.items():
        told = key_doc(field)
        assert told.text.endswith("."), name
        assert isinstance(told.effect, Effect), name
        assert allowed_values(field), name


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("nsfw", "true or false"),
        ("max_threads", "a whole number from 1 to 16"),
        ("model_stickiness", "a number from 0 to 1"),
        ("preload_timeout", "a whole number, 15 or more"),
        ("comfyui_path", "a path"),
        ("dreamer_name", "a text of at most 100 characters"),
        ("censorlist", "a list of texts"),
    ],
)
def test_what_a_key_allows_follows_from_its_type(key, text):
    assert allowed_values(BridgeData.model_fields[key]) == text
