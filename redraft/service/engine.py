"""The one thread that computes: it takes batches from the queue and answers on the event loop of whoever asked."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from redraft.service.batcher import Batcher, QueueFullError, Ticket
from redraft.service.errors import ApiError, busy, engine_dead, expired

__all__ = ["EngineThread", "Timed"]

T = TypeVar("T")
R = TypeVar("R")
log = logging.getLogger(__name__)

IDLE = 0.5
NEWEST = 0.3
"""Weight of the newest batch in the seconds that a request is expected to take."""


@dataclass(frozen=True)
class Timed(Generic[R]):
    """An answer, the seconds it waited in the queue and the seconds its batch took."""

    answer: R
    waited: float
    decoded: float


@dataclass(frozen=True, eq=False)
class _Asked(Generic[T, R]):
    request: T
    future: "asyncio.Future[Timed[R]]"
    usual: bool


class EngineThread(Generic[T, R]):
    """Runs `work` on batches of requests with equal keys, one batch at a time.

    work: one answer a request, in order. observe: told the size of every batch and its seconds. An exception of `work`
    fails its batch alone; whatever ends the thread fails all that wait and all that come.
    """

    def __init__(
        self,
        work: Callable[[Hashable, list[T]], Sequence[R]],
        *,
        capacity: int,
        largest: int,
        wait: float,
        observe: Callable[[int, float], None] = lambda size, seconds: None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._work, self._observe, self._clock = work, observe, clock
        self._batcher: Batcher[_Asked[T, R]] = Batcher(capacity=capacity, largest=largest, wait=wait)
        self._news = threading.Condition()
        self._stopping = False
        self._pace, self._in_hand = 0.0, 0
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether requests can be answered."""
        return self._thread.is_alive() and not self._stopping

    @property
    def length(self) -> int:
        """Requests that wait."""
        return len(self._batcher)

    @property
    def full(self) -> bool:
        """Whether the next request would be turned away."""
        return self.length >= self._batcher.capacity

    async def ask(
        self, requests: Sequence[tuple[Hashable, T]], timeout: float, *, usual: bool = True
    ) -> list[Timed[R]]:
        """Answers to requests, each under its key; all are queued or none.

        timeout: seconds after which nobody waits for them any more. usual: whether others may be expected to take as
        long; the first batches of a new model take much longer.
        Raises ApiError: 429 for a queue that is full or too long for the deadline, 504 past the deadline, 503 for a
        dead engine.
        """
        loop, now = asyncio.get_running_loop(), self._clock()
        futures: list[asyncio.Future[Timed[R]]] = [loop.create_future() for _ in requests]
        tickets = [
            Ticket(key, _Asked(request, future, usual), now, now + timeout)
            for (key, request), future in zip(requests, futures)
        ]
        with self._news:
            if not self.alive:
                raise engine_dead()
            ahead = self._pace * (self.length + self._in_hand)
            n = len(requests)
            batch = max(n, min(self._batcher.largest, self.length + n))  # others will come to fill it
            if self.length and ahead + self._pace * batch > timeout:
                raise busy(self.length, ahead)
            try:
                self._batcher.offer(*tickets)
            except QueueFullError:
                raise busy(self.length, ahead) from None
            self._news.notify()
        try:
            async with asyncio.timeout(timeout):
                return list(await asyncio.gather(*futures))
        except TimeoutError:
            raise expired() from None

    def stop(self) -> None:
        """Finish the batch in hand, fail what waits, and end the thread."""
        with self._news:
            self._stopping = True
            self._news.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._turn()
        finally:
            with self._news:
                self._stopping = True
                left = self._batcher.clear()
            self._fail(left, engine_dead())

    def _turn(self) -> None:
        """Wait until something is due, and do it."""
        with self._news:
            due = self._batcher.due(self._clock())
            if due is None or due > 0:
                self._news.wait(IDLE if due is None else min(due, IDLE))
            batch, late = self._batcher.take(self._clock())
        self._fail(late, expired())
        if batch:
            self._answer(batch)

    def _answer(self, batch: list[Ticket[_Asked[T, R]]]) -> None:
        started, self._in_hand = self._clock(), len(batch)
        try:
            answers = self._work(batch[0].key, [ticket.request.request for ticket in batch])
        except ApiError as error:
            self._fail(batch, error)
            return
        except Exception:
            log.exception("a batch of %d failed", len(batch))
            self._fail(batch, ApiError(500, "batch_failed", "the list could not be made; try again", True))
            return
        except BaseException:
            self._fail(batch, engine_dead())
            raise
        finally:
            self._in_hand = 0
        seconds = self._clock() - started
        if all(ticket.request.usual for ticket in batch):
            self._pace += NEWEST * (seconds / len(batch) - self._pace)
        self._observe(len(batch), seconds)
        for ticket, answer in zip(batch, answers):
            timed = Timed(answer, started - ticket.arrived, seconds)
            _tell(ticket.request.future, partial(_give, timed))

    def _fail(self, tickets: list[Ticket[_Asked[T, R]]], error: ApiError) -> None:
        for ticket in tickets:
            _tell(ticket.request.future, partial(_refuse, error))


def _tell(future: "asyncio.Future[Timed[R]]", how: Callable[["asyncio.Future[Timed[R]]"], None]) -> None:
    """Settle a future on its own loop, unless nobody waits for it or the loop has ended."""

    def settle() -> None:
        if not future.done():
            how(future)

    loop = future.get_loop()
    if not loop.is_closed():
        loop.call_soon_threadsafe(settle)


def _give(answer: Timed[R], future: "asyncio.Future[Timed[R]]") -> None:
    future.set_result(answer)


def _refuse(error: ApiError, future: "asyncio.Future[Timed[R]]") -> None:
    future.set_exception(error)
