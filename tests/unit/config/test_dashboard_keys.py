import pytest

from worker.config.dashboard_keys import is_loopback
from worker.config.load import load_config
from worker.errors import ConfigError

TOKEN = "a-token-of-my-own-1"


@pytest.fixture
def load(tmp_path):
    def from_text(text):
        file = tmp_path / "bridgeData.yaml"
        file.write_text(text, encoding="utf-8")
        return load_config(file, environment={})

    return from_text


def test_without_any_of_its_keys_the_page_is_for_this_machine_alone(load):
    data = load("max_power: 8").data
    assert data.dashboard
    assert is_loopback(data.dashboard_address)
    assert data.dashboard_token is None
    assert not data.dashboard_shows_jobs


@pytest.mark.parametrize("address", ["0.0.0.0", "192.168.1.5", "'::'", "'[::]'"])
def test_without_a_token_of_the_owners_other_machines_are_kept_out_and_the_owner_is_told(load, address):
    loaded = load(f"dashboard_address: {address}")
    assert is_loopback(loaded.data.dashboard_address)
    (warning,) = loaded.warnings
    assert warning.endswith("to 127.0.0.1: other machines may reach the page only with a dashboard_token of your own.")


def test_with_a_token_of_the_owners_the_page_listens_where_he_says(load):
    loaded = load(f"dashboard_address: 0.0.0.0\ndashboard_token: {TOKEN}")
    assert (loaded.data.dashboard_address, loaded.warnings) == ("0.0.0.0", ())


def test_a_token_that_is_too_short_is_refused_and_not_shown(load):
    with pytest.raises(ConfigError) as caught:
        load("dashboard_token: fifteen-letters")
    assert "it has 15 characters, the least is 16" in caught.value.message
    assert "fifteen" not in caught.value.message


@pytest.mark.parametrize(
    ("token", "said"), [("a" * 20, "it has 1 different character,"), ("12345" * 10, "it has 5 different characters,")]
)
@pytest.mark.parametrize("key", ["dashboard_token", "dashboard_announce_token"])
def test_a_token_of_few_different_characters_is_refused_and_not_shown(load, key, token, said):
    with pytest.raises(ConfigError) as caught:
        load(f"{key}: '{token}'")
    assert f"{said} the least is 6; `openssl rand" in caught.value.message
    assert token not in caught.value.message


@pytest.mark.parametrize("address", ["my-host", "127.0.0.1:80", "300.1.1.1"])
def test_an_address_to_listen_at_is_a_number(load, address):
    with pytest.raises(ConfigError, match="it is no IP address"):
        load(f"dashboard_address: {address}")


def test_localhost_means_the_address_of_this_machine(load):
    assert load("dashboard_address: localhost").data.dashboard_address == "127.0.0.1"


@pytest.mark.parametrize(
    ("written", "meant"), [("worker", "/worker"), ("/a/b/", "/a/b"), ("/", "/"), ("/my-worker_1", "/my-worker_1")]
)
def test_a_path_is_taken_with_and_without_slashes_around_it(load, written, meant):
    assert load(f"dashboard_path: {written}").data.dashboard_path == meant


@pytest.mark.parametrize("path", ["/a/../b", "/a//b", "/a?b", "'/<b>'", "/ä"])
def test_a_path_that_is_none_is_refused(load, path):
    with pytest.raises(ConfigError, match="dashboard_path"):
        load(f"dashboard_path: {path}")


def test_a_proxy_is_an_address_or_a_network(load):
    assert load("dashboard_proxies: [10.0.0.1, 172.16.0.0/12]").data.dashboard_proxies == ("10.0.0.1", "172.16.0.0/12")
    with pytest.raises(ConfigError, match="an entry is no IP address and no network"):
        load("dashboard_proxies: [proxy.lan]")


def test_an_announcement_without_a_token_is_doubtful(load):
    (warning,) = load("dashboard_announce_to: http://192.168.1.5:7861").warnings
    assert "has no effect without dashboard_announce_token" in warning
