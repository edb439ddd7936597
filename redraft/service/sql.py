"""The store in SQL: an embedded SQLite file, which needs nothing installed, or PostgreSQL."""

import json
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol, cast

import psycopg

from redraft.service.store import Event, Limits, StoredItem, StoredUser, unavailable

__all__ = ["PostgresStore", "SqlStore", "SqliteStore"]

TABLES = (
    """CREATE TABLE IF NOT EXISTS events (
        user_id {text} NOT NULL, id {text} NOT NULL, item TEXT NOT NULL, kind TEXT NOT NULL, time BIGINT NOT NULL,
        PRIMARY KEY (user_id, id))""",
    "CREATE INDEX IF NOT EXISTS events_by_time ON events (user_id, time, id)",
    """CREATE TABLE IF NOT EXISTS users (
        id {text} PRIMARY KEY, attributes TEXT NOT NULL, erased INTEGER NOT NULL, touched BIGINT NOT NULL)""",
    "CREATE TABLE IF NOT EXISTS items (place {serial}, id {text} NOT NULL UNIQUE, content TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS revision (one INTEGER PRIMARY KEY, number BIGINT NOT NULL)",
    "INSERT INTO revision VALUES (1, 0) ON CONFLICT DO NOTHING",
)
TOUCH = "INSERT INTO users VALUES (%s, '{}', 0, %s) ON CONFLICT (id) DO UPDATE SET touched = excluded.touched"
ADD = """INSERT INTO events (id, user_id, item, kind, time) VALUES {rows}
    ON CONFLICT DO NOTHING RETURNING user_id, id"""
ROW = "(%s, %s, %s, %s, %s)"
FORGET_IDLE_EVENTS = """DELETE FROM events WHERE user_id = %s
    AND EXISTS (SELECT 1 FROM users WHERE id = %s AND touched <= %s)"""
FORGET_OLDEST = """DELETE FROM events WHERE user_id = %s AND (time, id) < (
    SELECT time, id FROM events WHERE user_id = %s ORDER BY time DESC, id DESC LIMIT 1 OFFSET %s)"""
HISTORY = """SELECT e.id, e.user_id, e.item, e.kind, e.time FROM events e JOIN users u ON u.id = e.user_id
    WHERE e.user_id = %s AND u.touched > %s ORDER BY e.time, e.id"""
ERASE = """INSERT INTO users VALUES (%s, '{}', 1, 0)
    ON CONFLICT (id) DO UPDATE SET attributes = '{}', erased = 1, touched = 0"""
PUT_ITEM = "INSERT INTO items (id, content) VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET content = excluded.content"
HIGHEST = "\U0010ffff"


class Cursor(Protocol):
    """What a driver's cursor can do."""

    def fetchone(self) -> Any:
        """The next row, or None."""
        ...

    def fetchall(self) -> Any:
        """All rows."""
        ...


Execute = Callable[[str, Sequence[Any]], Cursor]


class SqlStore(ABC):
    """See redraft.service.store.Store: everything but how to reach the database."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.time):
        self._limits, self._clock = limits, clock

    @abstractmethod
    def _read(self) -> AbstractContextManager[Execute]: ...

    @abstractmethod
    def _write(self) -> AbstractContextManager[Execute]:
        """One transaction, done as a whole or not at all."""

    @abstractmethod
    def close(self) -> None:
        """See Store."""

    def add_events(self, events: Sequence[Event]) -> list[bool]:
        """See Store."""
        users = sorted({event.user for event in events})
        with self._write() as execute:
            for user in users:
                self._forget_idle(execute, user)
                execute(TOUCH, (user, self._now()))
            rows = ", ".join([ROW] * len(events))
            added = execute(ADD.format(rows=rows), [value for event in events for value in event]).fetchall()
            for user in users:
                execute(FORGET_OLDEST, (user, user, self._limits.events - 1))
        return _first_of_each([(event.user, event.id) for event in events], set(map(tuple, added)))

    def history(self, user: str) -> list[Event]:
        """See Store."""
        with self._read() as execute:
            return [Event(*row) for row in execute(HISTORY, (user, self._since())).fetchall()]

    def user(self, user: str) -> StoredUser | None:
        """See Store."""
        with self._read() as execute:
            row = execute("SELECT attributes, erased, touched FROM users WHERE id = %s", (user,)).fetchone()
        if row is None:
            return None
        attributes, erased, idle = json.loads(row[0]), bool(row[1]), row[2] <= self._since()
        if idle:
            return StoredUser({}, True) if erased else None
        return StoredUser(attributes, erased)

    def put_user(self, user: str, attributes: dict[str, str]) -> None:
        """See Store."""
        with self._write() as execute:
            self._forget_idle(execute, user)
            execute(TOUCH, (user, self._now()))
            execute("UPDATE users SET attributes = %s WHERE id = %s", (json.dumps(attributes), user))

    def erase_user(self, user: str) -> None:
        """See Store."""
        with self._write() as execute:
            execute("DELETE FROM events WHERE user_id = %s", (user,))
            execute(ERASE, (user,))

    def users(self, prefix: str, limit: int) -> list[str]:
        """See Store."""
        query = "SELECT id FROM users WHERE id >= %s AND id < %s AND touched > %s ORDER BY id LIMIT %s"
        with self._read() as execute:
            rows = execute(query, (prefix, prefix + HIGHEST, self._since(), limit)).fetchall()
        return [row[0] for row in rows]

    def put_item(self, item: StoredItem) -> None:
        """See Store."""
        with self._write() as execute:
            execute(PUT_ITEM, (item.id, json.dumps(item.__dict__)))
            execute("UPDATE revision SET number = number + 1", ())

    def items(self) -> list[StoredItem]:
        """See Store."""
        with self._read() as execute:
            rows = execute("SELECT content FROM items ORDER BY place", ()).fetchall()
        return [StoredItem(**json.loads(row[0])) for row in rows]

    def revision(self) -> int:
        """See Store."""
        with self._read() as execute:
            return int(execute("SELECT number FROM revision", ()).fetchone()[0])

    def _now(self) -> int:
        return round(self._clock())

    def _since(self) -> int:
        return self._now() - self._limits.idle_seconds

    def _forget_idle(self, execute: Execute, user: str) -> None:
        since = self._since()
        execute(FORGET_IDLE_EVENTS, (user, user, since))
        execute("UPDATE users SET attributes = '{}' WHERE id = %s AND touched <= %s", (user, since))


class SqliteStore(SqlStore):
    """One file with a write-ahead log; what is acknowledged is on the disk. One connection writes, another reads."""

    def __init__(self, path: str | Path, limits: Limits, clock: Callable[[], float] = time.time):
        super().__init__(limits, clock)
        with unavailable(sqlite3.Error, OSError):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._writer, self._reader = _sqlite(path), _sqlite(path)
        self._writing, self._reading = threading.Lock(), threading.Lock()
        with self._write() as execute:
            for statement in TABLES:
                execute(statement.format(text="TEXT", serial="INTEGER PRIMARY KEY"), ())

    def close(self) -> None:
        """See Store."""
        self._reader.close()
        self._writer.close()

    @contextmanager
    def _read(self) -> Iterator[Execute]:
        with self._reading, unavailable(sqlite3.Error):
            yield _executor(self._reader)

    @contextmanager
    def _write(self) -> Iterator[Execute]:
        with self._writing, unavailable(sqlite3.Error):
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield _executor(self._writer)
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise


class PostgresStore(SqlStore):
    """A PostgreSQL database; a connection that was lost is made again for the next call.

    Statements whose outcome nobody reads share a round trip.
    """

    def __init__(self, url: str, limits: Limits, clock: Callable[[], float] = time.time):
        super().__init__(limits, clock)
        self._url, self._lock = url, threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None
        with self._write() as execute:
            for statement in TABLES:
                serial = "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
                execute(statement.format(text='TEXT COLLATE "C"', serial=serial), ())

    def close(self) -> None:
        """See Store."""
        if self._connection is not None:
            self._connection.close()

    @contextmanager
    def _write(self) -> Iterator[Execute]:
        with self._lock, unavailable(psycopg.Error, OSError):
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(self._url, connect_timeout=3)
            with self._connection.pipeline(), self._connection.transaction():
                yield cast(Execute, self._connection.execute)

    _read = _write


def _first_of_each(keys: Sequence[tuple[str, str]], added: set[tuple[str, str]]) -> list[bool]:
    """For each key whether it was added and stands here for the first time."""
    first = {key: at for at, key in reversed(list(enumerate(keys)))}
    return [key in added and first[key] == at for at, key in enumerate(keys)]


def _sqlite(path: str | Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _executor(connection: sqlite3.Connection) -> Execute:
    return lambda statement, values: connection.execute(statement.replace("%s", "?"), values)
