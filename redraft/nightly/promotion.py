"""How a new model takes over: in a running service by its API, and for whatever starts later by one link."""

import json
import os
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from redraft.files import partial_of, write_failures_named
from redraft.nightly.night import CURRENT, Night
from redraft.records import InputError

__all__ = ["check_service", "promote"]

MODELS = "/v1/admin/models"
SECONDS = 600.0


def check_service(service: str | None, key: Path | None) -> None:
    """Raise InputError for half of an address and a key, for what is no address, and for a file that holds no key."""
    if (service is None) != (key is None):
        raise InputError(
            "a service is told of the model by its address and an admin key; give both --service and --key"
        )
    if service is not None and (urlsplit(service).scheme not in ("http", "https") or not urlsplit(service).netloc):
        raise InputError(f"--service {service}: not an address; write http://127.0.0.1:8000")
    if key is not None:
        _read_key(key)


def promote(night: Night, service: str | None, key: Path | None) -> dict[str, Any]:
    """Let a service answer by the run of a night, if its address and a key are given, and runs/current lead to it.

    runs/current/data leads to the data set that goes with it.

    Raises InputError, and leaves runs/current as it is, if the service cannot be reached or refuses.
    """
    if service is not None and key is not None:
        _replace_in(service, key, night.run)
    _link(night.run / "data", os.path.relpath(night.data, night.run))
    _link(night.run.with_name(CURRENT), night.name)
    return {"promoted": True}


def _replace_in(service: str, key: Path, run: Path) -> None:
    """Nothing is done if the service answers by the run already, so that a roll-back would lead to another."""
    secret = _read_key(key)
    if _asked(service, MODELS, secret)["current"]["run"] == run.name:
        return
    staged = _asked(service, MODELS, secret, {"run": run.name})["staged"]
    _asked(service, f"{MODELS}/promote", secret, {"fingerprint": staged["fingerprint"]})


def _link(link: Path, target: str) -> None:
    """Let a link lead elsewhere from one moment to the next."""
    with write_failures_named(link):
        partial = partial_of(link)
        partial.unlink(missing_ok=True)
        partial.symlink_to(target)
        os.replace(partial, link)


def _read_key(path: Path) -> str:
    try:
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); give a file that holds the admin key") from None
    if not key or not key.isprintable() or not key.isascii():
        raise InputError(f"{path}: holds no key; write the admin key into it, and nothing else")
    return key


def _asked(service: str, route: str, key: str, body: dict[str, Any] | None = None) -> Any:
    address = service.rstrip("/") + route
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(Request(address, data, headers), timeout=SECONDS) as answer:
            return json.load(answer)
    except HTTPError as error:
        raise InputError(f"{address}: {error.code}, {_message(error)}; the same command tries again") from None
    except (URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise InputError(f"{address}: no answer ({reason}); start the service, the same command tries again") from None


def _message(error: HTTPError) -> str:
    try:
        return str(json.load(error)["message"])
    except (ValueError, KeyError, TypeError):
        return str(error.reason)
