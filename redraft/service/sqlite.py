"""The embedded store: one SQLite file with a write-ahead log; needs nothing installed."""

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from redraft.service.store import Event, Limits, StoredItem, StoredUser, unavailable

__all__ = ["SqliteStore"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    user TEXT NOT NULL, id TEXT NOT NULL, item TEXT NOT NULL, kind TEXT NOT NULL, time INTEGER NOT NULL,
    PRIMARY KEY (user, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS events_by_time ON events (user, time, id);
CREATE TABLE IF NOT EXISTS users (
    id TEXT PRIMARY KEY, attributes TEXT NOT NULL, erased INTEGER NOT NULL, touched INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS items (place INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, content TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS revision (one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER NOT NULL);
INSERT OR IGNORE INTO revision VALUES (1, 0);
"""
TOUCH = """
INSERT INTO users VALUES (?, '{}', 0, ?) ON CONFLICT (id) DO UPDATE SET touched = excluded.touched
"""
FORGET_OLD = """
DELETE FROM events WHERE user = :user AND (time, id) < (
    SELECT time, id FROM events WHERE user = :user ORDER BY time DESC, id DESC LIMIT 1 OFFSET :last
)
"""
KNOWN = "(erased OR touched > ?)"
HIGHEST = "\U0010ffff"


class SqliteStore:
    """See redraft.service.store.Store. Acknowledged writes are on the disk; one connection writes, another reads."""

    def __init__(self, path: str | Path, limits: Limits, clock: Callable[[], float] = time.time):
        self._limits, self._clock = limits, clock
        with unavailable(sqlite3.Error, OSError):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._writer = self._connect(path)
            self._writer.executescript(SCHEMA)
            self._reader = self._connect(path)
        self._writing, self._reading = threading.Lock(), threading.Lock()

    def add_events(self, events: Sequence[Event]) -> list[bool]:
        """See Store."""
        with self._write() as rows:
            now, new = round(self._clock()), []
            for event in events:
                self._forget_idle(rows, event.user)
                found = rows.execute(
                    "INSERT OR IGNORE INTO events (id, user, item, kind, time) VALUES (?, ?, ?, ?, ?)", event
                )
                new.append(found.rowcount == 1)
            for user in sorted({event.user for event in events}):
                rows.execute(TOUCH, (user, now))
                rows.execute(FORGET_OLD, {"user": user, "last": self._limits.events - 1})
            return new

    def history(self, user: str) -> list[Event]:
        """See Store."""
        with self._read() as rows:
            found = rows.execute(
                f"SELECT e.id, user, item, kind, time FROM events e JOIN users u ON u.id = e.user "
                f"WHERE user = ? AND {KNOWN} ORDER BY time, e.id",
                (user, self._since()),
            )
            return [Event(*row) for row in found]

    def user(self, user: str) -> StoredUser | None:
        """See Store."""
        with self._read() as rows:
            found = rows.execute(
                f"SELECT attributes, erased FROM users WHERE id = ? AND {KNOWN}", (user, self._since())
            ).fetchone()
            return None if found is None else StoredUser(json.loads(found[0]), bool(found[1]))

    def put_user(self, user: str, attributes: dict[str, str]) -> None:
        """See Store."""
        with self._write() as rows:
            self._forget_idle(rows, user)
            rows.execute(TOUCH, (user, round(self._clock())))
            rows.execute("UPDATE users SET attributes = ? WHERE id = ?", (json.dumps(attributes), user))

    def erase_user(self, user: str) -> None:
        """See Store."""
        with self._write() as rows:
            rows.execute("DELETE FROM events WHERE user = ?", (user,))
            rows.execute("INSERT OR REPLACE INTO users VALUES (?, '{}', 1, ?)", (user, round(self._clock())))

    def users(self, prefix: str, limit: int) -> list[str]:
        """See Store."""
        with self._read() as rows:
            found = rows.execute(
                f"SELECT id FROM users WHERE id >= ? AND id < ? AND {KNOWN} ORDER BY id LIMIT ?",
                (prefix, prefix + HIGHEST, self._since(), limit),
            )
            return [row[0] for row in found]

    def put_item(self, item: StoredItem) -> None:
        """See Store."""
        with self._write() as rows:
            rows.execute(
                "INSERT INTO items (id, content) VALUES (?, ?) "
                "ON CONFLICT (id) DO UPDATE SET content = excluded.content",
                (item.id, json.dumps(item.__dict__)),
            )
            rows.execute("UPDATE revision SET number = number + 1")

    def items(self) -> list[StoredItem]:
        """See Store."""
        with self._read() as rows:
            return [
                StoredItem(**json.loads(row[0])) for row in rows.execute("SELECT content FROM items ORDER BY place")
            ]

    def revision(self) -> int:
        """See Store."""
        with self._read() as rows:
            return int(rows.execute("SELECT number FROM revision").fetchone()[0])

    def close(self) -> None:
        """See Store."""
        self._reader.close()
        self._writer.close()

    def _connect(self, path: str | Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _since(self) -> int:
        return round(self._clock()) - self._limits.idle_seconds

    def _forget_idle(self, rows: sqlite3.Connection, user: str) -> None:
        idle = rows.execute(f"SELECT 1 FROM users WHERE id = ? AND NOT {KNOWN}", (user, self._since())).fetchone()
        if idle:
            rows.execute("DELETE FROM events WHERE user = ?", (user,))
            rows.execute("DELETE FROM users WHERE id = ?", (user,))

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        with self._reading, unavailable(sqlite3.Error):
            yield self._reader

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """One transaction, done as a whole or not at all."""
        with self._writing, unavailable(sqlite3.Error):
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise
