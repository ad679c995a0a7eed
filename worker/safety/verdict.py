"""What a finding means for an image: whether it may leave, and what its requester is told. Pure."""

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from worker.images import RawImage


@dataclass(frozen=True)
class Finding:
    """What the checker found in an image."""

    nsfw: bool
    csam: bool
    #: how well it is liked, 0 to 10; None where that is not known
    aesthetic: float | None = None


@dataclass(frozen=True)
class Rules:
    """The owner's settings."""

    #: setting `nsfw`: images may show nudity
    allows_nsfw: bool = True
    #: setting `censor_nsfw`: nudity that was not asked for is censored
    censors_unasked: bool = False
    #: setting `aesthetic_score`: requesters are told how well an image is liked
    tells_score: bool = True


class Censorship(str, Enum):
    """Why an image is censored. The value is the text on its replacement."""

    CSAM = "This image was withheld: it may show a minor in a sexual context."
    WORKER = "This image was withheld: the worker that made it delivers only images that are safe for work."
    REQUEST = "This image was withheld: only images that are safe for work were asked for."
    UNASKED = "This image was withheld: it turned out not to be safe for work, and that was not asked for."


def judge(finding: Finding, rules: Rules, *, censor_nsfw: bool = False, nsfw_model: bool = False) -> Censorship | None:
    """Why the image is censored; None when it may leave.

    `censor_nsfw`: the job's `use_nsfw_censor`, no nudity. `nsfw_model`: the model is made for nudity.
    """
    if finding.csam:
        return Censorship.CSAM
    if not finding.nsfw:
        return None
    if not rules.allows_nsfw:
        return Censorship.WORKER
    if censor_nsfw:
        return Censorship.REQUEST
    if rules.censors_unasked and not nsfw_model:
        return Censorship.UNASKED
    return None


@dataclass(frozen=True)
class Verdict:
    """What an image shows, and the image delivered in its place if it is censored."""

    nsfw: bool = False
    csam: bool = False
    replacement: RawImage | None = None
    #: of an image that leaves as it is
    aesthetic: float | None = None

    def __post_init__(self) -> None:
        if self.csam and self.replacement is None:
            raise ValueError("an image with this finding never leaves; it needs a replacement")

    @property
    def state(self) -> Literal["ok", "censored", "csam"]:
        """The state of the submission. The Horde reads the note alone; older tools read this."""
        if self.csam:
            return "csam"
        return "censored" if self.replacement else "ok"

    @property
    def note(self) -> tuple[Literal["censorship", "information"], Literal["csam", "nsfw"]] | None:
        """Type and value of the gen_metadata entry for the requester, if there is anything to tell."""
        if self.csam:
            return "censorship", "csam"
        if self.replacement:
            return "censorship", "nsfw"
        return ("information", "nsfw") if self.nsfw else None
