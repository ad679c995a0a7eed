"""The back-off of pops, after a 429 and other answers of the Horde; how many at once; what the owner should know."""

from dataclasses import dataclass, field

from worker.errors import HordeBusy, HordeError, HordeKeyUnknown, HordeMaintenance, HordeRefused
from worker.horde.messages import PopResponse
from worker.scheduling.wait_log import WaitKind, WaitReason
from worker.untrusted.retry_after import MAX_RETRY_AFTER_S

#: To wait for less than this because the Horde says so is the ordinary course of things.
LONG_PAUSE_S = 60.0
#: So long a key that was known may be unknown before that is believed.
KEY_PATIENCE_S = 900.0
KNOWN_BEFORE = "It knew the key before, so this may pass; the worker ends when it lasts."
#: Pops under way at most. One alone brings 10 jobs a second at 100 ms each; many engines need more.
MOST_POPS = 16
#: Doublings of the pause after errors in a row: they may go on for days, and no number may grow with them.
MOST_DOUBLINGS = 10
#: Two pops that brought nothing, so far apart at most, mean that nothing came all the time between.
IN_VAIN_GAP_S = 90.0
#: The Horde's names of reasons why requests are not for this worker → what that means, and the key that changes it.
SKIPPED = {
    "models": "want other models (models_to_load)",
    "max_pixels": "want larger pictures (max_power)",
    "nsfw": "may show what is not safe for work (nsfw)",
    "img2img": "bring a picture (allow_img2img)",
    "painting": "are to be inpainted (allow_painting)",
    "post-processing": "want post-processing (allow_post_processing)",
    "controlnet": "want a ControlNet (allow_controlnet)",
    "lora": "want LoRAs (allow_lora)",
    "step_count": "want more steps (limit_max_steps)",
    "blacklist": "have a word of the blacklist in their prompt (blacklist)",
    "kudos": "can't be paid for (require_upfront_kudos)",
    "unsafe_ip": "come from addresses that count as unsafe (allow_unsafe_ip)",
    "performance": "want a faster worker",
    "untrusted": "are for trusted accounts only",
    "worker_id": "are for certain other workers",
    "bridge_version": "need a higher feature level, see the lines 'Not offered' in the log",
}
#: Reasons named in one sentence.
MOST_REASONS = 4


@dataclass(frozen=True)
class PopPauses:
    """Seconds until the next pop."""

    #: after one that brought nothing
    empty_s: float = 1.0
    #: in maintenance mode: only the owner's own jobs can come
    maintenance_s: float = 15.0
    #: after the first of several errors in a row; twice as long after each, up to the longest
    error_s: float = 2.0
    longest_error_s: float = 60.0


@dataclass
class PopBackoff:
    """Follows the answers to pops. Times are seconds of a monotonic clock."""

    pauses: PopPauses = field(default_factory=PopPauses)
    #: pops that may be under way: doubles with each job that comes, back to one with an empty or failed pop
    pops_at_once: int = field(default=1, init=False)
    #: no pop before this
    not_before: float = field(default=0.0, init=False)
    #: why the last pop brought no answer; None while all is well
    trouble: WaitReason | None = field(default=None, init=False)
    #: seconds in which an engine was idle and asked for and no job came, since the last one
    in_vain_s: float = field(default=0.0, init=False)
    #: the same since the start
    all_in_vain_s: float = field(default=0.0, init=False)
    #: requests that the last pop passed over, by the Horde's reasons
    skipped: dict[str, int] = field(default_factory=dict, init=False)
    _empty_at: float | None = field(default=None, init=False)
    #: errors in a row other than busy and maintenance
    _errors: int = field(default=0, init=False)
    _key_was_known: bool = field(default=False, init=False)
    _key_unknown_since: float | None = field(default=None, init=False)

    def wait(self, now: float) -> WaitReason | None:
        """Why no pop should be sent now; None: one may."""
        if now >= self.not_before:
            return None
        return self.trouble or WaitReason(WaitKind.NOTHING_CAME, "The last pop brought no job.", self.not_before)

    def is_passing(self, error: HordeRefused, *, now: float) -> bool:
        """Whether a refusal may be a trouble of the Horde's own, and another pop makes sense."""
        if not isinstance(error, HordeKeyUnknown) or not self._key_was_known:
            return False
        return self._key_unknown_since is None or now - self._key_unknown_since < KEY_PATIENCE_S

    def failed(self, error: HordeError, *, now: float) -> None:
        """A pop was turned down or got no answer."""
        is_maintenance, is_busy = isinstance(error, HordeMaintenance), isinstance(error, HordeBusy)
        sentence = error.message
        self._key_was_known = self._key_was_known or is_maintenance
        if isinstance(error, HordeKeyUnknown):
            self._key_unknown_since = now if self._key_unknown_since is None else self._key_unknown_since
            sentence = f"{sentence} {KNOWN_BEFORE}"
        else:
            self._key_unknown_since = None
        self.pops_at_once = 1
        self.not_before = now + self._pause_after(error)
        self.trouble = WaitReason(
            WaitKind.MAINTENANCE if is_maintenance else WaitKind.HORDE,
            sentence,
            self.not_before,
            tries_again=not is_busy,
            remedy=error.remedy,
            tell_after_s=LONG_PAUSE_S if is_busy else 0.0,
            topic=sentence,
        )

    def answered(self, answer: PopResponse, *, now: float, for_idle_engine: bool = True) -> None:
        """A pop was answered, with or without a job."""
        self._key_was_known, self._key_unknown_since = True, None
        self._errors, self.trouble = 0, None
        self._note_vain(answer, now, for_idle_engine=for_idle_engine)
        if answer.job_ids:
            self.pops_at_once = min(2 * self.pops_at_once, MOST_POPS)
        else:
            self.pops_at_once, self.not_before = 1, now + self.pauses.empty_s

    def interrupted(self) -> None:
        """Nothing is asked for at present: time until the next pop is no asking in vain."""
        self._empty_at = None

    @property
    def passed_over(self) -> str:
        """Which requests wait at the Horde and are not for this worker, most frequent reasons first; may be empty."""
        counts = sorted(self.skipped.items(), key=lambda item: -item[1])
        named = "; ".join(f"{count} {SKIPPED[reason]}" for reason, count in counts[:MOST_REASONS])
        return f"Of the requests that wait at the Horde, {named}." if named else ""

    def _note_vain(self, answer: PopResponse, now: float, *, for_idle_engine: bool) -> None:
        if answer.job_ids:
            self.in_vain_s, self._empty_at, self.skipped = 0.0, None, {}
            return
        if self._empty_at is not None and for_idle_engine and now - self._empty_at <= IN_VAIN_GAP_S:
            self.in_vain_s += now - self._empty_at
            self.all_in_vain_s += now - self._empty_at
        self._empty_at = now if for_idle_engine else None
        self.skipped = answer.passed_over(SKIPPED)

    def _pause_after(self, error: HordeError) -> float:
        """Seconds; longer and longer while the Horde can't be reached."""
        if isinstance(error, HordeMaintenance):
            return self.pauses.maintenance_s
        if isinstance(error, HordeBusy):
            # Written so that what is no number, too, gives the longest.
            return min(MAX_RETRY_AFTER_S, error.retry_after_s)
        pause_s = self.pauses.error_s * 2.0 ** min(self._errors, MOST_DOUBLINGS)
        self._errors += 1
        return min(pause_s, self.pauses.longest_error_s)
