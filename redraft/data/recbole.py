"""RecBole's atomic files: NAME.inter and, where there is one, NAME.item; tab-separated, with typed headers."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from redraft.data.raw import RawData, TimeUnit, check_column, item_table, locate_in, locate_line, to_microseconds
from redraft.records import InputError

__all__ = ["read_recbole"]

TYPES = ("token", "token_seq", "float", "float_seq")


def read_recbole(
    src: Path,
    *,
    user: str = "user_id",
    item: str = "item_id",
    time: str | None = "timestamp",
    time_unit: TimeUnit = "s",
    title: str | None = None,
    description: str | None = None,
    attributes: Sequence[str] | None = None,
) -> RawData:
    """Read NAME.inter and NAME.item from a folder.

    user, item, time: column names without their type; time None keeps the order of the file. title, description: see
    `item_table`. attributes: columns of NAME.item, by default every other token and token_seq column; a sequence counts
    as one value.
    Raises InputError for a missing file or column, a header without types and a value that is not a time.
    """
    inter_path = _find(src)
    frame, _ = _read_atomic(inter_path)
    for option, name in [("user", user), ("item", item), ("time", time)]:
        if name is not None:
            check_column(frame.columns, name, inter_path, option)

    locate = locate_in(inter_path)
    events = frame.select(user=user, item=item)
    if time is not None:
        events = events.with_columns(to_microseconds(frame[time], time_unit, locate))
    item_path = inter_path.with_suffix(".item")
    if not item_path.exists():
        return RawData(inter_path, events, None, (), locate)
    item_frame, types = _read_atomic(item_path)
    if attributes is None:
        title = title or next((name for name in types if name.lower().endswith("title")), None)
        taken = (item, title, description, "description")
        attributes = [name for name, kind in types.items() if kind.startswith("token") and name not in taken]
    items = item_table(item_frame, item_path, item=item, title=title, description=description, attributes=attributes)
    return RawData(inter_path, events, items, tuple(attributes), locate)


def _find(src: Path) -> Path:
    found = sorted(src.glob("*.inter"))
    if len(found) != 1:
        raise InputError(f"{src}: {len(found)} files called NAME.inter; give the folder that holds exactly one")
    return found[0]


def _read_atomic(path: Path) -> tuple[pl.DataFrame, dict[str, str]]:
    """The rows as strings under the plain column names, and the type of each column."""
    try:
        frame = pl.read_csv(path, separator="\t", quote_char=None, infer_schema=False)
    except pl.exceptions.NoDataError:
        raise InputError(f"{path}: the file is empty; download or export it again") from None
    except pl.exceptions.PolarsError:
        raise InputError(locate_line(path, "\t")) from None
    types = {}
    for column in frame.columns:
        name, _, kind = column.rpartition(":")
        if kind not in TYPES or not name:
            raise InputError(
                f"{path}, line 1: {column!r} is not NAME:TYPE with a type of {', '.join(TYPES)}; mend the header"
            )
        if name in types:
            raise InputError(f"{path}, line 1: two columns are called {name!r}; rename one of them")
        types[name] = kind
    return frame.rename(lambda column: column.rpartition(":")[0]), types
