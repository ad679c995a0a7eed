"""A mapping that keeps what was written last."""

from worker.bounded_dict import BoundedDict


def test_the_entry_written_least_recently_makes_room():
    kept: BoundedDict[str, int] = BoundedDict(2)
    kept["a"], kept["b"] = 1, 2
    kept["a"] = 3
    kept.setdefault("c", 4)
    assert dict(kept) == {"a": 3, "c": 4}


def test_it_never_holds_more_than_its_limit():
    kept: BoundedDict[int, int] = BoundedDict(10)
    kept.update({number: number for number in range(1000)})
    assert list(kept) == list(range(990, 1000))
    kept |= {number: number for number in range(2000, 3000)}
    assert list(kept) == list(range(2990, 3000))
