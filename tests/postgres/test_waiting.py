"""Waiters for a limited resource: fair, with timeouts, and without losing resources."""

import asyncio

import pytest

from pegboard.postgres.waiting import Waiters


class TooLong(Exception):
    pass


async def start_waiters(waiters: Waiters[int], returned: list[int], number: int = 1) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(waiters.wait(returned.append)) for _ in range(number)]
    await asyncio.sleep(0)
    return tasks


async def test_first_come_first_served() -> None:
    waiters: Waiters[int] = Waiters(5, TooLong)
    assert not waiters.hand_over(0)
    tasks = await start_waiters(waiters, [], 3)
    assert len(waiters) == 3
    assert all(waiters.hand_over(number) for number in range(3))
    assert await asyncio.gather(*tasks) == [0, 1, 2]
    assert (len(waiters), waiters.waits, waiters.timeouts) == (0, 3, 0)
    assert not waiters.hand_over(3)


async def test_each_has_its_own_time() -> None:
    waiters: Waiters[int] = Waiters(0.2, TooLong)
    [first] = await start_waiters(waiters, [])
    await asyncio.sleep(0.1)
    [second] = await start_waiters(waiters, [])
    with pytest.raises(TooLong):
        await first
    assert not second.done()
    assert waiters.timeouts == 1
    with pytest.raises(TooLong):
        await second
    assert (len(waiters), waiters.timeouts) == (0, 2)


async def test_one_who_comes_after_all_were_served_waits_no_longer_than_others() -> None:
    waiters: Waiters[int] = Waiters(0.2, TooLong)
    [first] = await start_waiters(waiters, [])
    waiters.hand_over(1)
    assert await first == 1
    await asyncio.sleep(0.1)
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(TooLong):
        await waiters.wait(lambda _: None)
    assert loop.time() - started >= 0.19


@pytest.mark.parametrize("handed", [True, False])
async def test_what_one_who_was_cancelled_has_got_is_put_back(handed: bool) -> None:
    waiters: Waiters[int] = Waiters(5, TooLong)
    returned: list[int] = []
    [cancelled, other] = await start_waiters(waiters, returned, 2)
    if handed:
        waiters.hand_over(7)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert returned == [7] * handed
    assert len(waiters) == 1
    waiters.hand_over(8)
    assert await other == 8


async def test_all_can_be_sent_away() -> None:
    waiters: Waiters[int] = Waiters(5, TooLong)
    tasks = await start_waiters(waiters, [], 2)
    tasks[0].cancel()
    waiters.fail(lambda: OSError("gone"))
    assert [type(result) for result in await asyncio.gather(*tasks, return_exceptions=True)] == [
        asyncio.CancelledError,
        OSError,
    ]
    assert len(waiters) == 0
