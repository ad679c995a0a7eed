"""What must not be left half done, and what ends with a block."""

import asyncio

import pytest

from worker.aio import meanwhile, to_the_end


async def test_what_is_done_to_the_end_gives_its_result():
    assert await to_the_end(asyncio.sleep(0, "result")) == "result"


async def test_what_fails_at_the_end_raises_its_error():
    async def fail() -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        await to_the_end(fail())


@pytest.mark.parametrize("fails", [False, True])
async def test_a_caller_who_is_cancelled_twice_learns_of_it_when_the_work_is_done(fails: bool):
    go_on, done = asyncio.Event(), []

    async def work() -> None:
        await go_on.wait()
        done.append(True)
        if fails:
            raise OSError("no")

    caller = asyncio.ensure_future(to_the_end(work()))
    for _ in range(2):
        await asyncio.sleep(0)
        caller.cancel()
    await asyncio.sleep(0)
    assert not caller.done()

    go_on.set()

    with pytest.raises(asyncio.CancelledError) as caught:
        await caller
    assert done == [True]
    # The work's own failure is not lost.
    assert isinstance(caught.value.__cause__, OSError) == fails


async def test_what_goes_on_meanwhile_has_ended_after_the_block_however_it_ends():
    ended = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    async def fail() -> None:
        raise OSError("seen by who looks")

    with pytest.raises(KeyError):
        async with meanwhile(work(), fail()) as (working, failing):
            await asyncio.wait([failing])
            assert isinstance(failing.exception(), OSError)
            raise KeyError

    assert ended == [True]
    assert working.cancelled()
