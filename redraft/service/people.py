"""What users did before: the data set that the run was trained on, then what the store remembers."""

from bisect import bisect_left
from typing import NamedTuple

from redraft.records import Dataset
from redraft.service.store import Event, Store

__all__ = ["People", "Person"]


class Person(NamedTuple):
    """A user's attributes, items of the data set oldest first and their seconds since 1970, and events since."""

    attributes: dict[str, str]
    before: list[str]
    times_before: list[int] | None
    events: list[Event]

    @property
    def items(self) -> list[str]:
        """Item ids, oldest first."""
        return self.before + [event.item for event in self.events]

    @property
    def times(self) -> list[int] | None:
        """When each of the items came, seconds since 1970; None if the data set does not say."""
        if self.times_before is None:
            return None
        return self.times_before + [event.time // 1_000_000 for event in self.events]


class People:
    """Users of a store and, below it, of a data set; an erased user's part of the data set is never shown again."""

    def __init__(self, store: Store, dataset: Dataset | None):
        self._store, self._dataset = store, dataset
        ids = [] if dataset is None else dataset.user_ids.to_list()
        self._items = [] if dataset is None else dataset.catalogue.ids.to_list()
        self._numbers = {user: number for number, user in enumerate(ids)}
        self._sorted = sorted(ids)

    def find(self, user: str) -> Person | None:
        """Everything known of a user; None for one who is unknown or erased."""
        known = self._store.user(user)
        number = self._numbers.get(user)
        if known is None and number is None:
            return None
        events = self._store.history(user) if known is not None else []
        if known is not None and known.erased:
            return Person(known.attributes, [], [], events) if events or known.attributes else None
        before, times = self._before(number)
        return Person({} if known is None else known.attributes, before, times, events)

    def _before(self, number: int | None) -> tuple[list[str], list[int] | None]:
        """A user's items in the data set, and when they came."""
        if self._dataset is None or number is None:
            return [], []
        events = self._dataset.interactions
        mine = slice(int(events.offsets[number]), int(events.offsets[number + 1]))
        times = None if events.times is None else events.times[mine].tolist()
        return [self._items[item] for item in events.items[mine].tolist()], times

    def search(self, prefix: str, limit: int) -> list[str]:
        """Ids of some users that start with a prefix, in order."""
        start = bisect_left(self._sorted, prefix)
        near = [user for user in self._sorted[start : start + limit] if user.startswith(prefix)]
        users = sorted({*near, *self._store.users(prefix, limit)})
        return [user for user in users if self.find(user) is not None][:limit]
