"""The Horde is gone for a while: nothing that was made is lost, and the worker goes on by itself."""

import threading

import pytest

from worker.demo.horde.records import Baseline, ModelFacts, Outcome
from worker.demo.horde.server import HordeServer, create_app, listen
from worker.demo.horde.state import EmbeddedHorde

pytestmark = pytest.mark.e2e


class Server:
    """The embedded Horde on one port, off and on; what it knows stays."""

    def __init__(self, state, port):
        self.state, self.port = state, port

    def on(self):
        self.listener = listen(self.port)
        self.server = HordeServer(create_app(self.state))
        self.thread = threading.Thread(target=self.server.run, args=([self.listener],), daemon=True)
        self.thread.start()
        assert self.server.ready.wait(60)

    def off(self):
        self.server.stop()
        self.thread.join()
        self.listener.close()


@pytest.fixture
def server(owner):
    """In place of the owner's Horde, which can't be turned off."""
    state = EmbeddedHorde(models={"Tiny SD1.5": ModelFacts(Baseline.SD1)}, seed=1)
    with listen(0) as free:
        port = free.getsockname()[1]
    server = Server(state, port)
    owner.configure(horde_url=f"http://127.0.0.1:{port}/api/")
    owner.horde = type(owner.horde)(f"http://127.0.0.1:{port}", state, owner.horde.faults)
    server.on()
    yield server
    server.off()


def test_what_was_made_while_the_horde_was_gone_is_delivered_when_it_is_back(owner, server):
    owner.play(seconds=2.0)
    requests = owner.ask()
    owner.start()
    owner.until(lambda: owner.outcomes()[Outcome.OPEN] == 1)
    owner.until(lambda: "popped, " in owner.output)
    server.off()
    owner.until(lambda: "finished in" in owner.output)
    owner.until(lambda: "No new jobs" in owner.output)
    server.on()
    owner.done(requests)
    owner.until(lambda: "Asking for jobs again" in owner.output)
    more = owner.ask()
    owner.done(more)
    assert owner.outcomes() == {Outcome.OK: 2}
    owner.signal()
    assert owner.end() == 0, owner.output
