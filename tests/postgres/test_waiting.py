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


async def test_waiters_are_served_in_order() -> None:
    waiters: Waiters[int] = Waiters(5, TooLong)
    assert not waiters.hand_over(0)
    tasks = await start_waiters(waiters, [], 3)
    assert len(waiters) == 3
    assert all(waiters.hand_over(number) for number in range(3))
    assert await asyncio.gather(*tasks) == [0, 1, 2]
    assert (len(waiters), waiters.waits, waiters.timeouts) == (0, 3, 0)
    assert not waiters.hand_over(3)


async def test_each_waiter_has_its_own_timeout() -> None:
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


async def test_a_waiter_of_an_emptied_queue_has_the_same_timeout() -> None:
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
async def test_the_resource_of_a_cancelled_waiter_is_returned(handed: bool) -> None:
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


async def test_all_waiters_can_be_failed() -> None:
    waiters: Waiters[int] = Waiters(5, TooLong)
    tasks = await start_waiters(waiters, [], 2)
    tasks[0].cancel()
    waiters.fail(lambda: OSError("gone"))
    assert [type(result) for result in await asyncio.gather(*tasks, return_exceptions=True)] == [
        asyncio.CancelledError,
        OSError,
    ]
    assert len(waiters) == 0
