"""The account of a key and the worker of a name: whether the Horde would let it serve, and its maintenance mode."""

from dataclasses import dataclass

from worker.errors import HordeRefused
from worker.horde.client import HordeClient
from worker.horde.messages import UserDetails, WorkerDetails


@dataclass(frozen=True)
class Account:
    """The owner of a key, and the worker of a name; None before its first pop."""

    user: UserDetails
    worker: WorkerDetails | None


async def check_account(horde: HordeClient, name: str) -> Account:
    """Look up the key's account and the worker named `name`.

    Raises HordeKeyUnknown, HordeRefused when the name belongs to another account, HordeUnreachable.
    """
    user = await horde.find_user()
    worker = await horde.worker_by_name(name)
    # Only its owner is shown whose a worker is, unless the owner's workers are public.
    if worker is not None and worker.owner != user.username and worker.id not in user.worker_ids:
        raise HordeRefused(
            f"The worker name {name!r} belongs to another account.",
            remedy="Choose another name (dreamer_name, or -n NAME); or use the key of the account that owns it.",
        )
    return Account(user, worker)


async def switch_maintenance(horde: HordeClient, name: str, *, on: bool, message: str = "") -> None:
    """Switch maintenance of the worker with this name. Raises HordeError."""
    worker = await horde.worker_by_name(name)
    if worker is None:
        raise HordeRefused(
            f"The Horde knows no worker named {name!r}.",
            remedy="A worker exists from its first request for jobs on; is the name right?",
        )
    await horde.set_maintenance(worker.id, on=on, message=message)
