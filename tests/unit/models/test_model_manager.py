"""The model manager at work: what is served, fetched, mended and given up, with a file server on this machine."""

import asyncio
import hashlib
import json
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from worker.aio import timeout
from worker.config.schema import BridgeData
from worker.errors import (
    Addition,
    AdditionBroken,
    AdditionKind,
    ModelBroken,
    ModelHoldsCode,
    ModelIncomplete,
    ModelMismatch,
)
from worker.models.catalog.model_selection import custom_of
from worker.models.disk import store as store_module
from worker.models.model_manager import ManagerTimes, ModelManager
from worker.workflows.families import TRAITS
from worker.workflows.types import Family

#: nothing here waits for a clock
PACE = ManagerTimes(retry_s=0.01, retry_limit_s=0.01, report_s=0.01, first_pause_s=0.0, reserve_bytes=0)
PATIENT = ManagerTimes(retry_s=3600.0, report_s=3600.0, first_pause_s=0.0, reserve_bytes=0)


def entry(name, content, url, *, folder="", **more):
    file = {"path": f"{name}.safetensors", "sha256sum": hashlib.sha256(content).hexdigest().upper()}
    download = [{"file_name": f"{name}.safetensors", "file_path": folder, "file_url": url}] if url else []
    return {
        "name": name, "baseline": "stable_diffusion_xl", "type": "ckpt", "nsfw": False, "inpainting": False,
        "config": {"files": [file], "download": download}, **more,
    }  # fmt: skip


class Place:
    """An owner's folders: model lists, models, settings."""

    def __init__(self, folder, whole):
        self.lists = folder / "lists"
        self.lists.mkdir()
        self.root = folder / "models"
        self.folder = folder
        self.whole = whole
        self.entries = {}

    def list(self, *names, url=None, **more):
        """List models whose file lies under their name at `url`."""
        for name in names:
            self.entries[name] = entry(name, self.whole, url and f"{url}/{name}", **more)
        (self.lists / "stable_diffusion.json").write_text(json.dumps(self.entries))

    def own(self, name):
        return self.root / "compvis" / f"{name}.safetensors"

    def config(self, **settings):
        return BridgeData.model_validate({
            "aesthetic_score": False,
            "models_to_load": list(self.entries), "model_reference": str(self.lists),
            "allow_private_downloads": True, **settings,
        })  # fmt: skip

    @asynccontextmanager
    async def room(self, *, times=PATIENT, **settings):
        config = self.config(**settings)
        room = ModelManager(
            config, self.root, times=times, custom=custom_of(config, {}), custom_file=self.folder / "custom_models.json"
        )
        async with room.running():
            yield room


@pytest.fixture
def place(tmp_path, put):
    return Place(tmp_path, put(tmp_path / "whole.safetensors").read_bytes())


async def until(condition):
    async with timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def request_for(room, name, *, loras=()):
    return SimpleNamespace(
        model=room.model(name),
        loras=loras,
        control_type=None,
        return_control_map=False,
        image_is_control=False,
        workflow="",
        transparent=False,
        post_processing=(),
    )


async def test_each_model_is_served_as_soon_as_it_is_whole_and_the_owners_order_stays(place, serve, put):
    async with serve(place.whole) as server:
        place.list("first", "second", "third", url=server.base)
        put(place.own("third"))
        server.held = {"/first", "/second"}
        async with place.room() as room:
            await until(lambda: room.names() == ("third",))
            await until(lambda: room.state().downloads)
            assert room.state().waiting == ("first", "second")
            server.held.remove("/first")
            await until(lambda: room.names() == ("first", "third"))
            assert room.model("second") is None
            server.held.clear()
            await until(lambda: room.names() == ("first", "second", "third"))
            assert str(room.state()) == "3 of 3 models are here"
    assert place.own("second").read_bytes() == place.whole


async def test_a_model_nobody_gives_costs_only_itself_and_is_asked_for_once(place, serve):
    async with serve(place.whole) as server:
        place.list("gone", "there", url=server.base)
        server.faults = ["status:451"]
        async with place.room(times=PACE) as room:
            await until(lambda: room.names() == ("there",))
            reason = room.state().failed["gone"]
        assert [request["path"] for request in server.requests] == ["/gone", "/there"]
    assert "451" in reason
    assert "country" in reason


@pytest.mark.usefixtures("no_least_wait")
async def test_a_host_in_trouble_is_asked_again_later(place, serve):
    async with serve(place.whole) as server:
        place.list("late", url=server.base)
        server.faults = ["status:503"] * 5
        async with place.room(times=PACE) as room:
            await until(lambda: room.names() == ("late",))
            assert room.state().failed == {}


async def test_addresses_of_the_own_network_are_refused_unless_allowed(place, serve):
    async with serve(place.whole) as server:
        place.list("inside", url=server.base)
        async with place.room(allow_private_downloads=False) as room:
            await until(lambda: room.state().failed)
            assert "no public address" in room.state().failed["inside"]
        assert server.requests == []


async def test_what_does_not_fit_on_the_disk_is_not_begun(place, serve):
    async with serve(place.whole) as server:
        place.list("large", url=server.base, size_on_disk_bytes=2**60)
        place.list("small", url=server.base, size_on_disk_bytes=100)
        async with place.room() as room:
            await until(lambda: room.names() == ("small",))
            assert "left on the disk" in room.state().failed["large"]
        assert [request["path"] for request in server.requests] == ["/small"]


async def test_a_worker_with_only_its_own_models_serves_them_without_any_list(place, put, tmp_path):
    path = put(tmp_path / "mine" / "own.safetensors")
    custom = [{"name": "Mine", "baseline": "stable_diffusion_xl", "filepath": str(path)}]
    settings = {"models_to_load": [], "custom_models": custom, "model_reference": "http://127.0.0.1:9/lists"}
    async with place.room(**settings) as room:
        await until(lambda: room.names() == ("Mine",))
        assert room.model("Mine").files == {"checkpoint": "own.safetensors"}
        assert "custom" in room.store.model_paths()
    written = json.loads((tmp_path / "custom_models.json").read_text())
    files = {"files": [{"path": str(path)}]}
    assert written == {"Mine": {"name": "Mine", "baseline": "stable_diffusion_xl", "type": "ckpt", "config": files}}


async def test_lists_from_an_address_are_kept_for_a_start_without_network(place, serve, put):
    async with serve(place.whole) as server:
        place.list("known")
        put(place.own("known"))
        server.files["/lists/stable_diffusion.json"] = (place.lists / "stable_diffusion.json").read_bytes()
        async with place.room(model_reference=f"{server.base}/lists") as room:
            await until(lambda: room.names() == ("known",))
    async with place.room(model_reference=f"{server.base}/lists", models_to_load=["ALL"]) as room:
        await until(lambda: room.names() == ("known",))


async def test_top_n_goes_by_the_figures_in_the_owners_folder(place, put):
    place.list("a", "b", "c")
    for name in "abc":
        put(place.own(name))
    (place.lists / "statistics.json").write_text(json.dumps({"month": {"a": 1, "b": 3, "c": 2}}))
    async with place.room(models_to_load=["TOP 2"]) as room:
        await until(lambda: room.names() == ("b", "c"))


async def test_other_settings_bring_other_models_and_end_downloads_nobody_wants_any_more(place, serve, put):
    async with serve(place.whole) as server:
        place.list("old", "new", "coming", url=server.base)
        put(place.own("old"))
        server.held = {"/coming"}
        async with place.room(models_to_load=["old", "coming"]) as room:
            await until(lambda: room.state().downloads)
            before = room._config
            room.change(before, before.model_copy(update={"models_to_load": ("new",)}))
            await until(lambda: room.names() == ("new",))
            assert room.state().downloads == ()
            assert room.model("old") is None
        assert not place.own("coming").exists()


async def test_a_change_of_other_settings_begins_nothing(place, put):
    place.list("a")
    put(place.own("a"))
    async with place.room() as room:
        await until(lambda: room.names() == ("a",))
        before = room._config
        room.change(before, before.model_copy(update={"download_speed_limit": 2.0, "nsfw": False}))
        assert not room._changed.is_set()
        assert room._throttle.bytes_per_s == 2e6
        assert not room._loras.nsfw


BROKEN = ModelBroken("can't be read")


async def test_a_file_the_engine_can_not_read_is_set_aside_and_fetched_again(place, serve, put):
    async with serve(place.whole) as server:
        place.list("bad", url=server.base)
        put(place.own("bad"), place.whole[:-1] + b"?")
        async with place.room() as room:
            await until(lambda: room.names() == ("bad",))
            room.broken(request_for(room, "bad"), BROKEN)
            assert room.names() == ()
            assert room.model("bad") is not None
            await until(lambda: room.names() == ("bad",))
    assert place.own("bad").read_bytes() == place.whole
    assert place.own("bad").with_name("bad.safetensors.broken").exists()


async def test_a_model_whose_files_are_right_is_not_offered_after_the_second_time(place, put):
    place.list("odd", "fine")
    put(place.own("odd"))
    put(place.own("fine"))
    async with place.room() as room:
        await until(lambda: room.names() == ("odd", "fine"))
        room.broken(request_for(room, "odd"), BROKEN)
        await until(lambda: room.names() == ("odd", "fine"))
        room.broken(request_for(room, "odd"), BROKEN)
        await until(lambda: "odd" in room.state().failed)
        assert room.names() == ("fine",)


async def test_a_job_that_was_rendered_clears_what_spoke_against_its_model(place, put):
    place.list("odd")
    put(place.own("odd"))
    async with place.room() as room:
        await until(lambda: room.names() == ("odd",))
        for _ in range(3):
            room.broken(request_for(room, "odd"), BROKEN)
            await until(lambda: not room._mending)
            room.rendered(request_for(room, "odd"))
        assert room.names() == ("odd",)


@pytest.mark.parametrize(
    "error",
    [
        AdditionBroken("…", additions=frozenset({Addition(AdditionKind.LORA, "bad.safetensors")})),
        ModelBroken("…", file="control_canny.safetensors"),
        ModelMismatch("…", file="control_canny.safetensors"),
    ],
)
async def test_what_is_not_the_models_own_never_takes_it_out_of_service(place, put, error):
    place.list("fine")
    put(place.own("fine"))
    async with place.room() as room:
        await until(lambda: room.names() == ("fine",))
        for _ in range(5):
            room.broken(request_for(room, "fine"), error)
            await until(lambda: not room._mending)
        assert room.names() == ("fine",)


@pytest.mark.parametrize("kind", [ModelIncomplete, ModelHoldsCode])
async def test_a_file_that_no_download_can_mend_is_set_aside_at_once_with_the_reason(place, put, kind):
    place.list("odd")
    put(place.own("odd"))
    async with place.room() as room:
        await until(lambda: room.names() == ("odd",))
        room.broken(request_for(room, "odd"), kind("odd.safetensors holds no VAE.", file="odd.safetensors"))
        await until(lambda: "odd" in room.state().failed)
        assert room.state().failed["odd"] == "odd.safetensors holds no VAE"


@pytest.mark.parametrize("given", [True, False])
async def test_a_broken_file_in_a_folder_that_is_only_read_stays_and_one_of_our_own_comes_before_it(
    place, serve, put, tmp_path, given
):
    async with serve(place.whole) as server:
        place.list("theirs", url=server.base if given else None)
        broken = place.whole[:-1] + b"?"
        theirs = put(tmp_path / "comfy" / "models" / "checkpoints" / "theirs.safetensors", broken)
        async with place.room(extra_stable_diffusion_models_folders=[str(tmp_path / "comfy")]) as room:
            await until(lambda: room.names() == ("theirs",))
            room.broken(request_for(room, "theirs"), BROKEN)
            if given:
                await until(lambda: room.names() == ("theirs",))
                assert place.own("theirs").read_bytes() == place.whole
            else:
                await until(lambda: room.state().failed)
                assert "no address" in room.state().failed["theirs"]
    assert theirs.read_bytes() == broken


async def test_without_the_months_statistics_they_are_asked_for_again(place, put):
    place.list("a", "b")
    put(place.own("a"))
    async with place.room(times=PACE, models_to_load=["TOP 1"], horde_url="http://127.0.0.1:9/") as room:
        await until(lambda: "the month's statistics" in room._retry)
        (place.lists / "statistics.json").write_text(json.dumps({"month": {"a": 1}}))
        await until(lambda: room.names() == ("a",))


async def test_lists_that_are_gone_cost_no_model_that_is_served(place, put):
    place.list("a")
    put(place.own("a"))
    async with place.room(times=PACE) as room:
        await until(lambda: room.names() == ("a",))
        (place.lists / "stable_diffusion.json").unlink()
        room._changed.set()
        await until(lambda: "the model lists" in room._retry)
        assert room.names() == ("a",)


async def test_files_for_what_the_owner_allows_are_fetched_too(place, serve, put):
    both = TRAITS[Family.STABLE_DIFFUSION_XL].layer_diffuse
    assert both
    async with serve(place.whole) as server:
        place.list("m", url=server.base)
        put(place.own("m"))
        files = [file.name.removesuffix(".safetensors") for file in (both.model, both.decoder)]
        record = entry(files[0], place.whole, f"{server.base}/x")
        for part in ("files", "download"):
            record["config"][part] += entry(files[1], place.whole, f"{server.base}/y")["config"][part]
        (place.lists / "miscellaneous.json").write_text(json.dumps({both.model.listed_as[1]: record}))
        async with place.room(allow_sdxl_controlnet=True) as room:
            await until(lambda: room.has(both.model) and room.has(both.decoder))
        assert {request["path"] for request in server.requests} == {"/x", "/y"}


async def test_a_defect_costs_no_model_that_is_served(place, put, monkeypatch):
    place.list("a")
    put(place.own("a"))
    async with place.room(times=PACE) as room:
        await until(lambda: room.names() == ("a",))
        rounds = []

        async def defective(*arguments):
            rounds.append(arguments)
            raise RuntimeError("defect")

        monkeypatch.setattr(room, "_fetch", defective)
        room._changed.set()
        await until(lambda: len(rounds) > 1)
        assert room.names() == ("a",)


async def test_headers_of_auxiliary_files_are_read_before_the_event_loop_asks_for_them(place, put, monkeypatch):
    place.list("a")
    put(place.own("a"))
    both = TRAITS[Family.STABLE_DIFFUSION_XL].layer_diffuse
    assert both
    put(place.root / both.model.folder / both.model.name)
    async with place.room() as room:
        await until(lambda: room.names() == ("a",))
        await until(lambda: len(room.store._contents) == 2)
        monkeypatch.setattr(store_module, "read_contents", None)
        assert room.has(both.model)
        assert not room.has(both.decoder)


async def test_a_name_that_no_model_has_is_among_what_is_shown_until_it_is_corrected(place, put):
    place.list("a", "b")
    put(place.own("a"))
    put(place.own("b"))
    async with place.room(models_to_load=["a", "bb"]) as room:
        # What is on disk is served before the lists have been read, and then named anew.
        await until(lambda: room.names() == ("a",) and bool(room.state().doubts))
        (doubt,) = room.state().doubts
        assert doubt.startswith("models_to_load: no model is called 'bb'.")
        room.change(room._config, place.config())
        await until(lambda: room.names() == ("a", "b") and room.state().doubts == ())


async def test_lists_that_can_not_be_read_are_among_what_is_shown(place):
    async with place.room(model_reference=str(place.folder / "nowhere")) as room:
        await until(lambda: room.state().doubts)
        assert room.state().doubts[0].startswith("Only your custom models are served, for the model lists")


async def test_while_demand_chooses_few_models_are_fetched_and_more_when_they_are_asked_for(place, serve, put):
    demand = {"models_to_load": ["named", "ALL SDXL"], "dynamic_models": True, "max_models_to_download": 4}
    async with serve(place.whole) as server:
        place.list("named", "first", "second", "third", "fourth", url=server.base)
        async with place.room(**demand) as room:
            await until(lambda: room.names() == ("named", "first"))
            assert room.named() == {"named"}
            await until(lambda: room.fetchable() == ("second", "third", "fourth"))
            room.fetch("nobody's")
            room.fetch("third")
            assert room.fetchable() == ()
            await until(lambda: room.names() == ("named", "first", "third"))
            await until(lambda: room.fetchable() == ("second", "fourth"))
            room.fetch("second")
            await until(lambda: len(room.names()) == 4)
            assert room.fetchable() == (), "as many as the owner allows are on disk"
            before = room._config
            room.change(before, place.config(models_to_load=["named"]))
            await until(lambda: room.names() == ("named",))
            room.change(room._config, place.config(**{**demand, "models_to_load": ["named"]}))
            (
                await until(lambda: set(room.names()) == {"named", "first", "second", "third"}),
                "what is on disk may be chosen",
            )
    assert not place.own("fourth").exists()


async def test_a_model_that_can_not_be_fetched_by_demand_leaves_the_way_to_others(place, serve, put):
    demand = {"models_to_load": ["ALL SDXL"], "dynamic_models": True}
    async with serve(place.whole) as server:
        place.list("here", "gone", "there", url=server.base)
        put(place.own("here"))
        async with place.room(**demand) as room:
            await until(lambda: room.fetchable() == ("gone", "there"))
            server.faults = ["status:404"]
            room.fetch("gone")
            await until(lambda: "gone" in room.state().failed)
            await until(lambda: room.fetchable() == ("there",))
            server.faults = ["status:404"]
            room.fetch("there")
            await until(lambda: room.names() == ("here", "there"))


async def test_where_the_first_can_not_be_had_the_next_of_the_list_is_fetched_unasked(place, serve):
    async with serve(place.whole) as server:
        place.list("gone", "gone too", "there", "spare", url=server.base)
        # Each round tries those that failed before once more.
        server.faults = ["status:404"] * (1 + 2 + 2)
        async with place.room(models_to_load=["ALL SDXL"], dynamic_models=True) as room:
            await until(lambda: room.names() == ("there",))
            assert set(room.state().failed) == {"gone", "gone too"}
            assert room.fetchable() == ("spare",)
