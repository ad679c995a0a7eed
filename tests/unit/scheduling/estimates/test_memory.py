"""What pictures need of a card's memory, learned from those that were made."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engine.card_watch import CONTEXT_BYTES
from worker.engine.events import MemoryNeed
from worker.scheduling.estimates.memory import FIXED_BYTES, MOST_KINDS, MemoryNeeds, OutOfMemoryLimits
from worker.workflows.features import evaluations_of
from worker.workflows.payload import read_request
from worker.workflows.request import LoraFile, ServedModel, SourceImage
from worker.workflows.types import Family

GIB = 1024**3
MEGA = 1024 * 1024
#: pixels of the smallest picture there is
LEAST = 64 * 64
MODEL = ServedModel("a", Family.STABLE_DIFFUSION_XL, {"checkpoint": "a.safetensors"})


def learned(*made: tuple[int, float], total: float = 8, evaluations: int = 1, needs: MemoryNeeds | None = None):
    """What follows from pictures of so many pixels that took so many GiB, on a card of `total` GiB."""
    needs = needs or MemoryNeeds()
    for pixels, used in made:
        need = MemoryNeed(int(used * GIB), int(total * GIB))
        needs.learn("a", "cuda:0", 0.0, pixels=pixels, evaluations=evaluations, need=need)
    return needs


def most(needs: MemoryNeeds, *, device: str = "cuda:0", now: float = 1.0, wanted: int = 2**62) -> int | None:
    limit = needs.limit_of("a", device, now, wanted=wanted)
    return limit.pixels if limit else None


@pytest.mark.parametrize(
    ("payload", "given", "expected"),
    [
        ({}, {}, 2),
        ({"cfg_scale": 1.0}, {}, 1),
        ({"cfg_scale": 1.0, "sampler_name": "k_euler_cfg_pp"}, {}, 1),
        ({"post_processing": ["RealESRGAN_x4plus", "CodeFormers", "strip_background"]}, {}, 2),
        ({"width": 2048, "height": 2048, "hires_fix": True}, {}, 0),
        ({"tiling": True}, {}, 0),
        ({"transparent": True}, {}, 0),
        ({"workflow": "qr_code"}, {}, 0),
        ({}, {"loras": (LoraFile("x"),)}, 0),
        ({}, {"source": SourceImage("k", 8, 8), "source_processing": "img2img"}, 0),
        ({"control_type": "canny"}, {"source": SourceImage("k", 8, 8)}, 0),
    ],
)
def test_only_what_a_sampler_takes_for_plain_pictures_is_a_lesson(payload, given, expected):
    assert evaluations_of(read_request(payload, model=MODEL, **given)) == expected


@pytest.mark.parametrize(
    ("made", "evaluations", "pixels"),
    [
        # Of 8 GiB half a GiB is the driver's, and half a GiB is taken at any size.
        ([(MEGA, 1.5)], 1, 7 * MEGA),
        ([(MEGA, 1.5)], 2, 14 * MEGA),
        ([(2 * MEGA, 2.5)], 1, 7 * MEGA),
        ([(MEGA, 1.5), (MEGA, 1.0)], 1, 7 * MEGA),
        ([(MEGA, 1.0), (MEGA, 1.5)], 1, 7 * MEGA),
        ([(MEGA, 0.5)], 1, None),
        ([(MEGA, 0.0)], 1, None),
        ([(0, 4.0)], 1, None),
        ([(MEGA, 4.0)], 0, None),
        # Nine were made where by the first seven fit: what the sampler takes is no guide to what it needs.
        ([(MEGA, 1.5), (9 * MEGA, 7.0)], 1, None),
        ([(9 * MEGA, 7.0), (MEGA, 1.5)], 1, None),
    ],
)
def test_the_need_of_a_larger_size_follows_from_the_pixels(made, evaluations, pixels):
    assert most(learned(*made, evaluations=evaluations)) == pixels


def test_a_limit_says_what_would_be_needed_and_what_is_there():
    limit = learned((MEGA, 1.5), total=24).limit_of("a", "cuda:0", 0.0, wanted=30 * MEGA)
    assert limit is not None
    assert limit.reason == "a larger picture needs about 30.5 GiB, and the card has 23.5 GiB for it"


def test_where_all_that_is_wanted_fits_there_is_no_limit():
    needs = learned((MEGA, 1.5))
    assert most(needs, wanted=7 * MEGA) is None
    assert most(needs, wanted=7 * MEGA + 1) == 7 * MEGA


def test_each_card_and_each_model_has_a_limit_of_its_own():
    needs = learned((MEGA, 1.5))
    needs.learn("a", "cuda:1", 0.0, pixels=MEGA, evaluations=1, need=MemoryNeed(3 * GIB // 2, 24 * GIB))
    assert most(needs, device="cuda:1") == 23 * MEGA
    assert most(needs, device="cuda:2") is None
    assert needs.limit_of("b", "cuda:0", 0.0, wanted=2**62) is None


@pytest.mark.parametrize(("pixels", "images"), [(MEGA, 7), (2 * MEGA, 3), (7 * MEGA, 1), (8 * MEGA, 1)])
def test_as_many_images_are_taken_as_fit_together(pixels, images):
    assert learned((MEGA, 1.5)).images("a", "cuda:0", 1.0, pixels=pixels) == images


def test_against_any_number_of_images_nothing_is_known_before_the_first():
    assert MemoryNeeds().images("a", "cuda:0", 1.0, pixels=MEGA) is None


def test_what_was_foretold_is_forgotten_after_a_while_and_what_confirms_it_makes_it_last_no_longer():
    needs = learned((MEGA, 1.5), needs=MemoryNeeds(lasts_s=100))
    needs.learn("a", "cuda:0", 60.0, pixels=MEGA, evaluations=1, need=MemoryNeed(3 * GIB // 2, 8 * GIB))
    assert most(needs, now=99) == 7 * MEGA
    assert most(needs, now=100) is None
    assert needs.images("a", "cuda:0", 100, pixels=MEGA) is None
    needs.learn("a", "cuda:0", 101.0, pixels=MEGA, evaluations=1, need=MemoryNeed(GIB, 8 * GIB))
    assert most(needs, now=102) == 14 * MEGA


def test_the_least_recently_learned_is_forgotten_first():
    needs = learned((MEGA, 1.5))
    for number in range(MOST_KINDS - 1):
        needs.learn(f"m{number}", "cuda:0", 0.0, pixels=MEGA, evaluations=1, need=MemoryNeed(GIB, 8 * GIB))
    assert most(needs) == 7 * MEGA
    needs.learn("one more", "cuda:0", 0.0, pixels=MEGA, evaluations=1, need=MemoryNeed(GIB, 8 * GIB))
    assert most(needs) is None


made = st.lists(
    st.tuples(st.integers(LEAST, 2**28), st.integers(0, 2**37), st.integers(0, 2), st.floats(0, 20_000)),
    min_size=1,
    max_size=8,
)


@given(made, st.integers(2**20, 2**37), st.integers(LEAST, 2**28), st.floats(0, 20_000))
def test_what_was_made_is_never_refused_and_what_fits_larger_fits_smaller(jobs, total, wanted, now):
    needs, largest = MemoryNeeds(), 0
    for pixels, used, evaluations, at in sorted(jobs, key=lambda job: job[3]):
        need = MemoryNeed(min(used, total), total)
        needs.learn("a", "cuda:0", at, pixels=pixels, evaluations=evaluations, need=need)
        largest = max(largest, pixels)
        assert needs.limit_of("a", "cuda:0", now, wanted=largest) is None
        images = needs.images("a", "cuda:0", now, pixels=LEAST)
        assert images is None or images >= largest // LEAST
    limit = needs.limit_of("a", "cuda:0", now, wanted=wanted)
    if limit is not None:
        assert 0 <= limit.pixels < wanted
        assert needs.limit_of("a", "cuda:0", now, wanted=limit.pixels) is None
        assert needs.limit_of("a", "cuda:0", now, wanted=wanted + 1) is not None


@given(st.integers(MEGA // 4, 16 * MEGA), st.floats(0.1, 30), st.integers(1, 2))
def test_what_follows_the_line_is_refused_only_where_it_would_not_fit(pixels, gib_per_mega, evaluations):
    """Whether the prompt and its negative went together or one after the other."""
    total = 24 * GIB

    def need_of(size: int) -> int:
        return int(FIXED_BYTES + size / MEGA * gib_per_mega * GIB)

    for together in range(1, evaluations + 1):
        used = need_of(pixels * together)
        if used > total - CONTEXT_BYTES:
            continue
        needs = learned((pixels, used / GIB), total=24, evaluations=evaluations)
        limit = most(needs)
        if limit is not None:
            assert need_of(int(limit * 1.01) + 64) > total - CONTEXT_BYTES


@pytest.mark.parametrize(
    ("failures", "pixels", "images"),
    [
        ([(MEGA, 1)], 0.75, None),
        ([(MEGA, 1), (MEGA, 1)], 0.75, None),
        ([(MEGA, 1), (MEGA * 3 // 4, 1)], 0.5625, None),
        ([(MEGA, 4)], None, 3),
        ([(MEGA, 4), (MEGA, 3)], None, 2),
        ([(MEGA, 2), (MEGA, 1)], 0.75, 1),
    ],
)
def test_where_memory_ran_out_batches_shrink_first_then_pictures(failures, pixels, images):
    limits = OutOfMemoryLimits()
    for size, batch in failures:
        limits.ran_out("a", "cuda:0", 0.0, pixels=size, batch=batch)
    limit = limits.limit_of("a", "cuda:0", 1.0)
    assert (limit and limit.pixels) == (pixels and int(MEGA * pixels))
    assert limits.images("a", "cuda:0", 1.0) == images
    assert limits.limit_of("a", "cuda:1", 1.0) is None, "another card may have more"
    assert limits.images("a", "cuda:1", 1.0) is None


def test_what_was_learned_of_memory_is_forgotten_after_a_while():
    limits = OutOfMemoryLimits(lasts_s=100)
    limits.ran_out("a", "cuda:0", 0.0, pixels=MEGA, batch=1)
    limits.ran_out("a", "cuda:0", 0.0, pixels=MEGA, batch=2)
    assert limits.limit_of("a", "cuda:0", 99) is not None
    assert limits.limit_of("a", "cuda:0", 100) is None
    assert limits.images("a", "cuda:0", 100) is None
