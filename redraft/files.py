"""Whole or not at all: everything we write goes to a temporary name first and is renamed when it is complete."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from polars.exceptions import PolarsError
from safetensors import SafetensorError

from redraft.records import InputError

__all__ = ["atomic_directory", "atomic_file", "read_json", "write_failures_named", "write_json"]


@contextmanager
def write_failures_named(path: Path) -> Iterator[None]:
    """Raise InputError, naming `path`, if the block cannot write, because the disk is full for example.

    The libraries that write for us name no file, and two of them raise errors of their own.
    """
    try:
        yield
    except (OSError, PolarsError, SafetensorError) as error:
        if not isinstance(error, OSError) and "os error" not in str(error):
            raise
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError(f"{path}: cannot be written ({reason}); free some space there or write elsewhere") from error


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block ends well, else remove it.

    Raises InputError as `write_failures_named`.
    """
    with write_failures_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
        try:
            partial.touch()
            mode = partial.stat().st_mode
            yield partial
            partial.chmod(mode)  # safetensors makes files that only their owner may read
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; rename it to `path` if the block ends well, else remove it.

    A folder that already stands at `path` is replaced. Raises InputError as `write_failures_named`.
    """
    with write_failures_named(path):
        partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
        old = path.with_name(f".{path.name}.old-{os.getpid()}")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            yield partial
            if path.exists():
                os.replace(path, old)
            os.replace(partial, path)
        finally:
            if old.exists() and not path.exists():
                os.replace(old, path)
            shutil.rmtree(partial, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write readable JSON, whole or not at all."""
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Parse a JSON file.

    Raises InputError, naming file and line, if it is missing, empty, not UTF-8 or not JSON.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}, line {line}: byte {error.object[error.start]:#04x} is not UTF-8; re-encode the file"
        ) from None
    if not text.strip():
        raise InputError(f"{path}: the file is empty; download or export it again")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}, line {error.lineno}: not JSON ({error.msg}); the file may be cut off: get it again"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); get the file again") from None
