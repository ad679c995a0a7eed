"""What a finding means for an image: whether it leaves, and what its requester is told. Pure."""

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from worker.images import RawImage


@dataclass(frozen=True)
class Finding:
    """What the checker saw in an image."""

    nsfw: bool
    csam: bool


@dataclass(frozen=True)
class Rules:
    """What the worker's owner wants."""

    #: `nsfw`: images may show nudity at all
    allows_nsfw: bool = True
    #: `censor_nsfw`: nudity that nobody asked for does not leave
    censors_unasked: bool = False


@dataclass(frozen=True)
class Wish:
    """What the requester wants."""

    #: `use_nsfw_censor`: no nudity
    censor_nsfw: bool = False
    #: the model is made for it
    nsfw_model: bool = False


class Censorship(str, Enum):
    """Why an image does not leave. The value is what its replacement says."""

    CSAM = "This image was withheld: it may show a minor in a sexual context."
    WORKER = "This image was withheld: the worker that made it delivers only images that are safe for work."
    REQUEST = "This image was withheld: only images that are safe for work were asked for."
    UNASKED = "This image was withheld: it turned out not to be safe for work, and that was not asked for."


def judge(finding: Finding, rules: Rules, wish: Wish) -> Censorship | None:
    """Why the image must not leave; None when it may."""
    if finding.csam:
        return Censorship.CSAM
    if not finding.nsfw:
        return None
    if not rules.allows_nsfw:
        return Censorship.WORKER
    if wish.censor_nsfw:
        return Censorship.REQUEST
    if rules.censors_unasked and not wish.nsfw_model:
        return Censorship.UNASKED
    return None


@dataclass(frozen=True)
class Verdict:
    """What an image shows, and what leaves in its place when it may not leave itself."""

    nsfw: bool = False
    csam: bool = False
    replacement: RawImage | None = None

    def __post_init__(self) -> None:
        if self.csam and self.replacement is None:
            raise ValueError("what this verdict is about never leaves; it needs a replacement")

    @property
    def state(self) -> Literal["ok", "censored", "csam"]:
        """The state of the submission. The Horde goes by the note alone; older tools look here."""
        if self.csam:
            return "csam"
        return "censored" if self.replacement else "ok"

    @property
    def note(self) -> tuple[Literal["censorship", "information"], Literal["csam", "nsfw"]] | None:
        """Type and value of the metadata that tells the requester, if there is anything to tell."""
        if self.csam:
            return "censorship", "csam"
        if self.replacement:
            return "censorship", "nsfw"
        return ("information", "nsfw") if self.nsfw else None
