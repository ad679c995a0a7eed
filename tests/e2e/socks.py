"""A SOCKS5 proxy that leads to this machine whatever name it is asked for, and remembers what it was asked for."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

VERSION, NO_LOGIN, WITH_LOGIN, CONNECT = 5, 0, 2, 1
IPV4, NAME = 1, 3
SUCCESS = bytes((VERSION, 0, 0, IPV4, 0, 0, 0, 0, 0, 0))


@dataclass
class Socks:
    """`login`: user and password that it wants, if any."""

    login: tuple[str, str] | None = None
    address: str = ""
    #: "host:port" of each connection, in the words of the client
    asked_for: list[str] = field(default_factory=list)
    #: first bytes of each connection, which tell what it is for
    first_bytes: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            _, count = await reader.readexactly(2)
            methods = await reader.readexactly(count)
            method = WITH_LOGIN if self.login else NO_LOGIN
            assert method in methods
            writer.write(bytes((VERSION, method)))
            if self.login:
                await self._log_in(reader, writer)
            _, command, _, kind = await reader.readexactly(4)
            assert command == CONNECT
            length = 4 if kind == IPV4 else (await reader.readexactly(1))[0]
            host = await reader.readexactly(length)
            port = int.from_bytes(await reader.readexactly(2), "big")
            name = host.decode() if kind == NAME else ".".join(map(str, host))
            self.asked_for.append(f"{name}:{port}")
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(SUCCESS)
            with contextlib.closing(there_writer):
                self.first_bytes.append(first := await reader.read(65536))
                there_writer.write(first)
                await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))

    async def _log_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        said = [await reader.readexactly((await reader.readexactly(1))[0]) for _ in range(2)]
        assert tuple(word.decode() for word in said) == self.login
        writer.write(b"\x01\x00")


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65536):
        writer.write(piece)
        await writer.drain()
    writer.close()


@contextlib.contextmanager
def serving(socks: Socks) -> Iterator[Socks]:
    """Run it in a thread of its own."""
    ready, loops, over = threading.Event(), [], asyncio.Event()

    async def run() -> None:
        async with await asyncio.start_server(socks.serve, "127.0.0.1", 0) as server:
            socks.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            loops.append(asyncio.get_running_loop())
            ready.set()
            await over.wait()

    thread = threading.Thread(target=asyncio.run, args=[run()], daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield socks
    finally:
        loops[0].call_soon_threadsafe(over.set)
        thread.join(60)
