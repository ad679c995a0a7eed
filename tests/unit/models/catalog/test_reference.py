"""Fetching the model lists: etags, fall-backs, and the cache that serves when nothing answers."""

import json
import os
import time

import httpx
import pytest

from worker.errors import ConfigError, HostUnreachable
from worker.models.catalog.records import Category
from worker.models.catalog.reference import fetch_reference, read_cache, read_folder

ONE = {"M": {"baseline": "stable diffusion 1", "config": {"files": [{"path": "m.ckpt"}]}}}
AUXILIARY = {"A": {"config": {"files": [{"path": "a.pth"}]}}}
SOURCES = ("https://new/{service_name}", "https://old/{name}.json")


class Web:
    """Answers by address; what is not listed is a 404. Remembers what was asked."""

    def __init__(self, **answers):
        self.answers = {f"https://{key.replace('__', '/')}": value for key, value in answers.items()}
        self.asked = []

    def __call__(self, request):
        self.asked.append(request)
        answer = self.answers.get(str(request.url))
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            name = str(request.url).rsplit("/", 1)[-1]
            return httpx.Response(404) if "image" in name or "stable" in name else httpx.Response(200, json=AUXILIARY)
        if request.headers.get("if-none-match") == '"1"' == answer[1]:
            return httpx.Response(304)
        body, etag = answer
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return httpx.Response(200, content=content, headers={"etag": etag} if etag else {})

    @property
    def http(self):
        return httpx.AsyncClient(transport=httpx.MockTransport(self))


async def fetch(web, cache, **options):
    async with web.http as http:
        return await fetch_reference(http, cache, **{"sources": SOURCES, "fresh_s": 0.0, **options})


async def test_the_service_is_preferred_and_what_it_says_is_kept(tmp_path):
    web = Web(new__image_generation=(ONE, '"1"'))
    reference = await fetch(web, tmp_path)
    assert list(reference.images) == ["M"]
    assert reference.sources[Category.IMAGE] == "https://new/image_generation"
    assert list(read_cache(tmp_path).images) == ["M"]


@pytest.mark.parametrize(
    "answer", [(b"<html>", ""), (b"[" * 200_000, ""), ({}, ""), ({"X": "junk"}, ""), httpx.ConnectError("down")]
)
async def test_a_service_that_gives_nothing_usable_leaves_it_to_the_repository(tmp_path, answer):
    web = Web(new__image_generation=answer, **{"old__stable_diffusion.json": (ONE, "")})
    assert (await fetch(web, tmp_path)).sources[Category.IMAGE] == "https://old/stable_diffusion.json"


async def test_an_unchanged_list_is_not_sent_again(tmp_path):
    web = Web(new__image_generation=(ONE, '"1"'))
    await fetch(web, tmp_path)
    reference = await fetch(web, tmp_path)
    asked = [request for request in web.asked if request.url.path == "/image_generation"]
    assert asked[1].headers["if-none-match"] == '"1"'
    assert list(reference.images) == ["M"]


async def test_a_fresh_cache_is_used_unasked(tmp_path):
    web = Web(new__image_generation=(ONE, '"1"'))
    await fetch(web, tmp_path)
    count = len(web.asked)
    await fetch(web, tmp_path, fresh_s=600.0)
    assert len(web.asked) == count
    for path in tmp_path.iterdir():
        os.utime(path, (1, 1))
    await fetch(web, tmp_path, fresh_s=600.0)
    assert len(web.asked) > count


async def test_a_list_dated_by_a_clock_that_was_ahead_is_not_fresh_until_that_day(tmp_path):
    web = Web(new__image_generation=(ONE, '"1"'))
    await fetch(web, tmp_path)
    count, next_year = len(web.asked), time.time() + 365 * 86400
    for path in tmp_path.iterdir():
        os.utime(path, (next_year, next_year))
    await fetch(web, tmp_path, fresh_s=600.0)
    assert len(web.asked) > count


async def test_without_a_network_the_cache_serves(tmp_path):
    await fetch(Web(new__image_generation=(ONE, "")), tmp_path)
    assert list((await fetch(Web(), tmp_path)).images) == ["M"]


async def test_without_network_and_cache_the_error_says_what_failed(tmp_path):
    with pytest.raises(HostUnreachable, match="404") as caught:
        await fetch(Web(), tmp_path)
    assert caught.value.remedy


async def test_a_missing_auxiliary_list_costs_only_itself(tmp_path):
    web = Web(new__image_generation=(ONE, ""), new__esrgan=(b"?", ""), **{"old__esrgan.json": (b"?", "")})
    reference = await fetch(web, tmp_path)
    assert Category.ESRGAN not in reference.lists
    assert reference.find(Category.GFPGAN, "A")
    assert any("esrgan" in problem for problem in reference.problems)


async def test_beta_models_are_opt_in_and_never_replace_official_ones(tmp_path):
    beta = {"M": {"baseline": "flux_1", "config": {"files": [{"path": "x.ckpt"}]}}, "B": ONE["M"]}
    web = Web(new__image_generation=(ONE, ""), beta__trial=(beta, ""))
    assert list((await fetch(web, tmp_path)).images) == ["M"]
    images = (await fetch(web, tmp_path, beta_branch="trial", beta_source="https://beta/{branch}")).images
    assert {name: record.baseline for name, record in images.items()} == {
        "M": "stable diffusion 1", "B": "stable diffusion 1",
    }  # fmt: skip


async def test_a_damaged_cache_is_no_cache(tmp_path):
    (tmp_path / "stable_diffusion.cached.json").write_text("{")
    assert read_cache(tmp_path).images == {}
    assert list((await fetch(Web(new__image_generation=(ONE, "")), tmp_path)).images) == ["M"]


async def test_a_cache_that_cant_be_written_costs_no_models(tmp_path):
    (tmp_path / "file").write_text("")
    assert (await fetch(Web(new__image_generation=(ONE, "")), tmp_path / "file")).images


def test_a_folder_without_image_models_is_refused_with_a_remedy(tmp_path):
    with pytest.raises(ConfigError, match="no list of image models") as caught:
        read_folder(tmp_path)
    assert "stable_diffusion.json" in caught.value.remedy
