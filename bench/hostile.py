"""What strangers can do to the supervisor while good jobs run: longest stall, memory, good jobs lost.

A server between the worker and the embedded Horde answers every other pop with something hostile (bombs of compression,
of JSON and of pictures, floods of headers, numbers that no double holds, names with escape sequences) and is the host
of the pictures that hostile jobs name. The engines are simulated: what is measured is the worker. `stall_cpu_ms` is the
longest that the event loop's thread computed between two answers: what of the stalls is not the machine's.

    python bench/hostile.py --jobs 60 --rounds 2
"""

import argparse
import asyncio
import contextlib
import json
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import idle
import psutil
import sides

from worker.demo.horde import hostile

GOAL = {"stall_ms": 100.0, "rss_mb": 300.0, "good_jobs_lost": 0.0}
ENGINES, JOB_S = 2, 0.2
#: Lost is a good job that is not delivered so many seconds after the last hostile answer.
PATIENCE_S = 240.0
#: Niceness of all that is not the supervisor; Windows has classes instead.
BEHIND = 10


class Stranger:
    """Hostile answers to pops, one kind after another, and the host of hostile pictures."""

    def __init__(self, behind: str, rounds: int) -> None:
        self._behind = behind
        self.url = ""
        self.kinds = [*self.answers(), *(f"picture:{kind}" for kind in hostile.PICTURES)] * rounds
        self.served: list[str] = []
        self._pops = 0

    def answers(self) -> dict[str, Callable[[], bytes]]:
        """What makes whole answers to a pop, by the name of their kind."""
        return {
            **{kind: partial(hostile.empty_handed, kind) for kind in hostile.EMPTY_HANDED},
            **{f"job:{kind}": partial(self._hostile_job, make) for kind, make in hostile.JOBS.items()},
            "5000-ids": self._many_ids,
        }

    def _hostile_job(self, make: Callable[[dict[str, Any]], bytes]) -> bytes:
        return make(self.job())

    def _many_ids(self) -> bytes:
        ids = [str(uuid.uuid4()) for _ in range(5_000)]
        uploads = [f"{self.url}/kept/{each}" for each in ids]
        return hostile.ok(json.dumps({**self.job(), "ids": ids, "r2_uploads": uploads}).encode())

    def job(self) -> dict[str, Any]:
        """A job whose upload goes to this server."""
        id_ = str(uuid.uuid4())
        plain = {"payload": {"prompt": "a fox", "width": 64, "height": 64, "ddim_steps": 2}, "model": sides.ONE_MODEL}
        return {"id": id_, "ids": [id_], "ttl": 60, **plain, "r2_uploads": [f"{self.url}/kept/{id_}"]}

    def hostile_pop(self) -> bytes:
        """The next hostile answer."""
        kind = self.kinds.pop(0)
        self.served.append(kind)
        if not kind.startswith("picture:"):
            return self.answers()[kind]()
        return hostile.with_pictures(self.job(), f"{self.url}/picture/{kind.partition(':')[2]}")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: one request, one answer."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, httpx.HTTPError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, path, _ = head.split("\r\n")[0].split(" ")
            headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            length = next((int(value) for name, value in headers.items() if name.lower() == "content-length"), 0)
            body = await reader.readexactly(length)
            writer.write(await self._answer(method, path, headers, body))
            await writer.drain()
            while path.rpartition("/")[2] in hostile.ENDLESS:
                await asyncio.sleep(hostile.CHUNK_EVERY_S)
                writer.write(hostile.CHUNK)
                await writer.drain()
        writer.close()

    async def _answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
        if path.startswith("/picture/"):
            return await asyncio.to_thread(hostile.picture, path.rpartition("/")[2])
        if path.startswith("/kept/"):
            return hostile.ok(b"", "Connection: close")
        if path.endswith("/generate/pop"):
            self._pops += 1
            if self.kinds and self._pops % 2:
                return await asyncio.to_thread(self.hostile_pop)
        keep = {name: value for name, value in headers.items() if name.lower() not in {"host", "content-length"}}
        async with httpx.AsyncClient(base_url=self._behind, trust_env=False, timeout=60) as http:
            answer = await http.request(method, path, headers=keep, content=body)
        start = f"HTTP/1.1 {answer.status_code} X\r\nContent-Type: application/json\r\nConnection: close\r\n"
        return f"{start}Content-Length: {len(answer.content)}\r\n\r\n".encode() + answer.content


@contextlib.contextmanager
def between(behind: str, rounds: int) -> Iterator[Stranger]:
    """A stranger between the worker and its Horde, in a thread of its own."""
    stranger, ready, loop = Stranger(behind, rounds), threading.Event(), asyncio.new_event_loop()

    async def start() -> None:
        server = await asyncio.start_server(stranger.serve, "127.0.0.1", 0)
        stranger.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()

    async def leave() -> None:
        for connection in (left := asyncio.all_tasks() - {asyncio.current_task()}):
            connection.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def run() -> None:
        loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(leave())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait(30)
    try:
        yield stranger
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def let_pass(supervisor: psutil.Process) -> None:
    """Give everything of this bench less of the processors than the supervisor, which alone is measured."""
    here = psutil.Process()
    for other in (here, *here.children(recursive=True)):
        if other != supervisor:
            with contextlib.suppress(psutil.Error):
                other.nice(getattr(psutil, "BELOW_NORMAL_PRIORITY_CLASS", BEHIND))


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    with (
        tempfile.TemporaryDirectory() as folder,
        sides.horde() as requester,
        between(requester.url, arguments.rounds) as stranger,
    ):
        sides.build_models(sides.ONE_MODEL)
        command = [str(sides.WORKER), "--horde", stranger.url, "--logs", folder, "--pulse"]
        with sides.started(*command, "--simulated", str(ENGINES), "--seconds", str(JOB_S)) as child:
            for _ in range(ENGINES):
                sides.said(child)
            supervisor = psutil.Process(child.pid)
            let_pass(supervisor)
            requester.ask(
                argparse.Namespace(side=64, steps=2), [(sides.ONE_MODEL, seed) for seed in range(arguments.jobs)]
            )
            rss, began, deadline = 0, 0.0, time.time() + PATIENCE_S
            delivered = 0
            while (delivered < arguments.jobs or stranger.kinds) and time.time() < deadline:
                time.sleep(0.1)
                delivered = len(requester.books()["delivered_at"])
                if delivered >= ENGINES:
                    began = began or time.time()
                    rss = max(rss, supervisor.memory_info().rss)
            ended = time.time()
            child.send_signal(signal.SIGTERM)
            stalls = [(late, own) for at, late, own in idle.last_words(child)["stalls"] if began <= at <= ended]
        log = Path(folder) / "bridge.log"
        arguments.forged = sum(line.startswith("INFO forged") for line in log.read_text("utf-8").splitlines())
        arguments.kinds_served, arguments.kinds_left = len(stranger.served), len(stranger.kinds)
    return {
        "stall_ms": 1000 * max((late for late, _ in stalls), default=0.0),
        "stall_cpu_ms": 1000 * max((own for _, own in stalls), default=0.0),
        "rss_mb": rss / 1e6,
        "good_jobs_lost": float(arguments.jobs - delivered),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=2, help="how often each kind of hostile answer comes")
    arguments = parser.parse_args()
    figure = measure(arguments)
    print(
        json.dumps(
            {
                "name": "hostile",
                "figure": {key: round(value, 2) for key, value in figure.items()},
                "goal": GOAL,
                "meets": all(figure[key] <= GOAL[key] for key in GOAL),
                "settings": vars(arguments),
            }
        )
    )


if __name__ == "__main__":
    main()
