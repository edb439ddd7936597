"""The engine's thread: every answer reaches who asked, and its end is told to all."""

import asyncio
import threading
import time

import pytest

from redraft.service.engine import EngineThread
from redraft.service.errors import ApiError


def engine(work, **changes) -> EngineThread:
    return EngineThread(work, **{"capacity": 100, "largest": 4, "wait": 0.001, **changes})


def twice(key, numbers):
    return [2 * number for number in numbers]


def test_each_asker_gets_the_own_answer() -> None:
    sizes: list[int] = []
    thread = engine(twice, observe=lambda size, seconds: sizes.append(size))

    async def ask_all():
        return await asyncio.gather(*(thread.ask([("key", n)], 5.0) for n in range(50)))

    found = asyncio.run(ask_all())
    thread.stop()
    assert [timed.answer for [timed] in found] == [2 * n for n in range(50)]
    assert sum(sizes) == 50
    assert max(sizes) <= 4


def test_a_failed_batch_fails_alone() -> None:
    def work(key, numbers):
        if key == "bad":
            raise RuntimeError("a bug")
        return numbers

    thread = engine(work)

    async def ask() -> None:
        with pytest.raises(ApiError) as error:
            await thread.ask([("bad", 1)], 5.0)
        assert (error.value.status, error.value.code) == (500, "batch_failed")
        [timed] = await thread.ask([("good", 7)], 5.0)
        assert timed.answer == 7

    asyncio.run(ask())
    assert thread.alive
    thread.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_killed_thread_fails_all_that_wait_and_all_that_come() -> None:
    holds = threading.Event()

    def work(key, numbers):
        holds.wait()
        raise SystemExit

    thread = engine(work)

    async def ask() -> None:
        asked = [asyncio.create_task(thread.ask([("key", n)], 5.0)) for n in range(20)]
        await asyncio.sleep(0.05)
        holds.set()
        failed = await asyncio.gather(*asked, return_exceptions=True)
        assert [error.code for error in failed] == ["engine_dead"] * 20
        with pytest.raises(ApiError, match="engine_dead"):
            await thread.ask([("key", 1)], 5.0)

    asyncio.run(ask())
    assert not thread.alive


def test_expired_requests_are_never_computed() -> None:
    computed: list[int] = []

    def work(key, numbers):
        time.sleep(0.1)
        computed.extend(numbers)
        return numbers

    thread = engine(work, largest=1)

    async def ask() -> None:
        first = asyncio.create_task(thread.ask([("key", 1)], 5.0))
        await asyncio.sleep(0.02)
        with pytest.raises(ApiError) as error:
            await thread.ask([("key", 2)], 0.02)
        assert (error.value.status, error.value.code) == (504, "deadline_passed")
        await first

    asyncio.run(ask())
    thread.stop()
    assert computed == [1]


def test_a_full_queue_turns_away_at_once_and_says_when_to_return() -> None:
    holds = threading.Event()

    def work(key, numbers):
        holds.wait()
        return numbers

    thread = engine(work, capacity=2, largest=1, wait=0.0)

    async def ask() -> None:
        tasks = [asyncio.create_task(thread.ask([("key", 0)], 5.0))]
        await asyncio.sleep(0.05)
        tasks += [asyncio.create_task(thread.ask([("key", n)], 5.0)) for n in (1, 2)]
        await asyncio.sleep(0.05)
        assert thread.full
        with pytest.raises(ApiError) as error:
            await thread.ask([("key", 3)], 5.0)
        assert (error.value.status, error.value.retryable) == (429, True)
        assert int(error.value.headers["Retry-After"]) >= 1
        holds.set()
        assert [timed.answer for [timed] in await asyncio.gather(*tasks)] == [0, 1, 2]

    asyncio.run(ask())
    thread.stop()


def test_a_new_models_first_batches_turn_nobody_away() -> None:
    """They take long, and say nothing of how long others will take: a reload must not look like a long queue."""

    def work(key, numbers):
        time.sleep(0.3 if key == "warm" else 0.001)
        return numbers

    thread = engine(work, largest=1, wait=0.0)

    async def ask() -> None:
        for n in range(3):
            await thread.ask([("key", n)], 5.0)
        await thread.ask([("warm", 0)], 5.0, usual=False)
        found = await asyncio.gather(*(thread.ask([("key", n)], 2.0) for n in range(60)))
        assert [timed.answer for [timed] in found] == list(range(60))

    asyncio.run(ask())
    thread.stop()


def test_what_cannot_be_answered_in_time_is_turned_away_at_once() -> None:
    def work(key, numbers):
        time.sleep(0.1)
        return numbers

    thread = engine(work, largest=1, wait=0.0)

    async def ask() -> None:
        for n in range(12):
            await thread.ask([("key", n)], 5.0)
        asked = [asyncio.create_task(thread.ask([("key", n)], 1.0)) for n in range(40)]
        await asyncio.sleep(0.05)
        away = [task for task in asked if task.done()]
        assert {task.exception().status for task in away} == {429}
        assert 20 <= len(away) <= 37, "about ten fit into a second"
        kept = await asyncio.gather(*(task for task in asked if task not in away), return_exceptions=True)
        late = [answer for answer in kept if isinstance(answer, ApiError)]
        assert len(late) <= 2, "the last may miss its deadline by a hair"
        assert {error.status for error in late} <= {504}

    asyncio.run(ask())
    thread.stop()


def test_who_waits_is_expected_to_share_a_batch_with_those_ahead() -> None:
    now, holds = [0.0], threading.Event()
    holds.set()

    def work(key, numbers):
        holds.wait()
        now[0] += 0.2
        return numbers

    thread = engine(work, wait=0.0, clock=lambda: now[0])

    async def ask() -> None:
        for n in range(40):
            await thread.ask([("key", n)], 5.0)
        holds.clear()
        waiting = [asyncio.create_task(thread.ask([("key", 0)], 5.0))]
        while thread.length or not thread._in_hand:
            await asyncio.sleep(0.001)
        waiting += [asyncio.create_task(thread.ask([("key", n)], 5.0)) for n in (1, 2)]
        await asyncio.sleep(0.01)
        assert thread.length == 2
        with pytest.raises(ApiError) as error:  # .2 s each: one in hand, two ahead, and a batch of three
            await thread.ask([("key", 3)], 1.0)
        assert error.value.status == 429
        waiting.append(asyncio.create_task(thread.ask([("key", 4)], 1.4)))
        await asyncio.sleep(0.01)
        holds.set()
        assert [timed.answer for [timed] in await asyncio.gather(*waiting)] == [0, 1, 2, 4]

    asyncio.run(ask())
    thread.stop()
