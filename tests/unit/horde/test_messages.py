import pytest
from pydantic import ValidationError

from worker.horde.messages import GenMetadata, PopResponse, SubmitRequest, SubmitResponse


def submit(seed: int) -> SubmitRequest:
    return SubmitRequest(id="x", generation="R2", state="ok", seed=seed)


@pytest.mark.parametrize("seed", [-1, 0, 2**63 - 1, -(2**63)])
def test_a_seed_the_server_can_keep_stays(seed: int) -> None:
    assert submit(seed).seed == seed


@pytest.mark.parametrize("seed", [2**63, 2**64 - 1, 2**63 + 5])
def test_a_seed_the_server_would_choke_on_is_folded(seed: int) -> None:
    assert submit(seed).seed == seed - 2**63


def test_a_long_reference_is_cut_instead_of_losing_the_image() -> None:
    meta = GenMetadata(type="lora", value="download_failed", ref="x" * 300)
    assert meta.ref == "x" * 255


def test_a_reference_with_half_a_character_can_be_sent() -> None:
    meta = GenMetadata(type="lora", value="download_failed", ref="a\ud800b")
    assert meta.ref == "a?b"


def test_a_misspelt_field_of_ours_is_an_error() -> None:
    with pytest.raises(ValidationError):
        SubmitRequest(id="x", generation="R2", state="ok", seed=1, metadata=[])  # type: ignore[call-arg]


def test_null_counts_as_absent() -> None:
    assert PopResponse.model_validate({"id": None, "ids": None, "ttl": None, "messages": None}) == PopResponse()


def test_no_reward_is_not_the_same_as_a_reward_of_nothing() -> None:
    assert SubmitResponse().reward is None
    assert SubmitResponse.model_validate({"reward": 0.0}).reward == 0.0


def test_the_fields_of_a_payload_are_found_however_their_names_are_written() -> None:
    pop = PopResponse.model_validate(
        {"payload": {"Prompt": "a fox", "USE_NSFW_CENSOR": True, "loras": [{"Name": "a"}]}}
    )
    assert pop.payload == {"prompt": "a fox", "use_nsfw_censor": True, "loras": [{"Name": "a"}]}
