"""The closed set of named functions that a manifest may put between a field and an input (`via`)."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from worker.workflows import qr

#: Side of a picture over the side of Stable Cascade's first latent, with one pass and with a hires fix.
CASCADE_COMPRESSION, CASCADE_COMPRESSION_HIRES = 42, 32
#: cfg of its second stage, which gets no text, with one pass and with a hires fix.
CASCADE_DECODER_CFG, CASCADE_DECODER_CFG_HIRES = 1.0, 1.1
#: Share of the steps for its first stage and for its second: the Horde's requesters know pictures made like this.
CASCADE_PRIOR_SHARE, CASCADE_DECODER_SHARE = 0.67, 0.33


@dataclass(frozen=True)
class Transform:
    """A pure function between two plain types."""

    takes: type
    gives: type
    apply: Callable[[Any], Any]


def cascade_prior_steps(steps: int) -> int:
    return max(1, round(steps * CASCADE_PRIOR_SHARE))


def cascade_decoder_steps(steps: int) -> int:
    return max(1, round(steps * CASCADE_DECODER_SHARE))


def cascade_compression(hires: bool) -> int:
    return CASCADE_COMPRESSION_HIRES if hires else CASCADE_COMPRESSION


def cascade_decoder_cfg(hires: bool) -> float:
    return CASCADE_DECODER_CFG_HIRES if hires else CASCADE_DECODER_CFG


TRANSFORMS = {
    "negate": Transform(int, int, operator.neg),
    "cascade_prior_steps": Transform(int, int, cascade_prior_steps),
    "cascade_decoder_steps": Transform(int, int, cascade_decoder_steps),
    "cascade_compression": Transform(bool, int, cascade_compression),
    "cascade_decoder_cfg": Transform(bool, float, cascade_decoder_cfg),
    "qr_settled_step": Transform(int, int, qr.settled_step),
    "qr_patterns_step": Transform(int, int, qr.patterns_step),
    "qr_patterns_strength": Transform(float, float, qr.patterns_strength),
    "qr_whole_strength": Transform(float, float, qr.whole_strength),
}
