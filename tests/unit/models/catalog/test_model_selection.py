"""From settings to lists, figures and models."""

import json

import httpx
import pytest

from worker.config.environment import download_tokens
from worker.config.schema import BridgeData
from worker.errors import ConfigError
from worker.models.catalog.model_selection import (
    custom_file_of,
    custom_of,
    load_lists,
    load_month,
    select_from_cache,
)


def config(**settings):
    return BridgeData.model_validate(settings)


def own(name):
    return {"name": name, "baseline": "stable_diffusion_xl", "filepath": f"{name}.safetensors"}


@pytest.fixture
def lists(tmp_path):
    folder = tmp_path / "lists"
    folder.mkdir()
    entry = {"name": "A", "baseline": "stable diffusion 1", "config": {"files": [{"path": "a.ckpt"}]}}
    (folder / "stable_diffusion.json").write_text(json.dumps({"A": entry}))
    (folder / "stable_diffusion.beta.json").write_text(json.dumps({"B": {**entry, "name": "B"}}))
    return folder


async def ask(answer, call):
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        return await call(http)


async def test_models_on_trial_are_known_when_a_branch_is_named(lists, tmp_path):
    assert list((await load_lists(config(model_reference=str(lists)), tmp_path, None)).images) == ["A"]
    settings = config(model_reference=str(lists), model_reference_branch="qwen")
    assert list((await load_lists(settings, tmp_path, None)).images) == ["A", "B"]


async def test_an_address_is_asked_for_each_list_and_a_branch_for_those_on_trial(lists, tmp_path):
    asked = []

    def answer(request):
        asked.append(str(request.url))
        name = request.url.path.rpartition("/")[2]
        return (
            httpx.Response(200, content=(lists / name).read_bytes()) if (lists / name).exists() else httpx.Response(404)
        )

    settings = config(model_reference="https://mine/{x}/", model_reference_branch="qwen")
    reference = await ask(answer, lambda http: load_lists(settings, tmp_path, http))
    assert list(reference.images) == ["A", "B"]
    assert "https://mine/%7Bx%7D/stable_diffusion.json" in asked
    asked.clear()
    await ask(answer, lambda http: load_lists(config(model_reference_branch="qwen"), tmp_path / "else", http))
    assert any("/refs/heads/qwen/stable_diffusion.json" in url for url in asked)


async def test_a_folder_without_lists_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no list of image models"):
        await load_lists(config(model_reference=str(tmp_path)), tmp_path, None)


async def test_the_months_figures_come_from_the_horde_and_only_where_they_are_needed(tmp_path):
    asked = []

    def answer(request):
        asked.append(str(request.url))
        return httpx.Response(200, json={"month": {"A": 3}})

    settings = config(horde_url="https://horde/api/")
    assert await ask(answer, lambda http: load_month(settings, tmp_path, http, ["ALL"])) is None
    assert await ask(answer, lambda http: load_month(settings, tmp_path, http, ["TOP 1"])) == {"A": 3}
    assert [url.partition("?")[0] for url in asked] == ["https://horde/api/v2/stats/img/models"]
    assert await load_month(settings, tmp_path, None, ["TOP 1"]) == {"A": 3}


async def test_figures_of_the_owners_own_count_if_they_make_sense(lists, tmp_path):
    settings = config(model_reference=str(lists))
    (lists / "statistics.json").write_text('{"month": {"A": 2}}')
    assert await load_month(settings, tmp_path, None, ["TOP 1"]) == {"A": 2}
    (lists / "statistics.json").write_text('{"year": {}}')
    assert await load_month(settings, tmp_path, None, ["TOP 1"]) is None


def test_own_models_are_those_of_the_settings_and_of_the_named_file(tmp_path):
    file = tmp_path / "own.json"
    entry = {"name": "F", "baseline": "stable_diffusion_1", "config": {"files": [{"path": "f.safetensors"}]}}
    file.write_text(json.dumps({"F": entry}))
    settings = config(custom_models=[own("S")])
    assert set(custom_of(settings, {}).records) == {"S"}
    assert set(custom_of(settings, {"HORDELIB_CUSTOM_MODELS": str(file)}).records) == {"S", "F"}
    assert custom_file_of({"HORDELIB_CUSTOM_MODELS": str(file)}) is None
    assert custom_file_of({}).name == "custom_models.json"


def test_what_will_be_served_is_read_from_what_is_known_without_asking(lists, tmp_path):
    custom = custom_of(config(custom_models=[own("S")]), {})
    settings = config(model_reference=str(lists), models_to_load=["ALL"])
    assert {record.name for record in select_from_cache(settings, tmp_path, custom).records} == {"A", "B", "S"}
    nowhere = config(model_reference=str(tmp_path / "none"))
    assert [record.name for record in select_from_cache(nowhere, tmp_path, custom).records] == ["S"]


def test_tokens_go_to_the_hosts_that_want_them():
    settings = config(civitai_api_token="c")
    assert download_tokens(settings, {"HF_TOKEN": "h"}) == {"civitai.com": "c", "huggingface.co": "h"}
    assert download_tokens(config(), {}) == {}
