"""Who may do what: API keys with scopes, compared in constant time."""

import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redraft.files import read_json
from redraft.records import InputError
from redraft.service.errors import ApiError

__all__ = ["KEYS_VARIABLE", "SCOPES", "Caller", "Keys", "load_keys"]

SCOPES = ("read", "write", "admin")
KEYS_VARIABLE = "REDRAFT_KEYS"
SHORTEST = 16


@dataclass(frozen=True)
class Caller:
    """Who asks. user: the only user whose data this caller reaches; None for a caller that speaks for the shop."""

    name: str
    scopes: frozenset[str]
    user: str | None = None

    def reaches(self, user: str) -> bool:
        """Whether this caller may see or change a user's data."""
        return self.user is None or self.user == user

    def speaks_for_the_shop(self) -> None:
        """Raise ApiError 403 for a user's own key."""
        if self.user is not None:
            raise ApiError(403, "forbidden", "this key is one user's own")


ANYBODY = Caller("anybody", frozenset({"read", "write"}))


class Keys:
    """Known keys, as digests. Without any, everybody may read and write, and nobody administers."""

    def __init__(self, callers: Mapping[str, Caller]):
        self._callers = [(hashlib.sha256(key.encode()).digest(), caller) for key, caller in callers.items()]

    def __bool__(self) -> bool:
        return bool(self._callers)

    def caller(self, key: str | None, scope: str) -> Caller:
        """Who holds a key; raises ApiError 401 for an unknown one and 403 for one without the scope."""
        if not self._callers and key is None:
            owner: Caller | None = ANYBODY
        else:
            given = hashlib.sha256((key or "").encode("utf-8", "surrogateescape")).digest()
            matches = [caller for digest, caller in self._callers if hmac.compare_digest(digest, given)]
            owner = matches[0] if matches else None
        if owner is None:
            message = "no such API key; send one as Authorization: Bearer KEY"
            raise ApiError(401, "unauthorized", message, headers={"WWW-Authenticate": "Bearer"})
        if scope not in owner.scopes:
            raise ApiError(403, "forbidden", f"this needs a key with the scope {scope}")
        return owner


def load_keys(path: Path | None) -> Keys:
    """Keys from a JSON file, or from the environment variable REDRAFT_KEYS: {"name": {"key": ..., "scopes": [...]}}.

    A key with "user" reaches that user alone. Raises InputError, without showing a key, for anything else.
    """
    if path is not None:
        return _parsed(read_json(path), str(path))
    text = os.environ.get(KEYS_VARIABLE)
    if not text:
        return Keys({})
    try:
        return _parsed(json.loads(text), KEYS_VARIABLE)
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{KEYS_VARIABLE}: not JSON; write {{NAME: {{key, scopes}}}}") from None


def _parsed(content: Any, source: str) -> Keys:
    if not isinstance(content, dict):
        raise InputError(f"{source}: not a JSON object; write {{NAME: {{key, scopes}}}}")
    callers: dict[str, Caller] = {}
    for name, about in content.items():
        if not isinstance(about, dict) or set(about) - {"key", "scopes", "user"} or not {"key", "scopes"} <= set(about):
            raise InputError(f"{source}: {name!r} needs key and scopes, may have user, and nothing else")
        key, scopes = about["key"], about["scopes"]
        if not isinstance(key, str) or len(key) < SHORTEST:
            raise InputError(f"{source}: the key of {name!r} has fewer than {SHORTEST} characters; make a longer one")
        if not isinstance(scopes, list) or not scopes or set(scopes) - set(SCOPES):
            raise InputError(f"{source}: the scopes of {name!r} must be some of {', '.join(SCOPES)}")
        if key in callers:
            raise InputError(f"{source}: {name!r} and {callers[key].name!r} share a key; give each its own")
        callers[key] = Caller(name, frozenset(scopes), about.get("user"))
    return Keys(callers)
