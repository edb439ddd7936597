"""What the service is told: events, users and items, into the store and into the journals."""

import asyncio
import errno
import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from redraft.records import InputError
from redraft.service.errors import ApiError, disk_full, invalid, not_found, store_unavailable
from redraft.service.journal import EVENTS, EXPOSURES, Journal
from redraft.service.keys import Caller
from redraft.service.live import item_text
from redraft.service.metrics import Metrics
from redraft.service.models import Models
from redraft.service.people import People, Person
from redraft.service.schemas import Happened, ItemBody
from redraft.service.store import Event, Store, StoredItem, StoreUnavailableError

__all__ = ["Memory"]

T = TypeVar("T")
log = logging.getLogger(__name__)

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL_SQLITE = ("SQLITE_FULL", "SQLITE_IOERR_WRITE")
FULL_POSTGRES = "53100"
SKEW = 300
"""Seconds that a sender's clock may be ahead."""


class Memory:
    """Users and items as they change; what an answer says was done is on the disk."""

    def __init__(
        self,
        store: Store,
        people: People,
        models: Models,
        folder: Path,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ):
        self._store, self._people, self._models, self._metrics, self._clock = store, people, models, metrics, clock
        self._events = Journal(folder / "events", EVENTS, unique=["user_id", "event_id"], clock=clock)
        self._exposures = Journal(folder / "exposures", EXPOSURES, clock=clock)
        self._renewing = asyncio.Lock()
        self._revision = -1

    async def person(self, user: str, caller: Caller) -> Person:
        """A user; raises ApiError as `people`."""
        return (await self.people([user], caller))[user]

    async def people(self, users: Collection[str], caller: Caller) -> dict[str, Person]:
        """Some users; raises ApiError 404 for an unknown one and 403 for one whom the caller may not see."""
        for user in users:
            self._reach(user, caller)
        found = await self._ask(lambda: {user: self._people.find(user) for user in users})
        known = {user: person for user, person in found.items() if person is not None}
        for user in users:
            if user not in known:
                raise not_found("unknown_user", f"no user {user!r}; send events first, or give a history")
        return known

    async def search(self, prefix: str, limit: int, caller: Caller) -> list[str]:
        """Ids of users that start with a prefix."""
        if caller.user is not None:
            return [caller.user] if caller.user.startswith(prefix) else []
        return await self._ask(lambda: self._people.search(prefix, limit))

    async def happened(self, events: Sequence[Happened], caller: Caller) -> tuple[int, int]:
        """Remember events, all or none: how many were new, and how many were known.

        Raises ApiError 422 for an item that nobody knows and a time in the future, 403 for another user's event.
        """
        now = self._clock()
        rows = []
        for at, event in enumerate(events):
            self._reach(event.user_id, caller)
            self._models.served.number(event.item_id, f"events.{at}")
            moment = now if event.time is None else _seconds(event.time)
            if not 0 <= moment <= now + SKEW:
                raise invalid("bad_time", f"events.{at}: time is before 1970 or in the future; send when it happened")
            rows.append(Event(event.event_id, event.user_id, event.item_id, event.kind, round(moment * 1e6)))
        new = await self._ask(lambda: self._remember(rows, [event.value for event in events]))
        self._metrics.events.labels("accepted").inc(sum(new))
        self._metrics.events.labels("duplicate").inc(len(new) - sum(new))
        return sum(new), len(new) - sum(new)

    def exposed(self, rows: Sequence[dict[str, Any]]) -> None:
        """Log what was shown; an answer does not fail for it."""
        try:
            self._exposures.append(rows)
        except OSError as error:
            self._metrics.rejected.labels("exposure_lost").inc(len(rows))
            log.error("exposures: %s", error)

    async def put_user(self, user: str, attributes: dict[str, str], caller: Caller) -> None:
        """Set a user's attributes."""
        self._reach(user, caller)
        await self._ask(lambda: self._store.put_user(user, attributes))

    async def erase(self, user: str, caller: Caller) -> None:
        """Forget a user: in the store, in the journals, and what the data set says."""
        await self.person(user, caller)
        await self._ask(lambda: self._erase(user))

    async def put_items(self, items: Sequence[ItemBody]) -> None:
        """Set items; they are recommendable, or no longer, when this returns.

        Raises ApiError 422 for an attribute that the model does not know.
        """
        served = self._models.served
        for item in items:
            unknown = sorted(set(item.attributes) - set(served.catalogue.attribute_names))
            if unknown:
                known = ", ".join(served.catalogue.attribute_names) or "none"
                message = f"item {item.id!r}: no attribute {unknown[0]!r}; the attributes are: {known}"
                raise invalid("unknown_attribute", message)
        await self._ask(lambda: self._put(items))
        await self.renew()

    async def remove_item(self, item: str) -> None:
        """Take an item out of the catalogue; raises ApiError 404 if it is not there."""
        number = self._models.served.numbers.get(item)
        if number is None or number in self._models.served.removed:
            raise not_found("unknown_item", f"no item {item!r}")

        def remove() -> None:
            known = next((one for one in self._store.items() if one.id == item), StoredItem(item))
            self._store.put_item(replace(known, available=False, removed=True))

        await self._ask(remove)
        await self.renew()

    async def renew(self) -> None:
        """Serve the items as the store has them, if this or another process changed some."""
        async with self._renewing:
            revision = await self._ask(self._store.revision)
            if revision != self._revision:
                changes = await self._ask(self._store.items)
                await asyncio.to_thread(self._models.renew, changes)
                self._revision = revision
                self._metrics.reloads.labels("items").inc()

    async def changes(self) -> list[StoredItem]:
        """All changes to items."""
        return await self._ask(self._store.items)

    def seal(self) -> None:
        """Turn hours that are over into Parquet."""
        self._events.seal()
        self._exposures.seal()

    def close(self) -> None:
        """Let go of store and journals."""
        self._events.close()
        self._exposures.close()
        self._store.close()

    def _remember(self, events: Sequence[Event], values: Sequence[float | None]) -> list[bool]:
        names = ("event_id", "user_id", "item_id", "kind", "timestamp", "value")
        self._events.append([dict(zip(names, (*event, value))) for event, value in zip(events, values)])
        return self._store.add_events(events)

    def _erase(self, user: str) -> None:
        self._events.erase(user)
        self._exposures.erase(user)
        self._store.erase_user(user)

    def _put(self, items: Sequence[ItemBody]) -> None:
        own = {item.id: item for item in self._store.items()}
        for item in items:
            put = StoredItem(item.id, item.title, item.description, item.attributes, item.available)
            known = own.get(item.id)
            self._store.put_item(replace(put, born=known.born if known and known.born else item_text(put)))

    def _reach(self, user: str, caller: Caller) -> None:
        if not caller.reaches(user):
            raise ApiError(403, "forbidden", "this key reaches another user's data only")

    async def _ask(self, what: Callable[[], T]) -> T:
        """Ask the database on a thread of its own; raises ApiError 503 if it does not answer, 507 for a full disk."""
        try:
            return await asyncio.to_thread(what)
        except (StoreUnavailableError, OSError, InputError) as error:
            log.error("store: %s", error)
            raise (disk_full() if _says_full(error) else store_unavailable()) from error


def _says_full(error: Exception) -> bool:
    """Whether an error says that there is no room: as the system, SQLite, or PostgreSQL do."""
    cause = error.__cause__ or error
    return (
        getattr(cause, "errno", None) in FULL
        or getattr(cause, "sqlite_errorname", None) in FULL_SQLITE
        or getattr(cause, "sqlstate", None) == FULL_POSTGRES
    )


def _seconds(time: float | datetime) -> float:
    return time.timestamp() if isinstance(time, datetime) else time
