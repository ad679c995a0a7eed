"""The table of verdicts: what is seen, who wants what, and what leaves."""

import pytest

from worker.images import RawImage
from worker.safety.gate import draw_replacement
from worker.safety.verdict import Censorship, Finding, Rules, Verdict, judge

CLEAN, NUDE = Finding(nsfw=False, csam=False), Finding(nsfw=True, csam=False)
WORST, ODD = Finding(nsfw=True, csam=True), Finding(nsfw=False, csam=True)
ANY, SAFE_WORKER, CAREFUL = Rules(), Rules(allows_nsfw=False), Rules(censors_unasked=True)
OPEN, SAFE, MADE_FOR_IT = {}, {"censor_nsfw": True}, {"nsfw_model": True}
PANEL = RawImage(1, 1, "RGB", b"\0\0\0")


@pytest.mark.parametrize(
    ("finding", "rules", "wish", "expected"),
    [
        (CLEAN, ANY, OPEN, None),
        (CLEAN, SAFE_WORKER, SAFE, None),
        (CLEAN, CAREFUL, SAFE, None),
        (NUDE, ANY, OPEN, None),
        (NUDE, ANY, MADE_FOR_IT, None),
        (NUDE, ANY, SAFE, Censorship.REQUEST),
        (NUDE, SAFE_WORKER, OPEN, Censorship.WORKER),
        (NUDE, SAFE_WORKER, SAFE, Censorship.WORKER),
        (NUDE, SAFE_WORKER, MADE_FOR_IT, Censorship.WORKER),
        (NUDE, CAREFUL, OPEN, Censorship.UNASKED),
        (NUDE, CAREFUL, MADE_FOR_IT, None),
        (NUDE, CAREFUL, SAFE | MADE_FOR_IT, Censorship.REQUEST),
        *((finding, rules, wish, Censorship.CSAM) for finding in (WORST, ODD) for rules in (ANY, SAFE_WORKER, CAREFUL)
          for wish in (OPEN, SAFE, MADE_FOR_IT)),
    ],
)  # fmt: skip
def test_an_image_is_withheld_for_the_gravest_reason_there_is(finding, rules, wish, expected):
    assert judge(finding, rules, **wish) is expected


@pytest.mark.parametrize(
    ("verdict", "state", "note"),
    [
        (Verdict(), "ok", None),
        (Verdict(nsfw=True), "ok", ("information", "nsfw")),
        (Verdict(nsfw=True, replacement=PANEL), "censored", ("censorship", "nsfw")),
        (Verdict(nsfw=True, csam=True, replacement=PANEL), "csam", ("censorship", "csam")),
        (Verdict(csam=True, replacement=PANEL), "csam", ("censorship", "csam")),
    ],
)
def test_the_requester_is_told_what_was_seen_and_whether_it_was_withheld(verdict, state, note):
    assert (verdict.state, verdict.note) == (state, note)


def test_the_worst_can_not_be_let_through_by_mistake():
    with pytest.raises(ValueError, match="replacement"):
        Verdict(nsfw=True, csam=True)


@pytest.mark.parametrize("size", [(64, 64), (512, 512), (1024, 192), (200, 1600), (1, 1)])
@pytest.mark.parametrize("reason", list(Censorship))
def test_a_replacement_has_the_size_of_the_image_it_stands_for(size, reason):
    panel = draw_replacement(*size, reason)
    panel.check()
    assert (panel.width, panel.height, panel.mode) == (*size, "RGB")


def test_a_replacement_says_why():
    panels = {draw_replacement(512, 512, reason).pixels for reason in Censorship}
    assert len(panels) == len(Censorship)
    wordless = draw_replacement(64, 64, Censorship.CSAM)
    assert wordless == draw_replacement(64, 64, Censorship.WORKER)


def test_the_words_of_a_replacement_stay_within_its_border():
    panel = draw_replacement(512, 512, Censorship.UNASKED).to_pillow()
    inner = panel.crop((512 // 32 + 4, 512 // 32 + 4, 512 - 512 // 32 - 4, 512 - 512 // 32 - 4))
    left, top, right, bottom = _words(inner)
    assert left > 0
    assert top > 0
    assert right < inner.width
    assert bottom < inner.height


def _words(picture):
    """Where anything but the ground is."""
    box = picture.convert("L").point(lambda value: 255 if value > 60 else 0).getbbox()
    assert box
    return box
