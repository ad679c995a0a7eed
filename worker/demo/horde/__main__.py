"""`python -m worker.demo.horde`: the embedded Horde as a process of its own, for benches and for trying things out.

Prints one JSON line once it answers: where it is, and the keys of its two accounts. Ends on SIGINT or SIGTERM.
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from worker.demo.horde.app import Latencies, create_app
from worker.demo.horde.directory import OWNER_KEY, REQUESTER_KEY
from worker.demo.horde.records import Refused
from worker.demo.horde.server import HordeServer, address_of, listen
from worker.demo.horde.state import EmbeddedHorde


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 when interrupted, 1 when the jobs file can't be used; SIGTERM ends it by that signal."""
    options = _parser().parse_args(arguments)
    state = EmbeddedHorde(seed=options.seed)
    if options.jobs_file:
        try:
            enqueue_file(state, options.jobs_file)
        except (OSError, ValueError, Refused) as error:
            sys.stderr.write(f"{options.jobs_file}: {error}\n")
            return 1
    with listen(options.port) as listener:
        server = HordeServer(create_app(state, latency=Latencies(options.api_latency, options.upload_latency)))
        url = address_of(listener)
        line = {"url": url, "api_url": f"{url}/api/v2", "owner_key": OWNER_KEY, "requester_key": REQUESTER_KEY}
        sys.stdout.write(json.dumps(line) + "\n")  # the socket listens already: whoever reads this may connect
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn has stopped in order and raises it afterwards
            server.run([listener])
    return 0


def enqueue_file(state: EmbeddedHorde, path: Path) -> list[str]:
    """Asks for every job of a file: a JSON list of bodies of POST /generate/async. Raises ValueError, Refused."""
    jobs = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(jobs, list):
        raise ValueError("not a JSON list of requests")  # noqa: TRY004 (the file's content, not a caller's argument)
    return [str(state.request_images(REQUESTER_KEY, job)[1]["id"]) for job in jobs]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m worker.demo.horde", description="A local AI Horde.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port")
    parser.add_argument("--api-latency", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--upload-latency", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--jobs-file", type=Path, help="a JSON list of bodies of POST /generate/async")
    parser.add_argument("--seed", type=int, help="for ids and seeds that are the same in every run")
    return parser


if __name__ == "__main__":
    sys.exit(main())
