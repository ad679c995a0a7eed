"""The engine room on the real ComfyUI: what the scripted engine claims of it holds."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import httpx
import numpy as np
import psutil
import pytest
import pytest_asyncio
import websocket
from PIL import Image

from worker.aio import timeout
from worker.demo.engine.dialect import NEWER, OLDER
from worker.demo.engine.settings import scripted_settings
from worker.engine import events
from worker.engine.client import EngineClient
from worker.engine.command_flags import flags_of
from worker.engine.events import Progress
from worker.engine.pool import EnginePool
from worker.engine.process import EngineProcess, EngineSettings
from worker.engine.render_task import Rendering, RenderTask
from worker.engine.versions.tree import version_of
from worker.errors import GraphRejected, PayloadFailed

from .studio import DEVICE_ARGUMENTS

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]

#: For everything that takes seconds on an idle machine.
PATIENCE_S = 300.0
OUT = ("out",)


@dataclass
class Room:
    """A running ComfyUI and a client of it."""

    process: EngineProcess
    client: EngineClient

    def queued(self) -> int:
        """Prompts sent to the engine so far, by its own log; it writes each before it answers."""
        return self.process.settings.log_file.read_text(encoding="utf-8", errors="replace").count("got prompt")


@pytest.fixture(scope="module")
def settings(engine_python: Path, comfyui_source: Path, tmp_path_factory: pytest.TempPathFactory) -> EngineSettings:
    folder = tmp_path_factory.mktemp("room")
    return EngineSettings(
        python=engine_python,
        comfyui=comfyui_source,
        base_directory=folder,
        log_file=folder / "engine.log",
        arguments=(*DEVICE_ARGUMENTS, "--cache-classic"),
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def room(settings: EngineSettings) -> AsyncIterator[Room]:
    process = EngineProcess(settings)
    await process.start()
    client = EngineClient(process.url, process.token)
    try:
        await client.open()
        yield Room(process, client)
    finally:
        client.expect_end()
        await process.stop()
        await client.close()


def one_colour(colour: int, *, count: int = 1, output: str = "HordeImageOutput") -> dict[str, Any]:
    size = {"width": 24, "height": 16, "batch_size": count, "color": colour}
    return {
        "image": {"class_type": "EmptyImage", "inputs": size},
        "out": {"class_type": output, "inputs": {"images": ["image", 0]}},
    }


def handed_in(key: str) -> dict[str, Any]:
    return {
        "image": {"class_type": "HordeImageInput", "inputs": {"key": key}},
        "out": {"class_type": "HordeImageOutput", "inputs": {"images": ["image", 0]}},
    }


def long_job(colour: int, *, nodes: int = 200) -> dict[str, Any]:
    """A chain of nodes that takes a fraction of a second each; ComfyUI listens to interrupts between two."""
    graph = one_colour(colour)
    graph["image"]["inputs"] |= {"width": 512, "height": 512}
    last = "image"
    for number in range(nodes):
        inputs = {"image": [last, 0], "blur_radius": 15, "sigma": 5.0}
        last = f"blur-{number}"
        graph[last] = {"class_type": "ImageBlur", "inputs": inputs}
    graph["out"]["inputs"]["images"] = [last, 0]
    return graph


def png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


class Nodes:
    """Collects the nodes that began; `begun` is set by the first."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.begun = asyncio.Event()

    def __call__(self, progress: Progress) -> None:
        if progress.node_id:
            self.ids.append(progress.node_id)
            self.begun.set()


async def test_only_who_has_the_token_gets_in(room: Room, comfyui_source: Path) -> None:
    url = room.process.url
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=PATIENCE_S) as http:
        for method, path in [("GET", "/system_stats"), ("GET", "/"), ("POST", "/prompt"), ("PUT", "/horde/inputs/a")]:
            assert (await http.request(method, path)).status_code == 401
        wrong = await http.get("/system_stats", headers={"Authorization": "Bearer wrong"})
    assert wrong.status_code == 401

    with pytest.raises(websocket.WebSocketBadStatusException, match="401"):
        await asyncio.to_thread(websocket.create_connection, url.replace("http", "ws") + "/ws", timeout=PATIENCE_S)

    assert (await room.client.system_stats())["system"]["comfyui_version"] == version_of(comfyui_source)
    # No card, so nothing is paged in and out of one.
    assert await room.client.paged_bytes() == 0


async def test_the_token_is_in_no_environment_a_node_could_read_later(room: Room) -> None:
    # The node pack takes it out when it is loaded; what /proc shows is the state at the start.
    log = room.process.settings.log_file.read_text(encoding="utf-8", errors="replace")

    assert room.process.token not in log
    assert room.process.token not in " ".join(psutil.Process(room.process.pid).cmdline())


async def test_frames_are_the_pictures_pixels(room: Room) -> None:
    graph = one_colour(0x123456, count=3)
    graph["other"] = {"class_type": "ImageInvert", "inputs": {"image": ["image", 0]}}
    graph["out-2"] = {"class_type": "HordeImageOutput", "inputs": {"images": ["other", 0]}}

    images = await room.client.render(graph, ("out", "out-2"))

    assert [(image.width, image.height, image.mode) for image in images] == [(24, 16, "RGB")] * 6
    assert [image.pixels[:3] for image in images[:3]] == [b"\x12\x34\x56"] * 3
    # 1 - x/255 in floating point, truncated: a neighbour of the exact value may come out.
    inverted = np.frombuffer(images[3].pixels, np.uint8).astype(int)
    assert np.abs(inverted.reshape(-1, 3) - [0xED, 0xCB, 0xA9]).max() <= 1


async def test_a_picture_handed_in_comes_out_as_it_was(room: Room) -> None:
    values = np.arange(256, dtype=np.uint8)
    pixels = np.stack([np.stack([values, values[::-1], np.roll(values, 7)], axis=-1)] * 3)
    await room.client.put_input("all-values", png(Image.fromarray(pixels)))

    [image] = await room.client.render(handed_in("all-values"), OUT)
    await room.client.drop_inputs(["all-values"])

    assert (image.width, image.height) == (256, 3)
    assert image.pixels == pixels.tobytes()


async def test_the_mask_of_a_picture_handed_in_is_its_transparency(room: Room) -> None:
    alpha = np.tile(np.array([0, 64, 128, 255], dtype=np.uint8), (2, 1))
    colours = np.full((2, 4, 3), 200, dtype=np.uint8)
    await room.client.put_input("alpha", png(Image.fromarray(np.dstack([colours, alpha]))))
    graph = handed_in("alpha")
    graph["mask"] = {"class_type": "MaskToImage", "inputs": {"mask": ["image", 1]}}
    graph["out-mask"] = {"class_type": "HordeImageOutput", "inputs": {"images": ["mask", 0]}}

    picture, mask = await room.client.render(graph, ("out", "out-mask"))
    await room.client.drop_inputs(["alpha"])

    assert picture.pixels == colours.tobytes()
    got = np.frombuffer(mask.pixels, np.uint8).reshape(2, 4, 3).astype(int)
    assert np.abs(got - (255 - alpha.astype(int))[..., None]).max() <= 1


async def test_a_picture_without_transparency_masks_nothing(room: Room) -> None:
    await room.client.put_input("opaque", png(Image.new("RGB", (5, 4), "white")))
    graph = handed_in("opaque")
    graph["mask"] = {"class_type": "MaskToImage", "inputs": {"mask": ["image", 1]}}
    graph["out"]["inputs"]["images"] = ["mask", 0]

    [mask] = await room.client.render(graph, OUT)
    await room.client.drop_inputs(["opaque"])

    assert mask.pixels == bytes(5 * 4 * 3)


async def test_a_picture_that_is_none_fails_its_job_and_a_missing_one_is_refused(room: Room) -> None:
    await room.client.put_input("garbage", b"no picture")

    with pytest.raises(PayloadFailed, match="HordeImageInput failed: UnidentifiedImageError"):
        await room.client.render(handed_in("garbage"), OUT)
    await room.client.drop_inputs(["garbage"])
    with pytest.raises(GraphRejected, match="no picture was handed in under 'garbage'"):
        await room.client.render(handed_in("garbage"), OUT)


async def test_a_graph_that_is_wrong_is_refused_with_the_node_that_is_wrong(room: Room) -> None:
    unknown, missing = one_colour(0), one_colour(0)
    unknown["image"]["class_type"] = "EmptyImagination"
    del missing["image"]["inputs"]["width"]

    with pytest.raises(GraphRejected, match=r"node class EmptyImagination \(image\)"):
        await room.client.render(unknown, OUT)
    with pytest.raises(GraphRejected, match=r"EmptyImage \(image\): Required input is missing width"):
        await room.client.render(missing, OUT)


async def test_a_graph_that_is_half_right_is_refused_whole_and_the_next_one_served(room: Room) -> None:
    graph = long_job(0x010203)
    graph["out-2"] = {"class_type": "HordeImageOutput", "inputs": {}}

    with pytest.raises(GraphRejected, match=r"HordeImageOutput \(out-2\)"):
        await room.client.render(graph, ("out", "out-2"))

    assert len(room.client._prompts) == 0
    (image,) = await room.client.render(one_colour(0x030201), OUT)
    assert image.pixels[:3] == bytes((3, 2, 1))


async def test_a_lost_frame_is_asked_for_again_and_only_the_output_node_runs(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    parse, lost = events.parse_binary, []

    def lose_the_first(message: bytes) -> events.ImageMade | None:
        event = parse(message)
        if lost or event is None:
            return event
        lost.append(event)
        return None

    monkeypatch.setattr(events, "parse_binary", lose_the_first)
    nodes, before = Nodes(), room.queued()
    graph = one_colour(0x00ABCD, count=2)
    graph["other"] = {"class_type": "ImageInvert", "inputs": {"image": ["image", 0]}}
    graph["out"]["inputs"]["images"] = ["other", 0]

    images = await room.client.render(graph, OUT, on_progress=nodes)

    assert len(images) == 2
    assert len(lost) == 1
    assert sorted(nodes.ids) == ["image", "other"]
    assert room.queued() == before + 2


async def test_a_cancelled_job_stops_and_the_one_behind_it_is_served(room: Room) -> None:
    nodes = Nodes()
    running = asyncio.ensure_future(room.client.render(long_job(1), OUT, on_progress=nodes))
    async with timeout(PATIENCE_S):
        await nodes.begun.wait()
    behind = asyncio.ensure_future(room.client.render(one_colour(0x0000FE), OUT))

    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    async with timeout(PATIENCE_S):
        assert (await behind)[0].pixels[:3] == b"\x00\x00\xfe"
    assert len(nodes.ids) < 200


async def test_a_cancelled_job_that_waits_leaves_the_running_one_alone(room: Room) -> None:
    nodes, waiting_nodes = Nodes(), Nodes()
    running = asyncio.ensure_future(room.client.render(long_job(2, nodes=8), OUT, on_progress=nodes))
    async with timeout(PATIENCE_S):
        await nodes.begun.wait()
    waiting = asyncio.ensure_future(room.client.render(long_job(3), OUT, on_progress=waiting_nodes))
    async with timeout(PATIENCE_S):
        while not (await room.client._connection.ask("/queue"))["queue_pending"]:
            await asyncio.sleep(0.01)

    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    async with timeout(PATIENCE_S):
        assert len(await running) == 1
    assert waiting_nodes.ids == []


@pytest.mark.parametrize("attempt", range(5))
async def test_a_websocket_lost_in_the_middle_of_a_job_costs_nothing(room: Room, attempt: int) -> None:
    nodes = Nodes()
    job = asyncio.ensure_future(room.client.render(long_job(100 + attempt, nodes=4), OUT, on_progress=nodes))
    async with timeout(PATIENCE_S):
        await nodes.begun.wait()
        assert room.client._connection._reader is not None
        room.client._connection._reader.socket.abort()

        assert len(await job) == 1


async def test_nothing_of_a_finished_job_is_kept_in_the_history(room: Room) -> None:
    await room.client.render(one_colour(0x0FEDCB), OUT)

    async with timeout(PATIENCE_S):
        while await room.client._connection.ask("/history"):
            await asyncio.sleep(0.1)


async def test_an_engine_without_our_nodes_delivers_attributed_pngs(
    settings: EngineSettings, quick_python: Path
) -> None:
    process = EngineProcess(replace(settings, python=quick_python, with_node_pack=False))
    await process.start()
    client = EngineClient(process.url)
    try:
        await client.open()
        assert not client.has_node_pack
        batches = await asyncio.gather(
            *(
                client.render(one_colour(colour, count=2, output="SaveImageWebsocket"), OUT, expected=2)
                for colour in (0x102030, 0x405060)
            )
        )
        assert [[image.pixels[:3].hex() for image in images] for images in batches] == [["102030"] * 2, ["405060"] * 2]
    finally:
        client.expect_end()
        await process.stop()
        await client.close()


async def test_a_killed_engine_is_replaced_and_its_job_is_done(
    settings: EngineSettings, quick_python: Path, tmp_path: Path
) -> None:
    nodes = Nodes()
    graphs = iter([long_job(4), one_colour(0xCAFE00)])
    own = replace(settings, python=quick_python, base_directory=tmp_path, log_file=tmp_path / "engine.log")
    async with EnginePool([own]).running() as pool, timeout(PATIENCE_S):
        slot = await pool.ready()
        assert slot.process is not None
        task = RenderTask(
            model="",
            prepare=lambda _: [Rendering(next(graphs), OUT, 1)],
            pictures={},
            deadline=asyncio.get_running_loop().time() + 10 * PATIENCE_S,
            on_progress=nodes,
        )
        job = asyncio.ensure_future(pool.render(task))
        await nodes.begun.wait()

        psutil.Process(slot.process.pid).kill()

        assert (await job)[0].pixels[:3] == b"\xca\xfe\x00"
        assert slot.restarts == 1


def conversation(process: EngineProcess, graph: dict[str, Any], prompt_id: str) -> list[Any]:
    """Everything an engine says about a prompt: JSON messages without their times, pictures as frames."""
    headers = {"Authorization": f"Bearer {process.token}"}
    said: list[Any] = []
    url = process.url.replace("http", "ws") + f"/ws?clientId=of-{prompt_id}"
    socket = websocket.create_connection(url, header=headers, timeout=PATIENCE_S)
    try:
        socket.send(events.FEATURE_FLAGS)
        body = {"prompt": graph, "client_id": f"of-{prompt_id}", "prompt_id": prompt_id}
        answer = httpx.post(f"{process.url}/prompt", headers=headers, json=body, trust_env=False, timeout=PATIENCE_S)
        said.append(answer.status_code)
        while answer.status_code == httpx.codes.OK:
            opcode, message = socket.recv_data()
            if opcode == websocket.ABNF.OPCODE_BINARY:
                said.append(events.parse_binary(message))
                continue
            message = json.loads(message)
            message["data"].pop("timestamp", None)
            # What differs by nature: the queue's length as it was seen, and what a node was computing with.
            for name in ("traceback", "current_inputs", "current_outputs", "exception_message", "exception_type"):
                message["data"].pop(name, None)
            if message["type"] != "status":
                said.append(message)
            if message["type"] == "executing" and message["data"]["node"] is None:
                break
    finally:
        socket.close()
    return said


@pytest.mark.parametrize("output", ["HordeImageOutput", "SaveImageWebsocket"])
async def test_the_scripted_engine_says_word_for_word_what_comfyui_says(
    room: Room, tmp_path: Path, output: str
) -> None:
    flags = await flags_of(room.process.settings.python, room.process.settings.comfyui)
    double = EngineProcess(
        scripted_settings(tmp_path, dialect=NEWER if "--disable-dynamic-vram" in (flags or ()) else OLDER)
    )
    await double.start()
    graph = one_colour(0x6A7B8C, count=2, output=output)
    broken = handed_in("broken")
    broken["out"]["class_type"] = output
    refused = one_colour(0)
    refused["out"]["inputs"] = {}
    for process in (double, room.process):
        client = EngineClient(process.url, process.token)
        await client.put_input("broken", b"no picture")
        await client.close()
    try:
        for name, each in [("first", graph), ("again", graph), ("broken", broken), ("refused", refused)]:
            real, scripted = [
                await asyncio.to_thread(conversation, process, each, str(uuid5(NAMESPACE_URL, f"{output}-{name}")))
                for process in (room.process, double)
            ]
            assert scripted == real, name
    finally:
        await double.stop(timeout_s=0)
