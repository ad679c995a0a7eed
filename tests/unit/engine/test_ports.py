"""The loopback ports that engines listen on."""

import socket

import pytest

import worker.engine.process as process_module
from worker.engine.process import free_port
from worker.errors import EngineNotRunnable, EngineStartFailed


def test_a_free_port_is_none_that_an_outgoing_connection_may_get() -> None:
    assert {free_port() for _ in range(20)} < set(range(20_000, 32_768))


def test_where_all_those_ports_are_taken_the_system_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(process_module, "PORTS", range(port, port + 1))

        assert free_port() not in {0, port}


def test_a_system_without_ports_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(98, "Address already in use")

    monkeypatch.setattr(socket.socket, "bind", refuse)

    with pytest.raises(EngineStartFailed, match="no free port"):
        free_port()


def test_a_machine_whose_loopback_is_down_is_told_of_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", refuse)

    with pytest.raises(EngineNotRunnable, match=r"127\.0\.0\.1.*Network is unreachable.*ip link set lo up"):
        free_port()
