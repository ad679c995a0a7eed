"""A slip in bridgeData.yaml is named in the line where it begins, with what to write instead."""

import pytest

from worker.config.document import read_document
from worker.errors import ConfigError

NAME = "dreamer_name: x1\n"

SLIPS = [
    ('api_key: "aaaaaaaaaaaaaaaaaaaaaa \n' + NAME, 1, "quote is opened and not closed"),
    (NAME + '\n# note\ncache_home: "models\napi_key: "0000000000"\n', 4, "quote is opened and not closed"),
    (NAME + "models_to_load:\n  - 'TOP 2\n  - b\nnsfw: true\n", 3, "quote is opened and not closed"),
    (NAME + 'models_to_load: ["TOP 2, "b"]\n', 2, "text after the closing quote"),
    ("dreamer_name: 'it's me'\n", 1, "text after the closing quote"),
    ("  api_key: aaaaaaaaaaaaaaaaaaaaaa\n" + NAME, 1, "api_key is indented"),
    (NAME + "  nsfw: true\nqueue_size: 1\n", 2, "nsfw is indented"),
    (NAME + "max_power:8\nnsfw: True\n", 2, "space is missing after the colon of max_power"),
    ("max_power:32\n", 1, "space is missing after the colon of max_power"),
    (NAME + "horde_url:https://x\n", 2, "space is missing after the colon of horde_url"),
    ("models_to_load:\n  -TOP 3\nnsfw: true\n", 2, "space is missing after the dash"),
    ("models_to_load:\n  - a\n  -b\n", 3, "space is missing after the dash"),
    (NAME + "max_power:\u00a032\nnsfw: true\n", 2, "no-break space follows the colon"),
    (NAME + "\u00a0max_power: 32\n", 2, "special space is at the start"),
    (NAME + "\u200bmax_power: 32\n", 2, "special space is at the start"),
    ("dreamer_name: \u201cMe\u201d\n", 1, "typographic quotes"),
    ("models_to_load:\n  - \u201eTOP 3\u201c\n", 2, "typographic quotes"),
    ("models_to_load: [a, \u2019b\u2019]\n", 1, "typographic quotes"),
    ("- queue_size: 1\n- max_power: 3\n", 1, "dash before queue_size"),
    ("- queue_size: 1\n" + NAME, 1, "dash before queue_size"),
    (NAME + "- queue_size: 1\n", 2, "dash before queue_size"),
    (NAME + "  - `queue_size: 1`\n", 2, "dash before queue_size"),
    ("api_key = x\nmax_power = 3\n", 1, "equals sign instead of a colon after api_key"),
    (NAME + "max_power 3\nnsfw: true\n", 2, "colon is missing after max_power"),
    ("models_to_load:\n\t- a\n", 2, "indented with a tab"),
    ("models_to_load:\n  - Deliberate,\n  - b\n", 2, "comma at the end"),
    ('models_to_load:\n  - "Deliberate",\n  - "b"\n', 2, "comma at the end"),
    ('"dreamer_name": "x1",\n"max_power": 3,\n', 1, "comma at the end"),
    (NAME + "models_to_load: [a, b\nnsfw: true\n", 2, "closing bracket is missing"),
    (NAME + "blacklist: [\n\n", 2, "a bracket is opened and not closed"),
    ("a: &x {b: c}\n<<: *x\n", 2, "merge key"),
    (NAME + "max_power\uff1a8\n", 2, "colon after max_power is another character"),
    (NAME + "max_power \uff1a 8\nnsfw: true\n", 2, "colon after max_power is another character"),
    ("dreamer_name\u2236 x\n", 1, "colon after dreamer_name is another character"),
    ("<!DOCTYPE html>\n<html><body>404: Not Found</body></html>", 1, "is a web page"),
    ('<?xml version="1.0"?>\n<a/>\n', 1, "is a web page"),
    ("\n\n<html lang='en'>\n  <p>max_power: 8</p>\n", 3, "is a web page"),
    (NAME + "<<<<<<< HEAD\nmax_power: 8\n=======\nmax_power: 9\n>>>>>>> other\n", 2, "marks of a merge"),
    (NAME + "max_power: 8\n=======\nnsfw: true\n", 3, "marks of a merge"),
]


@pytest.mark.parametrize(("text", "line", "what"), SLIPS)
def test_a_slip_is_named_where_it_begins_with_a_remedy(text, line, what):
    with pytest.raises(ConfigError) as caught:
        read_document(text, "b.yaml")
    assert caught.value.message.startswith(f"b.yaml:{line}: ")
    assert what in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize(
    "text",
    [
        'dreamer_name: "a\n  b"\nnsfw: true\n',
        "dreamer_name: it's\n",
        "dreamer_name: 'it''s' # \"\n",
        '"dreamer_name": "x"\n',
        '{"dreamer_name": "x", "max_power": 3}\n',
        "dreamer_name: |\n  max_power:3\n  - queue_size: 1\nnsfw: true\n",
        "models_to_load:\n- a\n- -strange\n- 'b'\n",
        "blacklist: ['a', \"b\"] # c\n",
        "queue_size: -1\n---\n"[:-4],
        "custom_models:\n  - name: x\n    baseline: y\ndevice_settings:\n  - device: 0\n    max_power: 8\n",
        "  dreamer_name: x\n  nsfw: true\n",
        "cache_home: C:\\models\n",
        "models_to_load: [a,\n  b,\n  c]\n",
        "dreamer_name: Me, myself\n",
        "dreamer_name: a\uff1ab\n",
        "models_to_load:\n  - a\uff1ab\n  - '<html>'\n",
        "# =======\ndreamer_name: ======= x\n",
    ],
)
def test_what_is_no_slip_is_read(text):
    assert read_document(text, "b.yaml")


def test_special_spaces_in_a_value_are_read_as_plain_ones():
    assert read_document("models_to_load: [TOP\u00a03]\n", "b.yaml")[0].value == ["TOP 3"]


def test_no_message_shows_the_text_of_a_line():
    for text, _, _ in SLIPS:
        with pytest.raises(ConfigError) as caught:
            read_document(text.replace("x1", "s3cret").replace("aaaa", "s3cret"), "b.yaml")
        assert "s3cret" not in str(caught.value)
