"""What the service does, without HTTP: it turns requests into lists, remembers what it answered, changes models."""

import asyncio
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from redraft.evidence.recommender import ReflectingRecommender, Verdict
from redraft.recommender import Explanation, SelfCorrectingRecommender
from redraft.records import BoolArray, Dataset, InputError, Interactions, Trajectory
from redraft.service.engine import EngineThread, Timed
from redraft.service.errors import ApiError, draining, invalid, not_found
from redraft.service.explaining import explanation_json
from redraft.service.keys import Caller
from redraft.service.memory import Memory
from redraft.service.metrics import Metrics
from redraft.service.models import Models
from redraft.service.people import People, Person
from redraft.service.schemas import Asked, Bounds
from redraft.service.served import Range, Servable, Served
from redraft.service.store import Store
from redraft.service.trials import Plan, Trials

__all__ = ["Listing", "Service", "Settings"]

REMEMBERED = 2_000
WARM_K = 10
WARM_SECONDS = 120.0
WARM_PAUSE = 0.05


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
    """history: item numbers, oldest first. times: when each came, seconds, for a model that reads that."""

    history: list[int]
    times: list[int] | None
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
        self.trials: Trials | None = None
        self._answered: OrderedDict[str, Listing] = OrderedDict()
        self._alive: list[Servable] = []

    @property
    def served(self) -> Served:
        """What answers now."""
        return self.models.served

    def warm(self) -> None:
        """Compute a list in every shape that batches will have, before anybody asks."""
        for served in [self.served, *(live.served for live in self.models.others)]:
            for size in self._sizes(served):
                served.recommender.recommend(_histories([WARM] * size), min(WARM_K, served.n_items))

    async def load(self, run: str) -> Served:
        """Load a run beside the one that answers, and warm it through the queue, so that nobody waits long for it.

        Raises ApiError 422 for a run that cannot be used.
        """
        changes = await self.memory.changes()
        live = await asyncio.to_thread(self.models.load, run, changes)
        await self._warm(live.served)
        self.models.staged = live
        self.metrics.reloads.labels("load").inc()
        return live.served

    async def renew_trials(self) -> None:
        """Read the file of experiments again if it changed; models of new arms are warm before they answer."""
        if self.trials is None or not self.trials.changed:
            return
        known = list(self.models.others)
        standing = await asyncio.to_thread(self.trials.renewed, await self.memory.changes())
        if standing is not None:
            for live in standing.lives.values():
                if live not in known:
                    await self._warm(live.served)
            self.trials.put(standing)

    async def _warm(self, served: Served) -> None:
        """Compute a list in every shape that batches will have, through the queue."""
        question = _Question(served, min(WARM_K, served.n_items), True, False)
        for size in self._sizes(served):
            await self._warmed([(question, WARM)] * min(size, self.settings.queue))

    async def _warmed(self, asked: list[tuple[Hashable, _Wanted]]) -> None:
        """Compute a batch for nobody, as soon as the queue has room for it."""
        until = time.monotonic() + WARM_SECONDS
        while True:
            try:
                await self.engine.ask(asked, WARM_SECONDS, usual=False)
                return
            except ApiError as error:
                if error.code != "queue_full" or time.monotonic() > until:
                    raise
            await asyncio.sleep(WARM_PAUSE)

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
        """Lists for requests that came together; all use one model, apart from users in experiments.

        Raises ApiError for a request that cannot be answered, and as EngineThread.ask.
        """
        if self.draining:
            raise draining()
        begun = time.perf_counter()
        plans = [self._plan(one) for one in asked]
        parts = [(one, live.served) for one, plan in zip(asked, plans) for live in plan.lives]
        fallback = False
        try:
            made = iter(await self._lists(parts, caller, timeout))
        except ApiError as error:
            fallback = error.code == "batch_failed" and any(served is not self.served for _, served in parts)
            if not fallback:
                self._log_failures(asked, plans, error, begun)
                raise
            plans = [replace(plan, lives=[self.models.current]) for plan in plans]
            left = timeout - (time.perf_counter() - begun)
            made = iter(await self._lists([(one, self.served) for one in asked], caller, left))
        started = time.perf_counter()
        listings, rows = [], []
        for one, plan in zip(asked, plans):
            listing, logged = self._mixed(one, plan, [next(made) for _ in plan.lives])
            listings.append(listing)
            rows += plan.rows(self._exposure(listing, plan, fallback, 1000 * (started - begun)) | logged)
        self.memory.exposed(rows)
        self._stage("answer", started)
        return listings

    def _plan(self, asked: Asked) -> Plan:
        return Plan([self.models.current]) if self.trials is None else self.trials.plan(asked.user_id)

    async def _lists(self, asked: Sequence[tuple[Asked, Served]], caller: Caller, timeout: float) -> list[Listing]:
        started = time.perf_counter()
        people = await self._people([one for one, _ in asked], caller)
        histories = [self._history(one, served, people) for one, served in asked]
        self._stage("history", started)
        questions = [self._question(*each) for each in asked]
        wanted = [
            _Wanted(*history, self._allowed(one, served, history[0]))
            for (one, served), history in zip(asked, histories)
        ]
        left = timeout - (time.perf_counter() - started)
        timed = await self.engine.ask(list(zip(cast(list[Hashable], questions), wanted)), left)
        return [
            self._listing(one, question, want, each, caller)
            for (one, _), question, want, each in zip(asked, questions, wanted, timed)
        ]

    def _mixed(self, asked: Asked, plan: Plan, listings: Sequence[Listing]) -> tuple[Listing, dict[str, Any]]:
        """The list that is sent, and what is logged of it beside: of the one that was made, or mixed out of several."""
        first = listings[0]
        if len(listings) == 1:
            return first, {}
        items, logged = plan.mixed([one.items for one in listings], asked.k, first.request_id)
        scores = {item: score for one in reversed(listings) for item, score in zip(one.items, one.scores)}
        if "propensities" in logged:
            logged["lists"] = [[one.served.ids[item] for item in one.items] for one in listings]
        return replace(first, items=items, scores=[scores[item] for item in items]), logged

    def _log_failures(self, asked: Sequence[Asked], plans: Sequence[Plan], error: ApiError, begun: float) -> None:
        """Log the requests of experiments that get no list; what is the caller's fault is none of an arm's."""
        if error.status < 500 and error.status != 429:
            return
        for one, plan in zip(asked, plans):
            if plan.places:
                row = {
                    "timestamp": round(self._clock() * 1e6),
                    "request_id": uuid.uuid4().hex,
                    "user_id": one.user_id,
                    "model": plan.lives[0].served.fingerprint,
                    "items": [],
                    "scores": [],
                    "milliseconds": 1000 * (time.perf_counter() - begun),
                    "asked": one.k,
                    "error": error.code,
                }
                self.memory.exposed(plan.rows(row))

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

    async def _people(self, asked: Sequence[Asked], caller: Caller) -> dict[str, Person]:
        """Those who are asked for by name."""
        users = {one.user_id for one in asked if one.user_id is not None}
        return await self.memory.people(users, caller) if users else {}

    def _history(
        self, asked: Asked, served: Served, people: Mapping[str, Person]
    ) -> tuple[list[int], list[int] | None]:
        """Items, oldest first, and when they came; raises ApiError 422 if the model reads times and nobody has them."""
        if asked.user_id is None:
            history, times = [served.number(item, "history") for item in asked.history or ()], asked.times
        else:
            person = people[asked.user_id]
            known = [(served.numbers.get(item), place) for place, item in enumerate(person.items)]
            history, times = [number for number, _ in known if number is not None], person.times
            times = None if times is None else [times[place] for number, place in known if number is not None]
        if not served.uses_time:
            return history, None
        if times is None and history:
            raise invalid("times_needed", "this model reads when things happened; give times, one per item of history")
        return history, times or []

    def _allowed(self, asked: Asked, served: Served, history: Sequence[int]) -> BoolArray | None:
        filters = {name: _range(given) for name, given in asked.filters.items()}
        return served.allowed(asked.allow, asked.exclude, filters, history if asked.filter_seen else ())

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
        lives = (self.models.current, self.models.previous, *self.models.others)
        alive = [live.served.recommender for live in lives if live is not None]
        if alive != self._alive:
            self._alive = alive
            self._answered = OrderedDict(
                (name, one) for name, one in self._answered.items() if one.served.recommender in alive
            )
        self._answered[listing.request_id] = listing
        if len(self._answered) > REMEMBERED:
            self._answered.popitem(last=False)

    def _work(self, key: Hashable, wanted: list[_Wanted]) -> list[tuple[list[int], list[float], dict[str, Any] | None]]:
        """On the engine's thread: the lists of one batch, with explanations if the question wants them."""
        question = cast(_Question, key)
        recommender = question.served.recommender
        started = time.thread_time()
        lists = recommender.recommend(
            _histories(wanted),
            question.k,
            filter_seen=question.filter_seen,
            allow=_together([one.allow for one in wanted], recommender.ids.n_items),
        )
        self.metrics.processor.inc(time.thread_time() - started)
        answers = []
        for row, one in enumerate(wanted):
            real = lists.items[row] >= 0
            explanation = self._explained(question, one) if question.explain else None
            answers.append((lists.items[row][real].tolist(), lists.scores[row][real].tolist(), explanation))
        return answers

    def _explained(self, question: _Question, wanted: _Wanted) -> dict[str, Any]:
        allow = None if wanted.allow is None else wanted.allow[None]
        try:
            model, request = question.served.recommender, (wanted.history, question.k)
            how: dict[str, Any] = {"filter_seen": question.filter_seen, "allow": allow}
            explained: Trajectory | Sequence[Explanation] | Verdict
            if isinstance(model, ReflectingRecommender):
                explained = model.explain(*request, times=wanted.times, **how)
            elif isinstance(model, SelfCorrectingRecommender):
                explained = model.trajectory(*request, **how)
            else:
                explained = model.explain(*request, **how)
        except InputError as error:
            raise invalid("not_explainable", str(error)) from None
        return explanation_json(question.served, explained)

    def _observe(self, size: int, seconds: float) -> None:
        self.metrics.batch.observe(size)
        self.metrics.decode.observe(seconds)
        buckets = self.served.recommender.engine(10).buckets
        self.metrics.padding.inc(next((b for b in buckets if b >= size), size) - size)

    def _sizes(self, served: Served) -> list[int]:
        return [size for size in served.recommender.engine(WARM_K).buckets if size <= self.settings.batch] or [1]

    def _exposure(self, listing: Listing, plan: Plan, fallback: bool, milliseconds: float) -> dict[str, Any]:
        now = plan.lives[0].served
        return {
            "timestamp": round(self._clock() * 1e6),
            "request_id": listing.request_id,
            "user_id": listing.user,
            "model": listing.served.fingerprint,
            "items": [listing.served.ids[item] for item in listing.items],
            "scores": listing.scores,
            "milliseconds": milliseconds,
            "asked": listing.question.k,
            "history": len(listing.wanted.history),
            "fallback": fallback,
            "unavailable": 0 if now.all_on_sale else int((~now.on_sale[listing.items]).sum()),
        }

    def _stage(self, name: str, started: float) -> None:
        self.metrics.stages.labels(name).observe(time.perf_counter() - started)


WARM = _Wanted([0], [0], None)


def _histories(wanted: Sequence[_Wanted]) -> Interactions:
    """Histories of one batch, with times if all have them."""
    times = [one.times for one in wanted if one.times is not None]
    return Interactions.from_lists([one.history for one in wanted], times if len(times) == len(wanted) else None)


def _together(masks: Sequence[BoolArray | None], n_items: int) -> BoolArray | None:
    """bool [U, N] of masks [N], None among which allow everything; None if all are."""
    if all(mask is None for mask in masks):
        return None
    everything = np.ones(n_items, dtype=bool)
    return np.stack([everything if mask is None else mask for mask in masks])


def _range(given: list[str] | Bounds) -> list[str] | Range:
    return Range(given.min, given.max) if isinstance(given, Bounds) else given
