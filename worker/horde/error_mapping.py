"""From the Horde's refusals to errors that tell the owner what to do. Pure; the knowledge is the table `RULES`.

The server answers `{"message", "rc"}`; fields it can't take are told as `{"errors": {field: what}}` without an rc, rate
limits as 429 without one. Whatever is no JSON was not said by the Horde but by something in between.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from worker.errors import (
    HordeBusy,
    HordeError,
    HordeKeyUnknown,
    HordeMaintenance,
    HordeRefused,
    HordeUnreachable,
    JobGone,
)
from worker.horde.http import Answer
from worker.untrusted.retry_after import bounded_retry_after_s, retry_after_s
from worker.untrusted.text import quote

#: Seconds to wait when the Horde refuses this internet address without saying for how long.
ADDRESS_TIMEOUT_S = 600.0
#: fields of a validation error that are shown
MOST_FIELDS = 8

DISCORD = "https://discord.gg/3DxrhksKzn"
REGISTER = "https://aihorde.net/register"


class Endpoint(str, Enum):
    """What was asked of the Horde, in the words of messages."""

    POP = "pop"
    SUBMIT = "submit"
    USER = "look-up of the account"
    WORKER = "look-up of the worker"
    MAINTENANCE = "change of the maintenance mode"
    STATUS = "look-up of what is asked for"


@dataclass(frozen=True)
class Rule:
    """What one return code means. The first rule that fits counts."""

    rc: str
    means: str
    remedy: str = ""
    raises: type[HordeError] = HordeRefused
    #: only there; None: anywhere
    at: Endpoint | None = None
    #: only if the server's message contains this
    says: str = ""
    #: whether the server's own words tell more
    quote: bool = False


_NEW_NAME = "Choose another dreamer_name in bridgeData.yaml."
_NEW_KEY = f"Check api_key in bridgeData.yaml; a key is had for free at {REGISTER}."
_NEW_AGENT = "Correct or remove bridge_agent in bridgeData.yaml."
_ASK = f"Ask the Horde's people on Discord: {DISCORD}."

RULES: tuple[Rule, ...] = (
    # the key
    Rule("InvalidAPIKey", "The Horde knows no account with this API key.", _NEW_KEY, raises=HordeKeyUnknown),
    Rule("UserNotFound", "The Horde knows no account with this API key.", _NEW_KEY),
    Rule("AnonForbiddenWorker", "The anonymous API key can't run a worker.", _NEW_KEY),
    Rule("AnonForbidden", "The anonymous API key can't do this.", _NEW_KEY),
    Rule("DeletedUser", "The account of this API key is being deleted.", _NEW_KEY),
    Rule("SharedKeyEmpty", "A shared key can't run a worker.", _NEW_KEY),
    Rule("SharedKeyExpired", "A shared key can't run a worker.", _NEW_KEY),
    Rule("SharedKeyInsufficientKudos", "A shared key can't run a worker.", _NEW_KEY),
    # the name
    Rule(
        "WrongCredentials",
        "The worker's name belongs to another account.",
        f"{_NEW_NAME} If it is yours, use the API key it was first used with.",
        at=Endpoint.POP,
    ),
    Rule(
        "WrongCredentials",
        "This job was handed out to another account.",
        "Use the same api_key for the whole run of the worker.",
        at=Endpoint.SUBMIT,
    ),
    Rule("NotOwner", "This worker belongs to another account.", _NEW_KEY),
    Rule("NotModerator", "Only moderators may do this to a worker."),
    Rule("ProfaneWorkerName", "The Horde finds the worker's name indecent.", _NEW_NAME),
    Rule("TooLongWorkerName", "The worker's name is too long.", f"{_NEW_NAME} It may have 100 characters."),
    Rule("PolymorphicNameConflict", "A worker of another kind has this name already.", _NEW_NAME),
    Rule("WorkerNameAlreadyExists", "Another worker has this name already.", _NEW_NAME),
    Rule("BadRequest", 'The Horde wants no worker with "colab" in its name.', _NEW_NAME, says="colab"),
    Rule("ProfaneBridgeAgent", "The Horde finds the agent name indecent.", _NEW_AGENT),
    Rule("BadClientAgent", "The Horde has banned this agent name.", _NEW_AGENT),
    # what is offered
    Rule(
        "BadRequest",
        "None of the offered models is known to the Horde.",
        "Check models_to_load in bridgeData.yaml; models of your own need the customizer role.",
        says="unrecognised models",
    ),
    Rule(
        "BadRequest",
        "An offered model may be hosted by its owner only.",
        "Remove it from models_to_load in bridgeData.yaml.",
        says="can only be hosted by",
        quote=True,
    ),
    Rule(
        "InvalidPriorityUsername",
        "A name in priority_usernames has no user number.",
        "Write each as name#number in bridgeData.yaml, such as db0#1.",
    ),
    # how many, and from where
    Rule(
        "TooManyWorkers",
        "This account has as many workers as an untrusted one may have.",
        "Use the name of a worker you have already, delete one, or wait until the account is trusted.",
    ),
    Rule(
        "TooManyWorkersTrusted",
        "This account has as many workers as it may have.",
        f"Use the name of a worker you have already. {_ASK}",
    ),
    Rule("TooManySameIPs", "Too many workers run at this internet address.", _ASK),
    Rule("WorkerInviteOnly", "The Horde takes new workers by invitation only.", _ASK),
    Rule(
        "UnsafeIP",
        "The Horde takes no workers from this internet address.",
        f"Turn off VPN or proxy. {_ASK}",
        raises=HordeBusy,
    ),
    Rule(
        "UntrustedUnsafeIP",
        "The Horde takes workers from a VPN or data centre only of trusted accounts.",
        f"Turn off VPN or proxy, or wait until the account is trusted. {_ASK}",
    ),
    Rule(
        "TooManyNewIPs",
        "The Horde has too many new workers to check right now.",
        f"This passes by itself. {_ASK}",
        raises=HordeBusy,
    ),
    Rule(
        "TimeoutIP",
        "The Horde has put this internet address into time-out.",
        f"If you know of no reason: {DISCORD}.",
        raises=HordeBusy,
    ),
    # standing
    Rule(
        "WorkerMaintenance",
        "The Horde has put this worker into maintenance mode; it gets its owner's jobs only.",
        "Mend what led to it, then: horde-bridge maintenance off.",
        raises=HordeMaintenance,
        says="dropping too many jobs",
        quote=True,
    ),
    Rule(
        "WorkerMaintenance",
        "The worker was switched into maintenance mode; it gets its owner's jobs only.",
        "When it is to serve again: horde-bridge maintenance off.",
        raises=HordeMaintenance,
        quote=True,
    ),
    Rule("WorkerFlaggedMaintenance", "The account of this API key is flagged: it gets no jobs.", _ASK),
    Rule("NoWorkerModSelected", "The change of the worker was empty."),
    Rule("WorkerNotFound", "The Horde knows no such worker.", "A worker exists from its first request for jobs on."),
    # jobs that want no answer any more
    Rule("InvalidJobID", "The Horde does not know this job.", raises=JobGone),
    Rule("DuplicateGen", "This job was answered before.", raises=JobGone),
    Rule(
        "AbortedGen",
        "This job was given up: it took longer than its time to live, or was reported faulted.",
        raises=JobGone,
    ),
)

#: what a 500 may mean besides a broken server, MEASURED on the real one
_SERVER_ERROR_REMEDY: Mapping[Endpoint, str] = {
    Endpoint.POP: (
        "If this goes on: dreamer_name may have 100 characters at most, and every name in priority_usernames ends in "
        "# and a number."
    ),
    Endpoint.SUBMIT: "If this goes on, check api_key: the Horde answers so to a key it does not know.",
}
_IN_BETWEEN_REMEDY = (
    "Check horde_url in bridgeData.yaml; a proxy, a login page or the Horde's own shield may also answer so."
)


def refusal(endpoint: Endpoint, answer: Answer) -> HordeError:
    """The error that an answer other than success stands for."""
    body = answer.json_object()
    if answer.status == 429:  # noqa: PLR2004 - HTTP's "too many requests"
        wait_s = retry_after_s(answer.headers.get("retry-after", ""))
        return HordeBusy(f"The Horde has too many requests from here: {_quote(body)}", retry_after_s=wait_s)
    if body is None or answer.status >= 500 or answer.status == 408:  # noqa: PLR2004 - HTTP's "server error", "time-out"
        return unreadable(endpoint, answer)
    if isinstance(fields := body.get("errors"), dict) and fields:
        return _invalid_fields(endpoint, answer.status, fields)
    rc = str(body.get("rc") or "")
    message = str(body.get("message") or "")
    for rule in RULES:
        if rule.rc == rc and rule.at in {None, endpoint} and rule.says in message:
            return _error(rule, answer.status, message)
    return HordeRefused(
        f"The Horde refuses the {endpoint.value}: {_quote(body)} (HTTP {answer.status}{', ' + rc if rc else ''}).",
        status=answer.status,
        rc=rc,
        remedy="" if rc else _IN_BETWEEN_REMEDY,
    )


def unreadable(endpoint: Endpoint, answer: Answer) -> HordeUnreachable:
    """The error for an answer that says nothing: a server error, or no JSON."""
    if answer.status >= 500:  # noqa: PLR2004 - HTTP's "server error"
        remedy = _SERVER_ERROR_REMEDY.get(endpoint, "") if answer.status == 500 else ""  # noqa: PLR2004 - the one measured
        what = f"The Horde failed at the {endpoint.value} (HTTP {answer.status})."
    else:
        remedy = _IN_BETWEEN_REMEDY
        what = f"The answer to the {endpoint.value} makes no sense (HTTP {answer.status})."
    if answer.cut:
        what = f"{what} It breaks off: {answer.cut}."
    return HordeUnreachable(what, status=answer.status, remedy=remedy)


def _error(rule: Rule, status: int, message: str) -> HordeError:
    means = rule.means
    if rule.quote and message:
        words = quote(message)
        # What follows is a sentence of ours.
        means = f"{means} The Horde says: {words}{'' if words[-1:] in '.!?…' else '.'}"
    if rule.raises is HordeBusy:
        seconds = re.search(r"(\d{1,20}) more seconds", message)
        wait_s = bounded_retry_after_s(float(seconds[1])) if seconds else ADDRESS_TIMEOUT_S
        return HordeBusy(means, retry_after_s=wait_s, status=status, rc=rule.rc, remedy=rule.remedy)
    return rule.raises(means, status=status, rc=rule.rc, remedy=rule.remedy)


def _invalid_fields(endpoint: Endpoint, status: int, fields: dict[str, Any]) -> HordeRefused:
    if "apikey" in fields:
        return HordeRefused("The API key is missing.", status=status, remedy=_NEW_KEY)
    shown = "; ".join(f"{name}: {quote(str(what))}" for name, what in list(fields.items())[:MOST_FIELDS])
    return HordeRefused(
        f"The Horde can't read the {endpoint.value}. {shown}.",
        status=status,
        remedy="Correct the setting of that name in bridgeData.yaml, or report this as a bug of the worker.",
    )


def _quote(body: dict[str, Any] | None) -> str:
    return quote(str((body or {}).get("message") or "")) or "no reason given"
