"""The Horde is asked for key and name before a worker starts."""

import pytest

from tests.unit.horde.scripted import refused
from worker.errors import HordeRefused
from worker.horde.account import check_account

USER = {"username": "me#1", "id": 1, "worker_ids": ["w1"]}
NO_WORKER = refused(404, "WorkerNotFound")


async def test_an_unknown_key_is_refused(connect):
    client, _ = connect(refused(404, "UserNotFound"))
    with pytest.raises(HordeRefused, match="no account"):
        await check_account(client, "mine")


async def test_a_name_of_another_account_is_refused(connect):
    for owner in ({}, {"owner": "you#2"}):
        client, _ = connect(USER, {"id": "w2", "name": "mine", **owner})
        with pytest.raises(HordeRefused, match="belongs to another account"):
            await check_account(client, "mine")


async def test_a_free_name_and_one_of_the_own_account_are_fine(connect):
    client, _ = connect(USER, NO_WORKER)
    assert (await check_account(client, "mine")).worker is None
    for own in ({"id": "w1"}, {"id": "w3", "owner": "me#1"}):
        client, _ = connect(USER, {"name": "mine", **own})
        account = await check_account(client, "mine")
        assert account.worker is not None
        assert account.user.username == "me#1"
