"""Which requests are answered together, and when: pure logic; whoever calls brings the clock and the thread."""

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from redraft.records import check_least

__all__ = ["Batcher", "QueueFullError", "Taken", "Ticket"]

T = TypeVar("T")


class QueueFullError(Exception):
    """As many requests are waiting as may."""


@dataclass(frozen=True, eq=False)
class Ticket(Generic[T]):
    """A waiting request. key: only requests of equal keys share a batch. arrived, deadline: seconds of one clock."""

    key: Hashable
    request: T
    arrived: float
    deadline: float


class Taken(NamedTuple, Generic[T]):
    """What leaves the queue: a batch, empty if none is due, and the tickets that nobody waits for any more."""

    batch: list[Ticket[T]]
    expired: list[Ticket[T]]


class Batcher(Generic[T]):
    """A bounded queue that is left in batches; the oldest request is always in the next one, so that none starves.

    capacity: requests that may wait. largest: requests a batch. wait: seconds that the oldest waits for company.
    """

    def __init__(self, *, capacity: int, largest: int, wait: float):
        check_least(1, capacity=capacity, largest=largest)
        check_least(0, wait=wait)
        self.capacity, self.largest, self.wait = capacity, largest, wait
        self._queue: deque[Ticket[T]] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def offer(self, *tickets: Ticket[T]) -> None:
        """Queue all tickets or none; raises QueueFullError if they do not all fit."""
        if len(self._queue) + len(tickets) > self.capacity:
            raise QueueFullError
        self._queue.extend(tickets)

    def due(self, now: float) -> float | None:
        """Seconds until `take` may have something to give, 0 if it has; None for an empty queue."""
        if not self._queue:
            return None
        if self._ready(now):
            return 0.0
        first = min(self._queue[0].arrived + self.wait, *(ticket.deadline for ticket in self._queue))
        return max(0.0, first - now)

    def take(self, now: float) -> Taken[T]:
        """The oldest request with those of its key behind it, once they fill a batch or it has waited long enough.

        Requests whose deadline has passed leave first, so that no batch holds one.
        """
        expired = [ticket for ticket in self._queue if ticket.deadline <= now]
        if expired:
            self._queue = deque(ticket for ticket in self._queue if ticket.deadline > now)
        if not self._ready(now):
            return Taken([], expired)
        batch = self._company()
        chosen = set(map(id, batch))
        self._queue = deque(ticket for ticket in self._queue if id(ticket) not in chosen)
        return Taken(batch, expired)

    def clear(self) -> list[Ticket[T]]:
        """Empty the queue; returns what was in it."""
        left = list(self._queue)
        self._queue.clear()
        return left

    def _ready(self, now: float) -> bool:
        """Whether a batch is due; a clock that jumped back to before the oldest arrived makes nobody wait."""
        if not self._queue:
            return False
        waited = now - self._queue[0].arrived
        return waited >= self.wait or waited < 0 or len(self._company()) == self.largest

    def _company(self) -> list[Ticket[T]]:
        key = self._queue[0].key
        return [ticket for ticket in self._queue if ticket.key == key][: self.largest]
