"""What the service does, without HTTP: it turns requests into lists, remembers what it answered, changes models."""

import asyncio
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from redraft.recommender import SelfCorrectingRecommender
from redraft.records import BoolArray, Dataset, InputError, Interactions
from redraft.service.engine import EngineThread, Timed
from redraft.service.errors import ApiError, draining, invalid, not_found
from redraft.service.explaining import explanation_json
from redraft.service.keys import Caller
from redraft.service.memory import Memory
from redraft.service.metrics import Metrics
from redraft.service.models import Models
from redraft.service.people import People
from redraft.service.schemas import Asked, Bounds
from redraft.service.served import Range, Served
from redraft.service.store import Store

__all__ = ["Listing", "Service", "Settings"]

REMEMBERED = 2_000
WARM_K = 10
WARM_SECONDS = 120.0


@dataclass(frozen=True)
class Settings:
    """How requests queue. queue: that may wait. batch: largest batch. wait, deadline: seconds."""

    queue: int = 64
    batch: int = 8
    wait: float = 0.002
    deadline: float = 1.0


DEFAULT_SETTINGS = Settings()


@dataclass(frozen=True)
class _Question:
    """What requests of one batch have in common."""

    served: Served
    k: int
    filter_seen: bool
    explain: bool


@dataclass(frozen=True, eq=False)
class _Wanted:
    history: list[int]
    allow: BoolArray | None


@dataclass(frozen=True, eq=False)
class Listing:
    """One answered request. items, scores: best first. user: None if asked by history."""

    request_id: str
    served: Served
    question: _Question
    wanted: _Wanted
    user: str | None
    caller: Caller
    items: list[int]
    scores: list[float]
    explanation: dict[str, Any] | None


class Service:
    """Models, what is remembered of users and items, and the engine that makes lists.

    draining: requests are turned away. leaving: none should be sent any more, those that come are answered.
    """

    def __init__(
        self,
        models: Models,
        store: Store,
        dataset: Dataset | None,
        folder: Path,
        settings: Settings = DEFAULT_SETTINGS,
        clock: Callable[[], float] = time.time,
    ):
        self.models, self.settings, self._clock = models, settings, clock
        self.draining = self.leaving = False
        self.metrics = Metrics(lambda: self.engine.length)
        self.memory = Memory(store, People(store, dataset), models, folder, self.metrics, clock)
        self.engine: EngineThread[_Wanted, Any] = EngineThread(
            self._work,
            capacity=settings.queue,
            largest=settings.batch,
            wait=settings.wait,
            observe=self._observe,
        )
        self._answered: OrderedDict[str, Listing] = OrderedDict()

    @property
    def served(self) -> Served:
        """What answers now."""
        return self.models.served

    def warm(self) -> None:
        """Compute a list in every shape that batches will have, before anybody asks."""
        served = self.served
        for size in self._sizes(served):
            served.recommender.recommend(Interactions.from_lists([[0]] * size), min(WARM_K, served.n_items))

    async def load(self, run: str) -> Served:
        """Load a run beside the one that answers, and warm it through the queue, so that nobody waits long for it.

        Raises ApiError 422 for a run that cannot be used.
        """
        changes = await self.memory.changes()
        live = await asyncio.to_thread(self.models.load, run, changes)
        question = _Question(live.served, min(WARM_K, live.served.n_items), True, False)
        for size in self._sizes(live.served):
            await self.engine.ask([(question, _Wanted([0], None))] * min(size, self.settings.queue), WARM_SECONDS)
        self.models.staged = live
        self.metrics.reloads.labels("load").inc()
        return live.served

    async def promote(self, mark: str) -> None:
        """Let the loaded model answer from the next request on."""
        changes = await self.memory.changes()
        await asyncio.to_thread(self.models.promote, mark, changes)
        self.metrics.reloads.labels("promote").inc()

    async def roll_back(self) -> None:
        """Let the model before answer again."""
        changes = await self.memory.changes()
        await asyncio.to_thread(self.models.roll_back, changes)
        self.metrics.reloads.labels("roll_back").inc()

    def not_ready(self) -> ApiError | None:
        """Why no request should be sent here, if so."""
        if self.draining or self.leaving:
            return draining()
        if not self.engine.alive:
            return ApiError(503, "engine_dead", "the engine has stopped", True)
        if self.engine.full:
            return ApiError(503, "queue_full", "the queue is full", True)
        return None

    async def recommend(self, asked: Sequence[Asked], caller: Caller, timeout: float) -> list[Listing]:
        """Lists for requests that came together; all use one model.

        Raises ApiError for a request that cannot be answered, and as EngineThread.ask.
        """
        if self.draining:
            raise draining()
        served = self.served
        begun = started = time.perf_counter()
        histories = await asyncio.gather(*(self._history(one, served, caller) for one in asked))
        self._stage("history", started)
        questions = [self._question(one, served) for one in asked]
        wanted = [
            _Wanted(
                history, served.allowed(one.allow, one.exclude, {name: _range(f) for name, f in one.filters.items()})
            )
            for one, history in zip(asked, histories)
        ]
        left = timeout - (time.perf_counter() - started)
        timed = await self.engine.ask(list(zip(cast(list[Hashable], questions), wanted)), left)
        started = time.perf_counter()
        listings = [self._listing(*each, caller) for each in zip(asked, questions, wanted, timed)]
        self.memory.exposed([self._exposure(one, 1000 * (time.perf_counter() - begun)) for one in listings])
        self._stage("answer", started)
        return listings

    async def explain(self, request_id: str, caller: Caller, timeout: float) -> dict[str, Any]:
        """How the list of an earlier request came about, by the model that made it.

        Raises ApiError 404 for a request that is not remembered or was somebody else's.
        """
        listing = self._answered.get(request_id)
        mine = listing is not None and (caller.name == listing.caller.name or "admin" in caller.scopes)
        if listing is None or not mine:
            raise not_found("unknown_request", "no such request of yours, or one that is too long ago")
        if listing.explanation is not None:
            return listing.explanation
        question = _Question(listing.served, listing.question.k, listing.question.filter_seen, True)
        [timed] = await self.engine.ask([(question, listing.wanted)], timeout)
        explanation: dict[str, Any] = timed.answer[2]
        return explanation

    def forget(self, user: str) -> None:
        """Forget the answers that a user got."""
        for name in [name for name, one in self._answered.items() if one.user == user]:
            del self._answered[name]

    def close(self) -> None:
        """End the engine and let go of the store."""
        self.engine.stop()
        self.memory.close()

    async def _history(self, asked: Asked, served: Served, caller: Caller) -> list[int]:
        if asked.history is not None:
            return [served.number(item, "history") for item in asked.history]
        person = await self.memory.person(cast(str, asked.user_id), caller)
        return served.known(person.items)

    def _question(self, asked: Asked, served: Served) -> _Question:
        n_items = served.n_items
        if asked.k > n_items:
            raise invalid("k_too_large", f"k = {asked.k} exceeds the catalogue of {n_items} items; ask for fewer")
        return _Question(served, asked.k, asked.filter_seen, asked.explain)

    def _listing(
        self, asked: Asked, question: _Question, wanted: _Wanted, timed: Timed[Any], caller: Caller
    ) -> Listing:
        items, scores, explanation = timed.answer
        self.metrics.wait.observe(timed.waited)
        self.metrics.stages.labels("queue").observe(timed.waited)
        self.metrics.stages.labels("decode").observe(timed.decoded)
        if len(items) < question.k:
            self.metrics.short.inc()
        listing = Listing(
            uuid.uuid4().hex, question.served, question, wanted, asked.user_id, caller, items, scores, explanation
        )
        self._remember(listing)
        return listing

    def _remember(self, listing: Listing) -> None:
        """Keep an answer to explain it; answers of models that are gone go with them."""
        last = next(reversed(self._answered.values()), None)
        if last is not None and last.served.recommender is not listing.served.recommender:
            kept = [live.served.recommender for live in (self.models.current, self.models.previous) if live]
            self._answered = OrderedDict(
                (name, one) for name, one in self._answered.items() if one.served.recommender in kept
            )
        self._answered[listing.request_id] = listing
        if len(self._answered) > REMEMBERED:
            self._answered.popitem(last=False)

    def _work(self, key: Hashable, wanted: list[_Wanted]) -> list[tuple[list[int], list[float], dict[str, Any] | None]]:
        """On the engine's thread: the lists of one batch, with explanations if the question wants them."""
        question = cast(_Question, key)
        recommender = question.served.recommender
        started = time.thread_time()
        found = recommender.recommend(
            Interactions.from_lists([one.history for one in wanted]),
            question.k,
            filter_seen=question.filter_seen,
            allow=_together([one.allow for one in wanted], recommender.ids.n_items),
        )
        self.metrics.processor.inc(time.thread_time() - started)
        answers = []
        for row, one in enumerate(wanted):
            real = found.items[row] >= 0
            explanation = self._explained(question, one) if question.explain else None
            answers.append((found.items[row][real].tolist(), found.scores[row][real].tolist(), explanation))
        return answers

    def _explained(self, question: _Question, wanted: _Wanted) -> dict[str, Any]:
        allow = None if wanted.allow is None else wanted.allow[None]
        try:
            model = question.served.recommender
            told = model.trajectory if isinstance(model, SelfCorrectingRecommender) else model.explain
            found = told(wanted.history, question.k, filter_seen=question.filter_seen, allow=allow)
        except InputError as error:
            raise invalid("not_explainable", str(error)) from None
        return explanation_json(question.served, found)

    def _observe(self, size: int, seconds: float) -> None:
        self.metrics.batch.observe(size)
        self.metrics.decode.observe(seconds)
        buckets = self.served.recommender.engine(10).buckets
        self.metrics.padding.inc(next((b for b in buckets if b >= size), size) - size)

    def _sizes(self, served: Served) -> list[int]:
        return [size for size in served.recommender.engine(WARM_K).buckets if size <= self.settings.batch] or [1]

    def _exposure(self, listing: Listing, milliseconds: float) -> dict[str, Any]:
        return {
            "timestamp": round(self._clock() * 1e6),
            "request_id": listing.request_id,
            "user_id": listing.user,
            "model": listing.served.fingerprint,
            "items": [listing.served.ids[item] for item in listing.items],
            "scores": listing.scores,
            "milliseconds": milliseconds,
        }

    def _stage(self, name: str, started: float) -> None:
        self.metrics.stages.labels(name).observe(time.perf_counter() - started)


def _together(masks: Sequence[BoolArray | None], n_items: int) -> BoolArray | None:
    """bool [U, N] of masks [N], None among which allow everything; None if all are."""
    if all(mask is None for mask in masks):
        return None
    everything = np.ones(n_items, dtype=bool)
    return np.stack([everything if mask is None else mask for mask in masks])


def _range(given: list[str] | Bounds) -> list[str] | Range:
    return Range(given.min, given.max) if isinstance(given, Bounds) else given
