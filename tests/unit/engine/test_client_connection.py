"""The client's connection to an engine: lost, got back, given up, closed."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import psutil
import pytest
import websocket

from worker.demo.engine.script import Fault, FaultKind
from worker.engine import connection as connection_module
from worker.engine.client import EngineClient
from worker.engine.process import EngineProcess, EngineSettings
from worker.errors import EngineDied, OutOfMemory

Play = Callable[..., None]
Build = Callable[..., dict[str, Any]]
Until = Callable[[Callable[[], object]], Awaitable[None]]

OUT = ("out",)
#: Long enough that a job never ends by itself within a test.
FOR_EVER_S = 3600.0


@pytest.mark.parametrize("at", [0.25, 0.5, 1.0])
async def test_a_websocket_lost_in_the_middle_of_a_job_costs_nothing(
    client: EngineClient, sampler_graph: Build, plain_graph: Build, play: Play, at: float
) -> None:
    play(seconds=0.4, faults=(Fault(FaultKind.SOCKET_LOST, at=at),))

    images, others = await asyncio.gather(
        client.render(sampler_graph(count=2), OUT), client.render(plain_graph(5), OUT)
    )

    assert len(images) == 2
    assert others[0].pixels[:3] == b"\x00\x00\x05"


async def test_a_failure_during_a_gap_of_the_websocket_is_read_from_the_history(
    client: EngineClient, sampler_graph: Build, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(seconds=0.2, faults=(Fault(FaultKind.OUT_OF_MEMORY),))
    connect, gap = client._connection.open, asyncio.Event()

    async def connect_after_the_gap() -> None:
        await gap.wait()
        await connect()

    monkeypatch.setattr(client._connection, "open", connect_after_the_gap)
    begun = asyncio.Event()
    job = asyncio.ensure_future(client.render(sampler_graph(), OUT, on_progress=lambda _: begun.set()))
    await begun.wait()
    assert client._connection._reader is not None
    client._connection._reader.socket.abort()
    while (await client._connection.ask("/queue"))["queue_running"]:
        await asyncio.sleep(0.01)

    gap.set()

    with pytest.raises(OutOfMemory):
        await job


async def test_the_death_of_the_engine_ends_its_jobs(
    engine: EngineProcess, client: EngineClient, sampler_graph: Build, plain_graph: Build, play: Play
) -> None:
    play(seconds=FOR_EVER_S)
    begun = asyncio.Event()
    jobs = [
        asyncio.ensure_future(client.render(sampler_graph(), OUT, on_progress=lambda _: begun.set())),
        asyncio.ensure_future(client.render(plain_graph(), OUT)),
    ]
    await begun.wait()

    psutil.Process(engine.pid).kill()

    results = await asyncio.gather(*jobs, return_exceptions=True)
    assert [type(result) for result in results] == [EngineDied, EngineDied]
    with pytest.raises(EngineDied):
        await client.render(plain_graph(), OUT)


async def test_a_closed_client_calls_the_engine_dead(client: EngineClient, plain_graph: Build) -> None:
    await client.close()

    with pytest.raises(EngineDied):
        await client.put_input("abc", b"picture")
    with pytest.raises(EngineDied):
        await client.render(plain_graph(), OUT)
    await client.drop_inputs(["abc"])


@pytest.mark.parametrize("error", [OSError(107, "Transport endpoint is not connected"), AttributeError("shutdown")])
async def test_a_socket_that_is_gone_already_does_not_keep_the_client_from_closing(
    client: EngineClient, sampler_graph: Build, play: Play, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    play(seconds=FOR_EVER_S)
    begun = asyncio.Event()
    job = asyncio.ensure_future(client.render(sampler_graph(), OUT, on_progress=lambda _: begun.set()))
    await begun.wait()
    abort = websocket.WebSocket.abort

    def abort_late(socket: websocket.WebSocket) -> None:
        abort(socket)
        raise error

    monkeypatch.setattr(websocket.WebSocket, "abort", abort_late)

    await client.close()

    with pytest.raises(EngineDied):
        await job


async def test_an_engine_whose_websocket_can_not_be_had_back_takes_no_more_jobs(
    client: EngineClient, plain_graph: Build, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    async def refuse() -> None:
        raise EngineDied("no")

    monkeypatch.setattr(connection_module, "RECONNECT_ATTEMPTS", 1)
    monkeypatch.setattr(client._connection, "open", refuse)
    assert client._connection._reader is not None
    client._connection._reader.socket.abort()
    await until(lambda: client._connection._recovery is not None and client._connection._recovery.done())

    with pytest.raises(EngineDied, match="gone"):
        await client.render(plain_graph(), OUT)


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "engine-reader"]


async def test_a_websocket_lost_again_while_it_is_got_back_is_got_back_once_more(
    client: EngineClient, plain_graph: Build, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    connect, sockets = client._connection.open, 0

    async def connect_and_lose() -> None:
        nonlocal sockets
        sockets += 1
        await connect()
        if sockets == 1:
            assert client._connection._reader is not None
            client._connection._reader.socket.abort()
            client._connection._reader._thread.join()

    # Other clients may be open as long as all tests run.
    readers = len(reading_threads())
    monkeypatch.setattr(client._connection, "open", connect_and_lose)
    assert client._connection._reader is not None
    client._connection._reader.socket.abort()
    await until(
        lambda: sockets == 2 and client._connection._recovery is not None and client._connection._recovery.done()
    )

    assert len(await client.render(plain_graph(), OUT)) == 1
    await until(lambda: len(reading_threads()) == readers)


async def test_closing_the_client_ends_its_jobs(client: EngineClient, sampler_graph: Build, play: Play) -> None:
    play(seconds=FOR_EVER_S)
    begun = asyncio.Event()
    job = asyncio.ensure_future(client.render(sampler_graph(), OUT, on_progress=lambda _: begun.set()))
    await begun.wait()

    await client.close()

    with pytest.raises(EngineDied):
        await job


async def test_nobody_gets_in_with_a_wrong_token(engine: EngineProcess) -> None:
    client = EngineClient(engine.url, "wrong")

    with pytest.raises(EngineDied, match="401"):
        await client.open()

    await client.close()


async def test_an_engine_that_is_not_there_is_dead(engine: EngineProcess) -> None:
    await engine.stop(timeout_s=0)
    client = EngineClient(engine.url, engine.token)

    with pytest.raises(EngineDied):
        await client.open()

    await client.close()


@pytest.mark.parametrize("stage", ["connecting", "greeting"])
async def test_a_connection_that_is_given_up_leaves_no_socket(
    engine: EngineProcess, monkeypatch: pytest.MonkeyPatch, until: Until, stage: str
) -> None:
    opened: list[websocket.WebSocket] = []
    go_on = threading.Event()
    create = websocket.create_connection

    def create_slowly(*args: Any, **options: Any) -> websocket.WebSocket:
        opened.append(create(*args, **options))
        assert go_on.wait(60)
        return opened[0]

    monkeypatch.setattr(websocket, "create_connection", create_slowly)
    client = EngineClient(engine.url, engine.token)
    opening = asyncio.ensure_future(client.open())
    await until(lambda: opened)

    if stage == "connecting":
        opening.cancel()
        error: type[BaseException] = asyncio.CancelledError
    else:
        monkeypatch.setattr(websocket.WebSocket, "send", broken_pipe)
        error = EngineDied
    await asyncio.sleep(0)
    go_on.set()

    with pytest.raises(error):
        await opening
    await until(lambda: opened[0].sock is None)
    await client.close()


def broken_pipe(*_: Any) -> None:
    raise BrokenPipeError


def connections_to(engine: EngineProcess) -> list[Any]:
    port = int(engine.url.rsplit(":", 1)[1])
    ours = psutil.Process().net_connections("tcp")
    return [each for each in ours if each.raddr and each.raddr.port == port and each.status == psutil.CONN_ESTABLISHED]


async def rounds_of_the_loop(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("steps", range(16))
async def test_a_client_closed_at_any_moment_of_a_request_leaves_no_connection(
    engine: EngineProcess, steps: int
) -> None:
    client = EngineClient(engine.url, engine.token)
    asking = asyncio.ensure_future(client.put_input("key", b"picture"))
    await rounds_of_the_loop(steps)

    await client.close()

    await asyncio.gather(asking, return_exceptions=True)
    # A transport that is closed lets go of its socket in the next round.
    await rounds_of_the_loop(1)
    assert connections_to(engine) == []


@pytest.mark.parametrize("steps", range(1, 17))
async def test_a_client_whose_closing_is_cancelled_at_any_moment_leaves_no_connection(
    engine: EngineProcess, steps: int
) -> None:
    client = EngineClient(engine.url, engine.token)
    await client.open()
    await asyncio.gather(*[client.put_input("key", b"picture") for _ in range(3)])
    assert len(connections_to(engine)) == 4
    closing = asyncio.ensure_future(client.close())
    await rounds_of_the_loop(steps)

    for _ in range(2):
        closing.cancel()
        await rounds_of_the_loop(1)

    await asyncio.gather(closing, return_exceptions=True)
    await rounds_of_the_loop(1)
    assert connections_to(engine) == []


PROXY = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    "variables",
    [
        {"HTTP_PROXY": PROXY, "HTTPS_PROXY": PROXY},
        {"http_proxy": PROXY, "https_proxy": PROXY},
        {"ALL_PROXY": "socks5://127.0.0.1:9"},
        {"all_proxy": "socks5h://127.0.0.1:9", "NO_PROXY": ""},
        {"http_proxy": PROXY, "NO_PROXY": "localhost", "no_proxy": "example.com"},
        {"HTTP_PROXY": "no address at all", "NO_PROXY": "[::1]"},
        {"WS_PROXY": PROXY, "ws_proxy": PROXY},
    ],
    ids=str,
)
async def test_no_proxy_is_ever_between_the_worker_and_its_engine(
    settings: EngineSettings, plain_graph: Build, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    process = EngineProcess(settings)
    await process.start()
    client = EngineClient(process.url, process.token)
    try:
        await client.open()
        assert len(await client.render(plain_graph(), OUT)) == 1
    finally:
        client.expect_end()
        await process.stop(timeout_s=0)
        await client.close()
