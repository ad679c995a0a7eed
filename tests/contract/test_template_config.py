"""The template an owner copies, and the documentation, against the schema."""

import re
from pathlib import Path

import pytest
import yaml

from tools.config_reference import config_reference
from worker.config.key_types import Effect, key_doc
from worker.config.load import load_config
from worker.config.schema import FIELDS, BridgeData

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "bridgeData_template.yaml"
#: A key that waits to be uncommented: `#key: value`; prose has a space behind the `#`.
WAITING = re.compile(r"^#(?=[a-z0-9_]+:)", re.MULTILINE)
EFFECTIVE = {name for name, field in BridgeData.model_fields.items() if key_doc(field).effect is not Effect.NONE}


@pytest.fixture(scope="module")
def template():
    return TEMPLATE.read_text(encoding="utf-8")


def test_the_template_gives_no_warning():
    assert load_config(TEMPLATE, environment={}).warnings == ()


def test_the_template_names_every_key_with_an_effect_once(template):
    names = re.findall(r"^#?([a-z0-9_]+):", template, re.MULTILINE)
    assert sorted(names) == sorted(EFFECTIVE)


def test_keys_that_wait_to_be_uncommented_show_their_defaults(template, tmp_path):
    waiting = set(yaml.safe_load(WAITING.sub("", template))) - set(yaml.safe_load(template))
    file = tmp_path / "bridgeData.yaml"
    file.write_text(WAITING.sub("", template), encoding="utf-8")
    loaded = load_config(file, environment={})
    assert loaded.warnings == ()
    assert {name: getattr(loaded.data, name) for name in waiting} == {
        name: BridgeData.model_fields[name].default for name in waiting
    }


def test_a_newcomer_meets_name_key_and_models_first(template):
    assert re.findall(r"^([a-z0-9_]+):", template, re.MULTILINE)[:3] == ["dreamer_name", "api_key", "models_to_load"]


def test_the_template_sets_what_owners_have_come_to_expect():
    data = load_config(TEMPLATE, environment={}).data
    assert data.models_to_load == ("top 2",)
    assert data.models_to_skip == ("pix2pix", "SDXL_beta::stability.ai#6901", "A to Zovya RPG")
    assert (data.max_power, data.stats_output_frequency, data.cache_home) == (8, 20, "./models/")
    assert data.allow_painting
    assert data.allow_post_processing


def test_the_page_about_the_settings_is_what_its_generator_writes():
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == config_reference(), "run: make pages"


def test_the_page_about_the_settings_has_every_key_and_names_every_alias():
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for name, key in FIELDS.items():
        assert f"`{name}`" in page
        assert f"\n| `{key}` |" in page
