"""Options that were given but would not be read: refused, because they were meant to change something."""

from collections.abc import Iterable
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING

from redraft.records import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["check_unread"]


def check_unread(config: "DataclassInstance", names: Iterable[str], reader: str) -> None:
    """Raise InputError for the first of these fields that is not at its default.

    reader: what goes on without them, for messages.
    """
    defaults = {
        field.name: field.default if field.default_factory is MISSING else field.default_factory()
        for field in fields(config)
    }
    for name in names:
        if getattr(config, name) != defaults[name]:
            raise InputError(f"--{name.replace('_', '-')}: {reader} does not read it; leave it out")
