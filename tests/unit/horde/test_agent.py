import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.demo.horde.matching import reward_factor
from worker.errors import ConfigError
from worker.horde.agent import bridge_agent, credited_share, is_header_text


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=3), st.sampled_from(["", ":8080/x:y", "/a:b"]))
def test_the_servers_parser_finds_name_level_and_address_again(numbers: list[int], rest: str) -> None:
    level = ".".join(map(str, numbers))
    url = f"https://example.invalid{rest}"
    assert bridge_agent(level, url).split(":", 2) == ["AI Horde Worker reGen", level, url]


@pytest.mark.parametrize("level", ["", "13:0", "thirteen", "1.2.3.4", "13.0.0-beta", " 13", "1.", "٣"])
def test_a_level_that_is_no_version_is_refused(level: str) -> None:
    with pytest.raises(ConfigError):
        bridge_agent(level, "https://example.invalid")


@pytest.mark.parametrize("url", ["", "https://a\r\nb", "https://ü", "u" * 1000])
def test_an_address_that_no_header_can_hold_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        bridge_agent("13.0.0", url)


@given(st.text())
def test_header_text_survives_a_header(text: str) -> None:
    if is_header_text(text):
        assert text.encode("ascii").strip() == text.encode()


@pytest.mark.parametrize(
    "agent", [f"AI Horde Worker reGen:{level}.0.0:u" for level in (2, 6, 12, 13, 14)] + ["Mine:1:u"]
)
def test_of_a_reward_as_much_counts_as_the_server_books(agent: str) -> None:
    assert credited_share(agent) == reward_factor(agent)
