"""Pop files as `render` and `workflows explain` read them."""

import json
from pathlib import Path
from typing import Any

import pytest

from worker.errors import JobNotUnderstood
from worker.horde.messages import PopResponse
from worker.jobs.preview import read_pop_file

POP = {"ids": ["a"], "payload": {"prompt": "x"}, "model": "Deliberate"}


@pytest.fixture
def read(tmp_path: Path):
    def write_and_read(content: Any) -> PopResponse:
        file = tmp_path / "pop.json"
        file.write_text(json.dumps(content), encoding="utf-8")
        return read_pop_file(file)

    return write_and_read


@pytest.mark.parametrize("content", [POP, {"pops": [{"response": POP}]}, POP | {"ttl": "x", "messages": 7}])
def test_a_pop_is_read_as_the_worker_reads_it(read, content):
    assert read(content).job_ids == ["a"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([], "holds no pop response"),
        ({"pops": ["x"]}, "holds no pop response"),
        ({"pops": [{}]}, "holds no pop response"),
        (POP | {"ids": []}, "a pop without a job"),
        (POP | {"ids": [1]}, "ids: "),
        (POP | {"model": 7}, "model: "),
        (POP | {"extra_source_images": [{}]}, "extra_source_images: "),
    ],
)
def test_what_is_no_pop_is_refused_in_a_sentence(read, content, told):
    with pytest.raises(JobNotUnderstood, match=told):
        read(content)
