"""What the service does, without HTTP: it turns requests into lists, remembers what it answered, changes models."""

import asyncio
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from redraft.records import Dataset
from redraft.service.engine import EngineThread, Timed
from redraft.service.errors import ApiError, draining, not_found
from redraft.service.keys import Caller
from redraft.service.listing import (
    WARM,
    Answer,
    Listing,
    Question,
    Wanted,
    histories,
    make_lists,
    question_of,
    wanted_of,
)
from redraft.service.memory import Memory
from redraft.service.metrics import Metrics
from redraft.service.models import Models
from redraft.service.people import People, Person
from redraft.service.schemas import Asked
from redraft.service.served import Servable, Served
from redraft.service.store import Store
from redraft.service.trials import Plan, Trials

__all__ = ["Service", "Settings"]

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
        self.engine: EngineThread[Wanted, Answer] = EngineThread(
            lambda question, wanted: make_lists(cast(Question, question), wanted, self.metrics),
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
                served.recommender.recommend(histories([WARM] * size), min(WARM_K, served.n_items))

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
        question = Question(served, min(WARM_K, served.n_items), True, False)
        for size in self._sizes(served):
            await self._warmed([(question, WARM)] * min(size, self.settings.queue))

    async def _warmed(self, asked: list[tuple[Hashable, Wanted]]) -> None:
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
        persons = [None if one.user_id is None else people[one.user_id] for one, _ in asked]
        wanted = [wanted_of(one, served, person) for (one, served), person in zip(asked, persons)]
        self._stage("history", started)
        questions = [question_of(*each) for each in asked]
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
            if plan.assigned:
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
        question = Question(listing.served, listing.question.k, listing.question.filter_seen, True)
        [timed] = await self.engine.ask([(question, listing.wanted)], timeout)
        explanation = timed.answer[2]
        assert explanation is not None, "the question asks for one"
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

    def _listing(
        self, asked: Asked, question: Question, wanted: Wanted, timed: Timed[Answer], caller: Caller
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
