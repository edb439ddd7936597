"""What happened, for training and analysis: one Parquet file an hour, from lines that are on the disk before."""

import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from redraft.files import atomic_file

__all__ = ["EVENTS", "EXPOSURES", "Journal"]

TIME = pl.Datetime("us", "UTC")
EVENTS = {
    "user_id": pl.String,
    "item_id": pl.String,
    "timestamp": TIME,
    "kind": pl.String,
    "event_id": pl.String,
    "value": pl.Float64,
}
"""One row an accepted event; as `redraft data import table` reads it. value: money, null if nobody said."""
EXPOSURES = {
    "timestamp": TIME,
    "request_id": pl.String,
    "user_id": pl.String,
    "model": pl.String,
    "items": pl.List(pl.String),
    "scores": pl.List(pl.Float32),
    "milliseconds": pl.Float32,
    "asked": pl.Int32,
    "history": pl.Int32,
    "experiment": pl.String,
    "arm": pl.String,
    "layout": pl.String,
    "forced": pl.Boolean,
    "fallback": pl.Boolean,
    "error": pl.String,
    "unavailable": pl.Int32,
    "teams": pl.List(pl.String),
    "propensities": pl.List(pl.Float32),
    "lists": pl.List(pl.List(pl.String)),
}
"""One row an answered request, and one for each experiment that it is part of; an item's position is its place in the
list.

user_id: null if asked by history. asked: items that were asked for. history: items that the list was made from.
experiment, arm, layout, forced: null outside experiments; layout is of all that says who is in which arm, forced if
an override did. fallback: the arm's model failed, and the service's own answered. error: why there is no list, which
is logged within experiments. unavailable: items of the list that were off sale when it was sent. teams: the arm of
each item where lists of two are mixed. propensities: of each item at its position, where lists are drawn at random;
lists: those of the arms in their order, then.
"""


class Journal:
    """Rows of one kind. A line is given to the system before `append` returns, so that a killed process loses none.

    The hour's lines stand in .HOUR.jsonl; once the hour is over that becomes .HOUR.over, to which nothing is added, and
    from it HOUR.parquet is made, renamed when it is whole.
    unique: columns that tell rows apart, among which only the first row of an hour is kept; empty keeps all.
    """

    def __init__(
        self,
        folder: Path,
        schema: Mapping[str, Any],
        *,
        unique: Sequence[str] = (),
        clock: Callable[[], float] = time.time,
    ):
        self.folder, self._schema, self._unique, self._clock = folder, dict(schema), list(unique), clock
        self._lock, self._sealing = threading.Lock(), threading.Lock()
        self._hour, self._file, self._named = "", -1, (-1, "")
        folder.mkdir(parents=True, exist_ok=True)
        self.seal()

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows; times are microseconds since 1970. Raises OSError, having written no whole row, on a full disk."""
        lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
        with self._lock:
            hour = self._now()
            if hour != self._hour:
                self._close()
                self._hour = hour
                self._file = os.open(self._lines(hour), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            start = os.fstat(self._file).st_size
            try:
                written = os.write(self._file, lines)
                if written < len(lines):
                    raise OSError(28, "No space left on device", str(self._lines(hour)))
            except OSError:
                os.ftruncate(self._file, start)
                raise

    def seal(self) -> None:
        """Turn the lines of every hour that is over into Parquet; rows can be added meanwhile.

        Raises InputError if the disk is full; the lines stay, for the next time.
        """
        with self._sealing:
            with self._lock:
                self._end_hours()
            for path in sorted(self.folder.glob(".*.over")):
                self._to_parquet(path)

    def close(self) -> None:
        """Stop writing; the current hour is sealed by whoever comes next."""
        with self._lock:
            self._close()

    def erase(self, user: str) -> None:
        """Rewrite every file that has rows of a user, without them; of hours that are over while rows can be added."""
        with self._sealing:
            for path in sorted(self.folder.glob("*.parquet")):
                frame = pl.read_parquet(path)
                self._replace(path, frame, frame.filter(pl.col("user_id").ne_missing(user)))
            for path in sorted(self.folder.glob(".*.over")):
                self._erase_lines(path, user)
            with self._lock:
                for path in sorted(self.folder.glob(".*.jsonl")):
                    self._erase_lines(path, user)
                self._close()

    def _erase_lines(self, path: Path, user: str) -> None:
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if not (parsed := _parsed(line)) or parsed["user_id"] != user]
        if len(kept) < len(lines):
            with atomic_file(path) as partial:
                partial.write_bytes(b"".join(kept))

    def _replace(self, path: Path, before: pl.DataFrame, after: pl.DataFrame) -> None:
        if after.height < before.height:
            with atomic_file(path) as partial:
                after.write_parquet(partial)

    def _end_hours(self) -> None:
        """Let nothing be added any more to the lines of hours that are over."""
        current = self._now()
        for path in sorted(self.folder.glob(".*.jsonl")):
            hour, over = path.name[1:].removesuffix(".jsonl"), path.with_suffix(".over")
            if hour < current and not over.exists():
                if hour == self._hour:
                    self._close()
                path.rename(over)

    def _to_parquet(self, path: Path) -> None:
        rows = [row for line in path.read_bytes().splitlines() if (row := _parsed(line))]
        frame = pl.DataFrame(rows, schema=self._raw_schema(), orient="row").with_columns(
            pl.from_epoch("timestamp", time_unit="us").dt.replace_time_zone("UTC")
        )
        target = self.folder / f"{path.name[1:].removesuffix('.over')}.parquet"
        if target.exists():
            frame = pl.concat([pl.read_parquet(target), frame], how="diagonal")
        if self._unique:
            frame = frame.unique(self._unique, keep="first", maintain_order=True)
        with atomic_file(target) as partial:
            frame.write_parquet(partial)
        path.unlink()

    def _raw_schema(self) -> dict[str, Any]:
        return self._schema | {"timestamp": pl.Int64}

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._hour, self._file = "", -1

    def _lines(self, hour: str) -> Path:
        return self.folder / f".{hour}.jsonl"

    def _now(self) -> str:
        """The current hour's name; a clock that jumps back goes on writing an older hour, and seals it later."""
        hours = int(self._clock() // 3600)
        if hours != self._named[0]:
            self._named = hours, datetime.fromtimestamp(3600 * hours, UTC).strftime("%Y-%m-%dT%H")
        return self._named[1]


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A row; None for a line that was cut off."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
