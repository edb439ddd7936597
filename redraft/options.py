"""Options: those that cannot be meant are refused, and defaults that are too large for a catalogue shrink."""

from collections.abc import Iterable
from dataclasses import MISSING, fields, replace
from numbers import Integral, Real
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from redraft.records import MAX_COUNT, MAX_SEED, InputError, check_between, check_least

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["check_counts", "check_unread", "fits", "fitted"]

Config = TypeVar("Config", bound="DataclassInstance")


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


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of the type that a field says."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return fits(value, parts[0])
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in parts)
    if origin is Literal:
        return isinstance(value, str | int) and value in parts
    if origin is tuple:
        kinds = [parts[0]] * len(value) if isinstance(value, tuple) and parts[-1] is Ellipsis else parts
        return isinstance(value, tuple) and len(value) == len(kinds) and all(map(fits, value, kinds))
    if hint in (int, float):
        return isinstance(value, Integral if hint is int else Real) and not isinstance(value, bool)
    return hint is Any or not isinstance(hint, type) or isinstance(value, hint)


def check_counts(config: "DataclassInstance") -> None:
    """Raise InputError for the first number of a config, by itself or in a tuple, that can be no size and no seed.

    Whole numbers must be >= 1, seeds and others >= 0.
    """
    for field in fields(config):
        value: Any = getattr(config, field.name)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float):
                check_least(0, **{field.name: number})
            elif isinstance(number, int) and not isinstance(number, bool):
                least, most = (0, MAX_SEED) if field.name in ("seed", "seeds") else (1, MAX_COUNT)
                check_between(least, most, **{field.name: number})


def fitted(config: Config, n: int, name: str, what: str = "items") -> Config:
    """A config whose default for a field is lowered to the n items (or `what` else) there are, where it exceeds them.

    Raises InputError, naming the flag, for a value above n that is not the default.
    """
    value = getattr(config, name)
    if value <= n:
        return config
    if value != type(config).__dataclass_fields__[name].default:
        raise InputError(f"--{name.replace('_', '-')} {value}: there are only {n} {what}; it must be <= {n}")
    return replace(config, **{name: n})
