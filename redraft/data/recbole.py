"""RecBole's atomic files: NAME.inter and, where there is one, NAME.item; tab-separated, with typed headers."""

from pathlib import Path

import polars as pl

from redraft.data.places import find_fault, locate_in
from redraft.data.raw import Columns, RawData, apart, check_column, event_table, item_table, only_file
from redraft.records import InputError

__all__ = ["read_recbole"]

TYPES = ("token", "token_seq", "float", "float_seq")


def read_recbole(src: Path, columns: Columns) -> RawData:
    """Read NAME.inter and NAME.item from a folder.

    columns: names without their type. Attributes are by default every other token and token_seq column of NAME.item; of
    a sequence, each common value is an attribute.
    Raises InputError for a missing file or column, a header without types and a value that is not a time.
    """
    inter_path = only_file(src, ".inter")
    frame, _ = _read_atomic(inter_path)
    used = columns.named()
    for option, name in used.items():
        check_column(frame.columns, name, inter_path, option)
    locate = locate_in(inter_path)
    events = event_table(frame.select(**used), columns, locate)
    item_path = inter_path.with_suffix(".item")
    if not item_path.exists():
        if columns.attributes or columns.title or columns.description:
            raise InputError(f"{item_path}: no such file, and title, description and attributes come from it; add it")
        return RawData(inter_path, events, None, (), locate)
    item_frame, types = _read_atomic(item_path)
    attributes = columns.attributes
    if attributes is None:
        title = columns.title or next((name for name in types if name.lower().endswith("title")), None)
        taken = (columns.item, title, columns.description, "description")
        attributes = tuple(name for name, kind in types.items() if kind.startswith("token") and name not in taken)
    several = columns.several or tuple(name for name in attributes if types.get(name) == "token_seq")
    items = item_table(item_frame, item_path, columns, attributes)
    items, attributes = apart(items, attributes, several, " +", item_path)
    return RawData(inter_path, events, items, attributes, locate)


def _read_atomic(path: Path) -> tuple[pl.DataFrame, dict[str, str]]:
    """The rows as strings under the plain column names, and the type of each column."""
    try:
        frame = pl.read_csv(path, separator="\t", quote_char=None, infer_schema=False)
    except pl.exceptions.NoDataError:
        raise InputError(f"{path}: the file is empty; download or export it again") from None
    except pl.exceptions.PolarsError:
        raise InputError(find_fault(path, "\t", quotes=False)) from None
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
