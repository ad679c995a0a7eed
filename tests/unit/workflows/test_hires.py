import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.workflows.families import TRAITS
from worker.workflows.hires import first_pass_size, second_pass_steps, wants_second_pass
from worker.workflows.types import Family

SD1, SDXL = Family.STABLE_DIFFUSION_1, Family.STABLE_DIFFUSION_XL
SIDES = st.integers(1, 128).map(lambda n: n * 64)


@pytest.mark.parametrize(
    ("family", "size", "first"),
    [
        (SD1, (768, 768), (512, 512)),
        (Family.STABLE_CASCADE, (2112, 512), (1024, 256)),
        (SD1, (768, 1024), (512, 640)),
        (SD1, (832, 1216), (512, 704)),
        (SD1, (1024, 576), (896, 512)),
        (SD1, (512, 1024), (512, 1024)),
        (Family.STABLE_DIFFUSION_2_768, (1024, 1024), (512, 512)),
        (SDXL, (1536, 1536), (1024, 1024)),
        (SDXL, (1152, 1536), (896, 1152)),
        (SDXL, (2048, 1152), (1344, 768)),
        (SDXL, (1088, 3072), (640, 1536)),
        (Family.STABLE_CASCADE, (1024, 1024), (1024, 1024)),
        (Family.STABLE_CASCADE, (1536, 1536), (1024, 1024)),
        (Family.STABLE_CASCADE, (2048, 1024), (1024, 512)),
    ],
)
def test_the_first_pass_has_the_size_requesters_know(
    family: Family, size: tuple[int, int], first: tuple[int, int]
) -> None:
    assert first_pass_size(family, *size) == first


@pytest.mark.parametrize(
    ("family", "size", "steps", "expected"),
    [
        (SD1, (768, 768), 30, 10),
        (SD1, (1024, 1024), 30, 16),
        (SD1, (1536, 1536), 30, 30),
        (SDXL, (1536, 1536), 30, 18),
        (SDXL, (1152, 1536), 30, 14),
        (SDXL, (2048, 2048), 30, 30),
        (SD1, (1024, 1024), 20, 11),
    ],
)
def test_the_second_pass_has_the_steps_requesters_know(
    family: Family, size: tuple[int, int], steps: int, expected: int
) -> None:
    assert second_pass_steps(family, *size, steps, 0.65) == expected


@pytest.mark.parametrize(
    ("family", "size", "wanted"),
    [
        (SD1, (512, 1024), False),
        (SD1, (1024, 512), False),
        (SD1, (576, 576), True),
        (SDXL, (1024, 2048), False),
        (SDXL, (1088, 1088), True),
        (Family.STABLE_DIFFUSION_2_512, (512, 512), True),
        (Family.STABLE_CASCADE, (1024, 1024), True),
        (Family.FLUX_SCHNELL, (2048, 2048), False),
        (Family.QWEN_IMAGE, (2048, 2048), False),
        (Family.Z_IMAGE_TURBO, (2048, 2048), False),
    ],
)
def test_a_second_pass_is_for_large_pictures_of_families_that_can(
    family: Family, size: tuple[int, int], wanted: bool
) -> None:
    assert wants_second_pass(family, *size) is wanted


@given(
    st.sampled_from(list(Family)),
    SIDES,
    SIDES,
    st.integers(1, 500),
    st.floats(0.01, 1.0),
)
def test_both_passes_stay_within_reason(family: Family, width: int, height: int, steps: int, denoise: float) -> None:
    least = TRAITS[family].min_side_px
    width, height = max(width, least), max(height, least)
    first = first_pass_size(family, width, height)
    assert all(side >= least and side % 64 == 0 for side in first)
    if family is not SDXL:
        assert first[0] <= width
        assert first[1] <= height
    assert min(6, steps) <= second_pass_steps(family, width, height, steps, denoise) <= steps
