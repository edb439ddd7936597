"""Imports by the names of their flags, as the command line has them."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from redraft.data.account import Account
from redraft.data.importer import ImportConfig, Kind, import_dataset
from redraft.data.raw import Columns
from redraft.records import Dataset

NAMES = [field.name for field in fields(Columns)]


def imported(kind: Kind, src: Path, dst: Path, **options: Any) -> tuple[Dataset, Account]:
    columns = Columns(**{name: options.pop(name) for name in NAMES if name in options})
    return import_dataset(ImportConfig(kind, src, dst, columns=columns, replace=True, **options))
