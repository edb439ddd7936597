"""What the service remembers: events and attributes of users, and changes to items. One protocol, three databases."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from redraft.records import InputError

__all__ = ["Event", "Limits", "Store", "StoreUnavailableError", "StoredItem", "StoredUser", "open_store", "unavailable"]

DAY = 86_400


class StoreUnavailableError(Exception):
    """The database did not do what it was asked; nothing was changed, or nothing is known of it."""


class Event(NamedTuple):
    """Somebody did something with an item. time: microseconds since 1970. id: unique among the user's events."""

    id: str
    user: str
    item: str
    kind: str
    time: int


@dataclass(frozen=True)
class StoredUser:
    """What is known of a user beside events. erased: what a data set knows of this user is not to be used."""

    attributes: dict[str, str] = field(default_factory=dict)
    erased: bool = False


@dataclass(frozen=True)
class StoredItem:
    """An item as it was last put: new, or a change to one of the run's. None leaves what the run knows.

    available: on sale. removed: deleted; it keeps its place, so that what came after it keeps its semantic ID.
    born: of an item that the run does not know, the text it first had, from which its semantic ID is made.
    """

    id: str
    title: str | None = None
    description: str | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    available: bool = True
    removed: bool = False
    born: str | None = None


@dataclass(frozen=True)
class Limits:
    """What is forgotten. events: newest kept a user. idle_days: days without a new event after which a user is."""

    events: int = 500
    idle_days: float = 365.0

    @property
    def idle_seconds(self) -> int:
        """idle_days in seconds."""
        return round(self.idle_days * DAY)


class Store(Protocol):
    """A database of users and items. What a method has done is there afterwards, whatever happens to the process.

    Every method raises StoreUnavailableError if the database does not answer or cannot write.
    """

    def add_events(self, events: Sequence[Event]) -> list[bool]:
        """Remember all events or none; returns which were new. One whose user and id are known changes nothing."""
        ...

    def history(self, user: str) -> list[Event]:
        """A user's newest events, oldest first by time, then id."""
        ...

    def user(self, user: str) -> StoredUser | None:
        """What is known of a user who was put, erased, or has events; None for anybody else."""
        ...

    def put_user(self, user: str, attributes: dict[str, str]) -> None:
        """Set a user's attributes."""
        ...

    def erase_user(self, user: str) -> None:
        """Forget everything of a user, except that it was erased."""
        ...

    def users(self, prefix: str, limit: int) -> list[str]:
        """Ids of some known users that start with a prefix, in order."""
        ...

    def put_item(self, item: StoredItem) -> None:
        """Set what is known of an item."""
        ...

    def items(self) -> list[StoredItem]:
        """All items ever put, in the order in which they first were."""
        ...

    def revision(self) -> int:
        """A number that grows with every put_item, also by other processes."""
        ...

    def close(self) -> None:
        """Let go of the database."""
        ...


@contextmanager
def unavailable(*errors: type[Exception]) -> Iterator[None]:
    """Raise StoreUnavailableError in place of a driver's errors."""
    try:
        yield
    except errors as error:
        raise StoreUnavailableError(
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        ) from error


def open_store(url: str, limits: Limits) -> Store:
    """The store that a URL names: sqlite:PATH, redis://... (also Valkey), postgresql://...

    Raises InputError for another URL or a missing driver, StoreUnavailableError if nothing answers there.
    """
    kind, _, rest = url.partition(":")
    if kind == "sqlite" and rest:
        from redraft.service.sql import SqliteStore

        return SqliteStore(rest, limits)
    if kind == "postgresql":
        from redraft.service.sql import PostgresStore

        return PostgresStore(url, limits)
    if kind in ("redis", "rediss", "valkey"):
        from redraft.service.valkey import ValkeyStore

        return ValkeyStore(url.replace("valkey:", "redis:", 1), limits)
    raise InputError(f"store {kind!r}: give sqlite:PATH, redis://HOST:PORT/0 or postgresql://USER@HOST/DATABASE")
