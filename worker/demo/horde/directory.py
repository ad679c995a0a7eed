"""Who the embedded Horde knows: accounts by API key, workers by name and id. Pure state, not locked by itself."""

import email.utils
import html
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from worker.demo.horde.records import ModelFacts, Refused, User, WorkerRecord
from worker.demo.horde.schema import MODIFY_WORKER, require
from worker.demo.horde.views import ONLINE_S

ANONYMOUS_KEY = "0000000000"
OWNER_KEY = "embedded-horde-owner-0"
REQUESTER_KEY = "embedded-horde-asker-0"

#: Workers an untrusted account may have; one more than the server's message says.
_UNTRUSTED_WORKERS = 4
_LONGEST_NAME = 100
_MOST_MODELS = 300
_MAINTENANCE_DEFAULT = "This worker is in maintenance mode."
_MAINTENANCE_BY_FAULTS = "Maintenance mode activated because worker is dropping too many jobs."
#: Switches outlive a pop only as often as this, once a worker is older than this; see `Directory`.
NO_DEBOUNCE_S = 0.0


def default_users() -> tuple[User, ...]:
    """A trusted worker's owner, a trusted requester, and the anonymous account."""
    return (
        User("Anonymous", 0, ANONYMOUS_KEY, trusted=False, customizer=False),
        User("owner", 1, OWNER_KEY, kudos=1_000_000),
        User("requester", 2, REQUESTER_KEY, kudos=10_000),
    )


class Directory:
    """Accounts and workers.

    `debounce_s`: the live server stores a worker's switches at most once in 30 s after its first 30 s, so that
    a pop may be answered by older ones. 0 stores those of every pop.
    """

    def __init__(
        self,
        users: Iterable[User],
        models: Mapping[str, ModelFacts],
        *,
        new_id: Callable[[], str],
        debounce_s: float,
    ) -> None:
        self._users = {user.api_key: user for user in users}
        self._models = models
        self._workers: dict[str, WorkerRecord] = {}
        self._by_name: dict[str, WorkerRecord] = {}
        self._new_id = new_id
        self._debounce_s = debounce_s

    def user(self, api_key: str) -> User:
        """The account of a key. Raises Refused (401) for an unknown one."""
        try:
            return self._users[api_key]
        except KeyError:
            raise Refused(401, "InvalidAPIKey", "No user matching sent API Key.") from None

    def find_user(self, api_key: str) -> User | None:
        """The account of a key, if there is one."""
        return self._users.get(api_key)

    def add_user(self, user: User) -> None:
        self._users[user.api_key] = user

    @property
    def worker_ids(self) -> Iterable[str]:
        return self._workers.keys()

    def worker(self, name_or_id: str) -> WorkerRecord:
        """Raises Refused (404) for an unknown one."""
        found = self._by_name.get(name_or_id) or self._workers.get(name_or_id)
        if found is None:
            raise Refused(404, "WorkerNotFound", f"Worker '{name_or_id}' not found.")
        return found

    def online(self, now: float) -> list[WorkerRecord]:
        """Workers heard of lately."""
        return [worker for worker in self._workers.values() if now - worker.last_seen < ONLINE_S]

    def check_in(self, user: User, pop: Mapping[str, Any], *, now: float) -> WorkerRecord:
        """The worker that pops, created when new, its switches stored. Raises Refused as the server does.

        A pop that is refused for its models has used up the name all the same.
        """
        name = _clean_name(pop["name"])
        worker = self._by_name.get(name) or self._create(name, user, pop, now=now)
        if worker.owner is not user:
            raise Refused(403, "WrongCredentials", "Wrong credentials to submit as this worker.")
        if user.flagged:
            raise Refused(403, "WorkerFlaggedMaintenance", "Your user has been flagged.")
        if not pop["models"]:
            raise Refused(400, "BadRequest", "Workers that serve unrecognised models only are not accepted.")
        young = now - worker.created < self._debounce_s
        if young or now - worker.stored_at >= self._debounce_s:
            worker.switches, worker.stored_at = dict(pop), now
        worker.last_seen = now
        return worker

    def known_models(self, user: User, names: Iterable[str]) -> list[str]:
        """The models of a pop that count: of the reference, or any where the user may serve custom ones."""
        return [name for name in names if user.customizer or name in self._models][:_MOST_MODELS]

    def modify(self, user: User, worker: WorkerRecord, body: Any) -> dict[str, Any]:
        """PUT /workers/{id} by its owner; the answer repeats what was changed."""
        changes = require(MODIFY_WORKER, body)
        if worker.owner is not user and not user.moderator:
            raise Refused(403, "NotOwner", "Only the owner or a moderator may do this.")
        if "paused" in changes:
            raise Refused(403, "NotModerator", "Only a moderator may do this.")
        message = changes.pop("maintenance_msg", "")
        if not changes:
            raise Refused(400, "NoWorkerModSelected", "No worker modification selected!")
        if "maintenance" in changes:
            self.set_maintenance(worker, on=changes["maintenance"], message=message)
        if "info" in changes:
            worker.info = changes["info"]
        if "name" in changes:
            self._rename(worker, changes["name"])
        return changes

    def set_maintenance(self, worker: WorkerRecord, *, on: bool, message: str = "") -> None:
        worker.maintenance = on
        worker.maintenance_message = message or _MAINTENANCE_DEFAULT

    def count_fault(self, worker: WorkerRecord, *, now: float, most: int, window_s: float) -> None:
        """One more job that the worker popped and did not do; one too many puts it into maintenance."""
        worker.uncompleted += 1
        worker.faults.append(now)
        while worker.faults[0] < now - window_s:
            worker.faults.popleft()
        if len(worker.faults) > most:
            worker.faults.clear()
            self.set_maintenance(worker, on=True, message=_MAINTENANCE_BY_FAULTS)

    def leave_message(self, worker: WorkerRecord, text: str, *, now: float, expires_s: float) -> None:
        """A word to the worker's owner, shown in every pop until it expires."""
        expiry = now + expires_s
        shown = {"id": self._new_id(), "message": text, "origin": "horde", "expiry": email.utils.formatdate(expiry)}
        worker.messages.append((expiry, shown))

    def messages(self, worker: WorkerRecord, *, now: float) -> list[dict[str, str]]:
        """What is to be shown now; expired messages are forgotten."""
        worker.messages = [(expiry, message) for expiry, message in worker.messages if expiry > now]
        return [message for _, message in worker.messages]

    def _create(self, name: str, user: User, pop: Mapping[str, Any], *, now: float) -> WorkerRecord:
        if not user.trusted and len(user.worker_ids) >= _UNTRUSTED_WORKERS:
            raise Refused(403, "TooManyWorkers", "Untrusted users can have a few workers only.")
        worker = WorkerRecord(self._new_id(), name, user, now, now, dict(pop), now)
        self._workers[worker.id] = self._by_name[name] = worker
        user.worker_ids.append(worker.id)
        return worker

    def _rename(self, worker: WorkerRecord, name: str) -> None:
        if name in self._by_name:
            raise Refused(400, "WorkerNameAlreadyExists", f"The name '{name}' is taken.")
        del self._by_name[worker.name]
        worker.name = name
        self._by_name[name] = worker


def _clean_name(name: str) -> str:
    """The name as it is stored. The server breaks on long ones instead of refusing them."""
    if len(name) > _LONGEST_NAME:
        raise Refused(500, "", "Internal Server Error")
    if "colab" in name.lower():
        raise Refused(400, "BadRequest", "Worker names must not contain 'colab'.")
    return html.escape(name, quote=False).strip()
