"""The queue in front of the engine: order, deadlines, bound, no starvation, whatever comes and whenever."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.records import InputError
from redraft.service.batcher import Batcher, QueueFullError, Ticket

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.sampled_from("abc"), st.floats(0.001, 5.0)),
        st.tuples(st.just("take"), st.just(""), st.just(0.0)),
        st.tuples(st.just("pass"), st.just(""), st.floats(0.0, 2.0)),
    ),
    max_size=60,
)


def ticket(name: object, arrived: float = 0.0, deadline: float = 100.0, key: str = "a") -> Ticket[object]:
    return Ticket(key, name, arrived, deadline)


@given(STEPS, st.integers(1, 8), st.integers(1, 4), st.floats(0.0, 1.0))
def test_every_ticket_leaves_once_in_time_and_in_order(steps, capacity, largest, wait) -> None:
    queue, now = Batcher[int](capacity=capacity, largest=largest, wait=wait), 0.0
    offered: list[Ticket[int]] = []
    left: list[Ticket[int]] = []

    def check(taken) -> None:
        assert all(one.deadline <= now for one in taken.expired)
        assert len(taken.batch) <= largest
        if taken.batch:
            waiting = [one for one in offered if one not in left and one not in taken.expired]
            assert taken.batch[0] is waiting[0], "the oldest is served first"
            same = [one for one in waiting if one.key == taken.batch[0].key]
            assert taken.batch == same[: len(taken.batch)], "within a key, in order, and nobody is skipped"
            assert len(taken.batch) == min(len(same), largest)
            assert all(one.deadline > now for one in taken.batch)
            assert len(same) >= largest or now - taken.batch[0].arrived >= wait
        left.extend([*taken.batch, *taken.expired])

    for what, key, number in steps:
        if what == "pass":
            now += number
        elif what == "take":
            due = queue.due(now)
            taken = queue.take(now)
            check(taken)
            assert (due == 0.0) >= bool(taken.batch)
        else:
            one = Ticket(key, len(offered), now, now + number)
            if len(queue) < capacity:
                queue.offer(one)
                offered.append(one)
            else:
                with pytest.raises(QueueFullError):
                    queue.offer(one)
        assert len(queue) <= capacity
    while len(queue):
        before = len(queue)
        now += queue.due(now) + 1e-9
        check(queue.take(now))
        assert len(queue) < before, "once something is due, something leaves"
    assert sorted(one.request for one in left) == list(range(len(offered)))


def test_a_full_batch_leaves_at_once_and_a_lonely_request_waits() -> None:
    queue = Batcher[object](capacity=9, largest=2, wait=1.0)
    queue.offer(ticket("one"))
    assert queue.take(0.5).batch == []
    assert queue.due(0.5) == 0.5
    queue.offer(ticket("two", 0.5))
    assert [one.request for one in queue.take(0.5).batch] == ["one", "two"]


def test_a_rare_key_is_not_starved_by_a_common_one() -> None:
    queue = Batcher[object](capacity=99, largest=2, wait=1.0)
    queue.offer(ticket("rare", 0.0, key="rare"), *(ticket(n, 0.1) for n in range(20)))
    assert queue.take(0.5).batch == [], "the oldest waits for company, and then goes first"
    assert [one.request for one in queue.take(1.0).batch] == ["rare"]


def test_tickets_that_come_together_are_queued_together_or_not_at_all() -> None:
    queue = Batcher[object](capacity=2, largest=2, wait=0.0)
    with pytest.raises(QueueFullError):
        queue.offer(*(ticket(n) for n in range(3)))
    assert len(queue) == 0


def test_a_clock_that_jumps_back_makes_nobody_wait() -> None:
    queue = Batcher[object](capacity=9, largest=4, wait=1.0)
    queue.offer(ticket("one", arrived=1000.0, deadline=1001.0))
    assert queue.due(10.0) == 0.0
    assert [one.request for one in queue.take(10.0).batch] == ["one"]


@pytest.mark.parametrize("wrong", [{"capacity": 0}, {"largest": 0}, {"wait": -1.0}, {"wait": float("nan")}])
def test_a_queue_that_cannot_work_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        Batcher(**{"capacity": 1, "largest": 1, "wait": 0.0, **wrong})
