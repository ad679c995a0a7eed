"""The month's statistics, and the cache that bridges a silent server."""

import os

import httpx

from worker.models.catalog.statistics import CACHE_FILE, cached_month, fetch_month, read_month

ANSWER = {"day": {}, "month": {"A": 5, "": 9, "None": 9, "B": None, "C": 3.0}, "total": {}}


async def fetch(handler, cache, **options):
    async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as http:
        return await fetch_month(http, "https://horde/api/", cache, **options)


def answering(request):
    assert str(request.url) == "https://horde/api/v2/stats/img/models?model_state=known"
    return httpx.Response(200, json=ANSWER)


def failing(request):
    raise httpx.ConnectTimeout("slow")


def test_nameless_and_uncounted_models_are_dropped():
    assert read_month(ANSWER) == {"A": 5, "C": 3}


async def test_the_month_is_fetched_once_an_hour(tmp_path):
    assert await fetch(answering, tmp_path) == {"A": 5, "C": 3}
    assert await fetch(failing, tmp_path) == {"A": 5, "C": 3}


async def test_a_silent_server_leaves_the_old_table(tmp_path):
    await fetch(answering, tmp_path)
    os.utime(tmp_path / CACHE_FILE, (1, 1))
    assert await fetch(failing, tmp_path) == {"A": 5, "C": 3}
    assert cached_month(tmp_path) == {"A": 5, "C": 3}


async def test_without_server_and_cache_there_is_no_table(tmp_path):
    assert await fetch(failing, tmp_path) is None
    assert await fetch(lambda request: httpx.Response(200, json=[]), tmp_path) is None


async def test_an_endless_answer_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("worker.models.catalog.documents.MAX_BYTES", 10)
    assert await fetch(answering, tmp_path) is None


async def test_a_packed_answer_is_refused_before_it_is_unpacked(tmp_path):
    def packed(request):
        assert request.headers["accept-encoding"] == "identity"
        return httpx.Response(200, headers={"content-encoding": "gzip, gzip"}, stream=httpx.ByteStream(b"bomb"))

    assert await fetch(packed, tmp_path) is None
