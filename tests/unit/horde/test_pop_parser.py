import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.horde.http import Answer
from worker.horde.messages import PopResponse
from worker.horde.pop_parser import MAX_IDS, read_pop

IDS = [
    "2e42ccc3-a593-4512-a852-750b00fc216f",
    "cc81ff7c-6880-490a-a2c1-ec172dfd5fdb",
    "80eb9d55-1c03-4605-95a5-c0ce7e9f3e79",
]
SECRET = "X-Amz-Signature=bc7e0d01"
JOB: dict[str, Any] = {
    "payload": {"prompt": "three foxes", "n_iter": 3, "seed": "63"},
    "id": IDS[0],
    "ids": IDS,
    "messages": [],
    "ttl": 150,
    "skipped": {},
    "model": "Deliberate",
    "source_image": None,
    "source_processing": "img2img",
    "source_mask": None,
    "extra_source_images": None,
    "r2_upload": f"https://storage.invalid/{IDS[0]}.webp?{SECRET}",
    "r2_uploads": [f"https://storage.invalid/{one}.webp?{SECRET}" for one in IDS],
}


def read(body: Any, cut: str = "") -> PopResponse | None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_pop(Answer(200, httpx.Headers(), data, cut))


def test_a_sound_job_has_no_problems() -> None:
    job = read(JOB)
    assert job is not None
    assert (job.job_ids, job.problems, job.ttl, job.model) == (IDS, (), 150.0, "Deliberate")
    assert len(job.uploads) == 3


#: what no job can do without
VITAL = ["payload", "model", "r2_uploads", "source_image", "source_mask", "source_processing", "extra_source_images"]


@pytest.mark.parametrize("field", VITAL)
def test_a_garbled_field_keeps_the_ids_and_is_named(field: str) -> None:
    job = read(JOB | {field: {"un": ["expected"]} if field != "payload" else "unexpected"})
    assert job is not None
    assert job.job_ids == IDS
    assert any(problem.startswith(field) for problem in job.problems)


@pytest.mark.parametrize("field", ["payload", "model", "r2_uploads"])
def test_a_missing_field_keeps_the_ids_and_is_named(field: str) -> None:
    job = read({name: value for name, value in JOB.items() if name not in {field, "r2_upload"}})
    assert job is not None
    assert job.job_ids == IDS
    assert any(problem.startswith(field) for problem in job.problems)


@pytest.mark.parametrize(
    ("field", "value"),
    [("ttl", "soon"), ("ttl", -1), ("ttl", 0), ("skipped", []), ("messages", "hello"), ("messages", [{"id": 5}])],
)
def test_what_no_image_depends_on_does_no_harm(field: str, value: Any) -> None:
    job = read(JOB | {field: value})
    assert job is not None
    assert (job.job_ids, job.problems, job.ttl) == (IDS, (), 150.0)


def test_an_endless_time_to_live_is_not_believed() -> None:
    job = read(json.dumps(JOB).replace('"ttl": 150', '"ttl": Infinity').encode())
    assert job is not None
    assert job.ttl == 150.0


@pytest.mark.parametrize(
    ("id_field", "ids_field", "expected"),
    [
        (IDS[0], IDS[0], IDS[:1]),
        (None, IDS, IDS),
        (IDS[0], None, IDS[:1]),
        (IDS[0], "", IDS[:1]),
        (5, [IDS[0], None, 7, IDS[1]], IDS[:2]),
        (None, {"0": IDS[0], "1": IDS[1]}, IDS[:2]),
        (None, [[IDS[0]], [IDS[1]]], IDS[:1]),
        (IDS[2], [*IDS, IDS[0]], IDS),
    ],
)
def test_ids_of_any_shape_are_found(id_field: Any, ids_field: Any, expected: list[str]) -> None:
    job = read(JOB | {"id": id_field, "ids": ids_field})
    assert job is not None
    assert job.job_ids == expected


def test_fewer_addresses_than_images_is_a_problem() -> None:
    job = read(JOB | {"r2_uploads": JOB["r2_uploads"][:2]})
    assert job is not None
    assert job.problems == ("r2_uploads: 2 addresses for 3 images",)


def test_an_empty_pop_is_no_job_whatever_its_payload() -> None:
    job = read(JOB | {"id": None, "ids": [], "ttl": None, "r2_upload": None, "r2_uploads": None})
    assert job is not None
    assert (job.job_ids, job.problems) == ([], ())


def test_problems_tell_no_secret() -> None:
    job = read(JOB | {"r2_uploads": [{"url": JOB["r2_upload"]}], "source_image": [JOB["r2_upload"]]})
    assert job is not None
    assert job.problems
    assert SECRET not in " ".join(job.problems)


def test_the_server_can_not_write_our_problems() -> None:
    job = read(JOB | {"problems": ["made up"]})
    assert job is not None
    assert job.problems == ()


def test_unknown_fields_are_ignored() -> None:
    assert read(JOB | {"new": {"in": 2027}}) == read(JOB)


@given(st.integers(0, len(json.dumps(JOB))))
def test_a_body_cut_after_the_ids_keeps_all_that_arrived(end: int) -> None:
    text = json.dumps(JOB)
    job = read(text[:end].encode(), cut="ReadError")
    arrived = [one for one in IDS if one in text[: text.index('"messages"')][:end]]
    if not arrived:
        assert job is None
    else:
        assert job is not None
        assert job.job_ids == arrived
        assert job.problems or end == len(text)


@pytest.mark.parametrize(
    "body", [b"", b"<html>Cloudflare</html>", b"[]", b"{}", b"null", b'{"a":' * 100_000, b"\xff\xfe"]
)
def test_garbage_without_ids_is_no_answer(body: bytes) -> None:
    assert read(body) is None


def test_an_id_quoted_in_a_prompt_or_a_message_is_no_job() -> None:
    told = {"payload": {"prompt": f'"ids": ["{IDS[0]}"]'}, "messages": [{"id": IDS[1]}]}
    assert read(json.dumps(told).encode()[:-1]) is None


def test_ids_from_garbage_are_bounded() -> None:
    many = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(1000)]
    job = read(json.dumps({"ids": many}).encode()[:-1])
    assert job is not None
    assert job.job_ids == many[:MAX_IDS]


@given(
    st.dictionaries(
        st.sampled_from(list(JOB)),
        st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=10),
        max_size=5,
    )
)
def test_no_answer_of_any_shape_raises_or_loses_an_id(garbled: dict[str, Any]) -> None:
    job = read(JOB | garbled)
    assert job is not None
    if "ids" not in garbled:
        assert job.job_ids[:3] == IDS


@given(st.binary(max_size=200))
def test_no_bytes_raise(body: bytes) -> None:
    read(body)


def test_no_more_ids_are_taken_than_a_job_can_have_and_each_list_is_cut() -> None:
    many = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(5_000)]
    job = read(JOB | {
        "ids": many,
        "r2_uploads": [f"https://storage.invalid/{one}" for one in many],
        "extra_source_images": [{"image": "https://storage.invalid/x"}] * 2_000,
        "messages": [{"message": "hello"}] * 2_000,
    })  # fmt: skip
    assert job is not None
    assert (job.job_ids, job.problems) == (many[:MAX_IDS], ())
    assert (len(job.uploads), len(job.extra_source_images), len(job.messages)) == (MAX_IDS, 20, 20)


@pytest.mark.parametrize("bad", ["../../x", "a\nb", "\x1b[2J", "a b", "x" * 101, ".", "\u202e", ""])
def test_an_id_that_is_none_is_left_out(bad: str) -> None:
    job = read(JOB | {"ids": [bad, IDS[1]], "id": None, "r2_uploads": ["https://storage.invalid/a"]})
    assert job is not None
    assert job.job_ids == [IDS[1]]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400])
@pytest.mark.parametrize("field", ["n_iter", "cfg_scale", "steps", "seed", "denoising_strength"])
def test_numbers_that_no_double_holds_cost_no_job(number: str, field: str) -> None:
    text = json.dumps(JOB | {"payload": {"prompt": "a", field: "@"}}).replace('"@"', number)
    job = read(text.encode())
    assert job is not None
    assert (job.job_ids, job.problems, job.payload[field]) == (IDS, (), None)


def test_an_answer_that_is_nested_deep_still_tells_its_ids() -> None:
    text = json.dumps(JOB).replace('"three foxes"', "[" * 100_000)
    job = read(text.encode())
    assert job is not None
    assert job.job_ids == IDS
    assert job.problems


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_an_answer_in_another_encoding_still_tells_its_ids(encoding: str) -> None:
    job = read(json.dumps(JOB).encode(encoding))
    assert job is not None
    assert job.job_ids == IDS
    assert job.problems
