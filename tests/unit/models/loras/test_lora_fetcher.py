"""LoRAs and textual inversions that jobs name, with a CivitAI that is sometimes not there."""

import asyncio
import hashlib
import json
import pickle
import time

import httpx
import pytest

from worker.models.disk.store import Store
from worker.models.download.downloader import Downloader
from worker.models.loras import known_files, lora_fetcher
from worker.models.loras.civitai import Kind
from worker.models.loras.lora_fetcher import REST_S, LoraFetcher
from worker.workflows.request import Embedding, EmbeddingWish, GenMetadataNote, LoraFile, LoraWish, ServedModel
from worker.workflows.types import Family

SDXL = ServedModel("M", Family.STABLE_DIFFUSION_XL, {"checkpoint": "m.safetensors"})
SD1 = ServedModel("M", Family.STABLE_DIFFUSION_1, {"checkpoint": "m.safetensors"})


async def stream(content):
    yield content


class CivitAI:
    """Answers as CivitAI, Hordeling and the file host; counts what was asked."""

    def __init__(self, content):
        self.content = content
        self.broken = None
        self.broken_files = None
        self.asked = []
        self.found = [{"name": "Other"}]
        self.model = {"id": 7, "name": "Add/Detail", "type": "LORA", "nsfw": False}
        self.version = {
            "id": 70, "modelId": 7, "baseModel": "SDXL 1.0", "trainedWords": ["shiny"],
            "files": [
                {"name": "training.zip", "type": "Training Data", "downloadUrl": "https://cdn/zip"},
                {
                    "name": "add.safetensors", "type": "Model", "sizeKB": len(content) / 1024,
                    "hashes": {"SHA256": hashlib.sha256(content).hexdigest().upper()}, "downloadUrl": "https://cdn/f",
                },
            ],
        }  # fmt: skip

    def __call__(self, request):
        self.asked.append(f"{request.url.host}{request.url.path}")
        if self.broken:
            raise self.broken
        if self.broken_files and request.url.host == "cdn":
            raise self.broken_files
        whole = {**self.model, "modelVersions": [self.version, {"id": 1, "files": []}]}
        match request.url.host, request.url.path:
            case "civitai.com", "/api/v1/models/7":
                return httpx.Response(200, json=whole)
            case "civitai.com", "/api/v1/model-versions/70":
                return httpx.Response(200, json={**self.version, "model": self.model})
            case "civitai.com", "/api/v1/models":
                return httpx.Response(200, json={"items": [*self.found, whole] if self.found else 7})
            case "cdn", "/f":
                return httpx.Response(200, content=stream(self.content))
            case "hordeling.aihorde.net", "/api/v1/embedding/7":
                sha256 = hashlib.sha256(self.content).hexdigest()
                return httpx.Response(200, json={"url": "https://cdn/f", "sha256": sha256})
        return httpx.Response(404)

    def become(self, type_, content, **more):
        """Have another kind of file."""
        self.model |= {"type": type_, **more}
        self.content = content
        self.version["files"][1]["hashes"]["SHA256"] = hashlib.sha256(content).hexdigest()

    def files(self):
        return self.asked.count("cdn/f")


@pytest.fixture
def civitai(lora):
    return CivitAI(lora)


@pytest.fixture
async def make(tmp_path, civitai):
    made = []

    def build(**options):
        http = httpx.AsyncClient(transport=httpx.MockTransport(civitai))
        store = Store(tmp_path / "own")
        downloader = Downloader(http, store.hashes, first_pause_s=0.0, reserve_bytes=0)
        files = LoraFetcher(http, store, downloader, **options)
        made.append((files, http))
        return files

    yield build
    for files, http in made:
        await files.close()
        await http.aclose()


@pytest.mark.parametrize(
    "wish",
    [
        LoraWish("7", 0.5),
        LoraWish("70", 0.5, is_version=True),
        LoraWish("add/detail", 0.5),
        LoraWish("<lora:Add/Detail:1>", 0.5),
    ],
)
async def test_a_lora_is_found_by_id_version_name_and_trigger_string(make, tmp_path, civitai, wish):
    assert await make().lora(wish, SDXL) == LoraFile("AddDetail_70.safetensors", 0.5, 1.0, None, ("shiny",))
    assert (tmp_path / "own" / "lora" / "AddDetail_70.safetensors").read_bytes() == civitai.content


async def test_what_is_on_disk_is_not_asked_for_again_even_after_a_restart(make, civitai):
    first = await make().lora(LoraWish("7"), SDXL)
    civitai.asked.clear()
    assert await make().lora(LoraWish("7"), SDXL) == first
    assert civitai.asked == []


async def test_a_model_id_is_asked_for_anew_after_a_day_and_old_knowledge_serves_when_nobody_answers(make, civitai):
    clock = [1e9]
    files = make(now_s=lambda: clock[0])
    first = await files.lora(LoraWish("7"), SDXL)
    clock[0] += 90_000
    civitai.broken = httpx.ConnectError("down")
    assert await files.lora(LoraWish("7"), SDXL) == first
    civitai.broken = None
    civitai.version["id"] = 71
    assert (await files.lora(LoraWish("7"), SDXL)).file == "AddDetail_71.safetensors"


async def test_what_is_not_there_is_told_and_not_asked_for_again_soon(make, civitai):
    files = make()
    assert await files.lora(LoraWish("404"), SDXL) == GenMetadataNote("lora", "download_failed", "404")
    await files.lora(LoraWish("404"), SDXL)
    assert len(civitai.asked) == 1


@pytest.mark.parametrize("found", [[{"name": None}, {}, 7], []])
async def test_search_results_that_make_no_sense_cost_nobody_the_job(make, civitai, found):
    civitai.found = found
    answer = await make().lora(LoraWish("Add/Detail"), SDXL)
    assert isinstance(answer, LoraFile if found else GenMetadataNote)


async def test_a_name_that_is_no_text_finds_nothing(make, civitai):
    civitai.model["name"] = "something else"
    assert await make().lora(LoraWish("Add\ud800"), SDXL) == GenMetadataNote("lora", "download_failed", "Add\ud800")


async def test_a_lora_for_another_baseline_is_not_fetched(make, civitai):
    assert await make().lora(LoraWish("7"), SD1) == GenMetadataNote("lora", "baseline_mismatch", "7")
    assert civitai.files() == 0


async def test_a_worker_without_nsfw_leaves_such_loras_out(make, civitai):
    civitai.model["nsfw"] = True
    assert isinstance(await make(nsfw=False).lora(LoraWish("7"), SDXL), GenMetadataNote)
    assert isinstance(await make().lora(LoraWish("7"), SDXL), LoraFile)


async def test_a_file_too_large_for_one_job_is_left_out(make, civitai):
    civitai.version["files"][1]["sizeKB"] = 500_000
    assert isinstance(await make().lora(LoraWish("7"), SDXL), GenMetadataNote)
    assert civitai.files() == 0


async def test_a_wrong_checksum_gives_no_file(make, civitai):
    civitai.content = civitai.content[::-1]
    assert await make().lora(LoraWish("7"), SDXL) == GenMetadataNote("lora", "download_failed", "7")


async def test_a_dead_civitai_is_left_alone_for_a_while(make, civitai):
    clock = [1e9]
    files = make(now_s=lambda: clock[0])
    civitai.broken = httpx.ConnectError("down")
    for number in range(1, 9):
        assert isinstance(await files.lora(LoraWish(str(number)), SDXL), GenMetadataNote)
    assert len(civitai.asked) == 3
    civitai.broken = None
    clock[0] += REST_S + 1
    assert isinstance(await files.lora(LoraWish("7"), SDXL), LoraFile)


async def test_a_dead_file_host_is_left_alone_for_a_while_too(make, civitai):
    clock = [1e9]
    files = make(now_s=lambda: clock[0])
    civitai.broken_files = httpx.ConnectError("down")
    for _ in range(5):
        assert isinstance(await files.lora(LoraWish("7"), SDXL), GenMetadataNote)
    tries = civitai.files()
    await files.lora(LoraWish("7"), SDXL)
    assert civitai.files() == tries
    civitai.broken_files = None
    clock[0] += REST_S + 1
    assert isinstance(await files.lora(LoraWish("7"), SDXL), LoraFile)


async def test_jobs_that_name_the_same_lora_at_once_ask_once_and_fetch_once(make, civitai):
    files = make()
    found = await asyncio.gather(*(files.lora(LoraWish("7"), SDXL) for _ in range(5)))
    assert set(found) == {found[0]}
    assert isinstance(found[0], LoraFile)
    assert civitai.asked == ["civitai.com/api/v1/models/7", "cdn/f"]


@pytest.mark.parametrize("wish", [LoraWish("My Style"), LoraWish("12", is_version=True), LoraWish("My Style_12")])
async def test_a_file_that_lay_there_before_serves_when_civitai_can_not_be_asked(make, tmp_path, civitai, put, wish):
    put(tmp_path / "own" / "lora" / "My Style_12.safetensors", civitai.content)
    civitai.broken = httpx.ConnectError("down")
    files = make()
    assert await files.lora(wish, SDXL) == LoraFile("My Style_12.safetensors", 1.0, 1.0, None, ())


async def test_a_textual_inversion_that_lay_there_before_serves_when_civitai_can_not_be_asked(
    make, tmp_path, civitai, put, embedding
):
    put(tmp_path / "own" / "ti" / "99.safetensors", embedding)
    civitai.broken = httpx.ConnectError("down")
    assert await make().embedding(EmbeddingWish("99"), SDXL) == Embedding("99", 1.0, None)


@pytest.mark.parametrize("wish", [LoraWish("My Style"), LoraWish("12", is_version=True)])
async def test_a_file_that_lay_there_before_serves_when_civitai_does_not_know_it(make, tmp_path, put, wish, lora):
    put(tmp_path / "own" / "lora" / "My Style_12.safetensors", lora)
    files = make()
    for _ in range(2):
        assert await files.lora(wish, SDXL) == LoraFile("My Style_12.safetensors", 1.0, 1.0, None, ())


async def test_a_lora_that_civitai_gave_out_once_serves_when_it_knows_it_no_more(make, civitai):
    clock = [1e9]
    files = make(now_s=lambda: clock[0])
    first = await files.lora(LoraWish("7"), SDXL)
    clock[0] += 90_000
    civitai.model["type"] = "gone"
    assert await files.lora(LoraWish("7"), SDXL) == first
    assert await files.lora(LoraWish("70", is_version=True), SDXL) == first
    assert isinstance(await files.lora(LoraWish("7"), SD1), GenMetadataNote)


async def test_a_lora_that_is_neither_here_nor_known_to_civitai_any_more_is_not_fetched_again(make, tmp_path, civitai):
    clock = [1e9]
    files = make(now_s=lambda: clock[0])
    first = await files.lora(LoraWish("7"), SDXL)
    (tmp_path / "own" / "lora" / first.file).unlink()
    civitai.model["type"] = "gone"
    civitai.asked.clear()
    for _ in range(2):
        assert isinstance(await files.lora(LoraWish("7"), SDXL), GenMetadataNote)
    assert civitai.asked == ["civitai.com/api/v1/models/7"]


async def test_what_is_here_does_not_wait_long_for_a_civitai_that_is_silent(
    make, tmp_path, put, monkeypatch, embedding
):
    put(tmp_path / "own" / "ti" / "99.safetensors", embedding)

    async def never(*args, **options):
        await asyncio.Event().wait()

    monkeypatch.setattr(lora_fetcher, "look_up", never)
    monkeypatch.setattr(lora_fetcher, "ANSWER_S", 0.0)
    assert await make().embedding(EmbeddingWish("99"), SDXL) == Embedding("99", 1.0, None)


async def test_a_broken_file_of_which_nothing_is_known_is_left_out_and_blamed_on_nobody(make, tmp_path, put):
    put(tmp_path / "own" / "lora" / "My Style_12.safetensors", b"junk")
    files = make()
    for _ in range(lora_fetcher.MAX_FAILURES):
        assert isinstance(await files.lora(LoraWish("My Style"), SDXL), GenMetadataNote)
    assert isinstance(await files.lora(LoraWish("7"), SDXL), LoraFile)


async def test_a_file_that_another_worker_called_otherwise_is_the_same_file(make, tmp_path, civitai):
    other = tmp_path / "own" / "lora" / "Xi Jie Detail_70.safetensors"
    other.parent.mkdir(parents=True)
    other.write_bytes(civitai.content)
    civitai.model["name"] = "细节 Detail"
    assert await make().lora(LoraWish("7"), SDXL) == LoraFile(other.name, 1.0, 1.0, None, ("shiny",))
    assert civitai.files() == 0


async def test_a_file_of_the_owner_that_ends_in_the_versions_number_is_not_taken_for_it(make, tmp_path, put, civitai):
    put(tmp_path / "own" / "lora" / "mine_70.safetensors", civitai.content[:-1] + b"?")
    assert (await make().lora(LoraWish("7"), SDXL)).file == "AddDetail_70.safetensors"


@pytest.mark.parametrize("name", ["细节增强" * 32, "★★★", "x" * 500])
async def test_a_lora_of_any_name_arrives_and_makes_room_again(make, tmp_path, civitai, name):
    civitai.model["name"] = name
    clock = [time.time()]
    files = make(budget_bytes=1, now_s=lambda: clock[0])
    found = await files.lora(LoraWish("7"), SDXL)
    assert isinstance(found, LoraFile)
    clock[0] += 90_000
    civitai.model["name"], civitai.version["id"] = "other", 71
    assert (await files.lora(LoraWish("7"), SDXL)).file == "other_71.safetensors"
    assert not (tmp_path / "own" / "lora" / found.file).exists()


async def test_a_damaged_lora_on_disk_is_fetched_again(make, tmp_path, civitai):
    files = make()
    await files.lora(LoraWish("7"), SDXL)
    path = tmp_path / "own" / "lora" / "AddDetail_70.safetensors"
    path.write_bytes(civitai.content[:-1])
    assert isinstance(await files.lora(LoraWish("7"), SDXL), LoraFile)
    assert path.read_bytes() == civitai.content


async def test_a_lora_the_engine_can_not_read_is_set_aside_only_if_it_is_not_the_right_one(make, tmp_path, civitai):
    files = make()
    await files.lora(LoraWish("7"), SDXL)
    path = tmp_path / "own" / "lora" / "AddDetail_70.safetensors"
    assert not await files.mend(path.name)
    path.write_bytes(civitai.content[:-1] + b"?")
    assert await files.mend(path.name)
    assert not path.exists()
    assert not await files.mend(path.name)


async def test_a_file_larger_than_civitai_said_is_broken_off(make, civitai, monkeypatch):
    monkeypatch.setattr(lora_fetcher, "MAX_BYTES", dict.fromkeys(Kind, len(civitai.content) - 1))
    civitai.version["files"][1]["sizeKB"] = 0.001
    assert await make().lora(LoraWish("7"), SDXL) == GenMetadataNote("lora", "download_failed", "7")
    assert civitai.files() == 1


async def test_a_job_waits_only_so_long(make, civitai, monkeypatch):
    async def never(*args, **options):
        await asyncio.Event().wait()

    monkeypatch.setattr(lora_fetcher, "look_up", never)
    monkeypatch.setattr(lora_fetcher, "WAIT_S", dict.fromkeys(Kind, 0.01))
    assert await make().lora(LoraWish("7"), SDXL) == GenMetadataNote("lora", "download_failed", "7")


async def test_the_least_used_lora_makes_room(make, tmp_path, put, civitai):
    own = put(tmp_path / "own" / "lora" / "my own.safetensors", b"x" * 10_000)
    old = put(tmp_path / "own" / "lora" / "old_1.safetensors", b"x" * 100)
    clock = old.stat().st_mtime + 1e6
    files = make(budget_bytes=len(civitai.content) + 50, now_s=lambda: clock)
    assert isinstance(await files.lora(LoraWish("7"), SDXL), LoraFile)
    assert not old.exists()
    assert own.exists()


@pytest.mark.parametrize("hordeling", [True, False])
async def test_a_textual_inversion_comes_from_hordeling_or_civitai(make, tmp_path, civitai, hordeling, embedding):
    civitai.become("TextualInversion", embedding)
    if not hordeling:
        civitai.model["id"] = civitai.version["modelId"] = 8
        wish = EmbeddingWish("add/detail", 0.8)
    else:
        wish = EmbeddingWish("7", 0.8)
    stem = "7" if hordeling else "8"
    assert await make().embedding(wish, SDXL) == Embedding(stem, 0.8, None)
    assert (tmp_path / "own" / "ti" / f"{stem}.safetensors").is_file()


@pytest.mark.parametrize(("model_id", "has_hordeling"), [(7, True), (8, False)])
async def test_a_textual_inversion_that_civitai_has_only_as_a_pickle_comes_from_hordeling_or_not_at_all(
    make, civitai, model_id, has_hordeling, embedding
):
    civitai.become("TextualInversion", embedding, id=model_id)
    civitai.version["files"][1].update(name="add.pt", primary=True)
    found = await make().embedding(EmbeddingWish("add/detail"), SDXL)
    assert found == (
        Embedding("7", 1.0, None) if has_hordeling else GenMetadataNote("ti", "download_failed", "add/detail")
    )
    assert civitai.files() == has_hordeling


async def test_a_lora_that_is_only_a_pickle_is_not_fetched(make, civitai):
    civitai.version["files"][1]["name"] = "add.pt"
    assert isinstance(await make().lora(LoraWish("7"), SDXL), GenMetadataNote)
    assert civitai.files() == 0


async def test_a_lora_is_no_textual_inversion(make):
    assert await make().embedding(EmbeddingWish("7"), SDXL) == GenMetadataNote("ti", "download_failed", "7")


def test_a_file_of_known_loras_that_makes_no_sense_is_ignored(make, tmp_path):
    (tmp_path / "own" / "horde_model_reference").mkdir(parents=True)
    for content in ([1, 2], {"lora:name:x": 5}, {"lora:name:x": {"file": "../x"}}):
        (tmp_path / "own" / known_files.FILE).write_text(json.dumps(content))
        assert make()._known.by_wish("lora:name:x") is None


@pytest.mark.parametrize("content", [b"{}", b"", b"<html>login</html>"])
async def test_a_file_that_is_no_lora_is_told_remembered_and_not_fetched_again(make, tmp_path, civitai, content):
    civitai.become("LORA", len(content).to_bytes(8, "little") + content)
    for _ in range(2):
        files = make()
        for _ in range(2):
            assert await files.lora(LoraWish("7"), SDXL) == GenMetadataNote("lora", "parse_failed", "7")
    assert civitai.files() == 1
    assert list((tmp_path / "own" / "lora").glob("*.safetensors")) == []


async def test_a_lora_that_would_change_nothing_is_left_out_whatever_civitai_says(make, civitai, weights):
    key = "lora_unet_a_attn2_to_k"
    civitai.become("LORA", weights({f"{key}.lora_up.weight": (2, 1), f"{key}.lora_down.weight": (1, 768)}))
    assert await make().lora(LoraWish("7"), SDXL) == GenMetadataNote("lora", "baseline_mismatch", "7")
    civitai.version["baseModel"] = "Other"
    assert isinstance(await make().lora(LoraWish("70", is_version=True), SD1), LoraFile)


async def test_a_broken_textual_inversion_is_left_out_and_named(make, tmp_path, put, said, weights):
    put(tmp_path / "own" / "ti" / "99.safetensors", weights({}))
    put(tmp_path / "own" / "ti" / "evil.pt", pickle.dumps({"string_to_param": print}, 2))
    files = make()
    for name in ("99", "evil"):
        assert await files.embedding(EmbeddingWish(name), SD1) == GenMetadataNote("ti", "parse_failed", name)
    assert any("99.safetensors: it holds no vectors" in line for line in said)
    assert any("evil.pt: it holds program code" in line for line in said)


async def test_endless_trigger_words_and_names_are_cut(make, civitai):
    civitai.version["trainedWords"] = ["x" * 1000] * 2000
    civitai.model["name"] = "y" * 1_000_000
    found = await make().lora(LoraWish("7"), SDXL)
    assert sum(map(len, found.words)) <= 50_000
    assert len(found.file) < 255
    assert isinstance(await make().lora(LoraWish("z" * 100_000), SDXL), GenMetadataNote)


async def test_a_blocked_address_is_no_word_about_the_file(make, civitai):
    clock = [1e9]
    files = make(now_s=lambda: clock[0])
    blocked = httpx.Response(403, headers={"content-type": "text/html"}, text="<html>Just a moment...")
    plain = civitai.__class__.__call__
    civitai.__class__.__call__ = lambda self, request: blocked
    try:
        assert await files.lora(LoraWish("7"), SDXL) == GenMetadataNote("lora", "download_failed", "7")
    finally:
        civitai.__class__.__call__ = plain
    assert isinstance(await files.lora(LoraWish("7"), SDXL), LoraFile)


async def test_a_lora_that_engines_can_not_use_is_left_out_after_a_restart_too(make, civitai):
    found = await make().lora(LoraWish("7"), SDXL)
    files = make()
    await files.note_broken(Kind.LORA, found.file, "its tensors are of no use")
    await files.note_broken(Kind.LORA, "unknown.safetensors", "nobody knows it")
    assert await files.lora(LoraWish("7"), SDXL) == GenMetadataNote("lora", "parse_failed", "7")
    assert await make().lora(LoraWish("7"), SDXL) == GenMetadataNote("lora", "parse_failed", "7")
    assert civitai.files() == 1
