"""The store in Valkey or Redis; for writes that outlive the server it needs appendonly, with appendfsync always."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis

from redraft.service.store import Event, Limits, StoredItem, StoredUser, StoreUnavailableError, unavailable

__all__ = ["ValkeyStore"]

USER, EVENTS, TIMES, ERASED = "redraft:user:", "redraft:events:", "redraft:times:", "redraft:erased:"
USERS, ITEMS, PLACES, REVISION = "redraft:users", "redraft:items", "redraft:places", "redraft:revision"
HIGHEST = b"\xff"

# ARGV: events kept, seconds kept, then id, user, content, time of each event. Returns 1 for each new event.
ADD = f"""
local new = {{}}
local function touch(user)
    redis.call('HSETNX', '{USER}' .. user, 'attributes', '{{}}')
    redis.call('ZADD', '{USERS}', 0, user)
    for _, key in ipairs({{'{USER}', '{EVENTS}', '{TIMES}'}}) do redis.call('EXPIRE', key .. user, ARGV[2]) end
end
for at = 3, #ARGV, 4 do
    local id, user, content, time = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
    local events, times = '{EVENTS}' .. user, '{TIMES}' .. user
    local added = redis.call('HSETNX', events, id, content)
    new[#new + 1] = added
    if added == 1 then redis.call('ZADD', times, time, id) end
    local excess = redis.call('ZCARD', times) - tonumber(ARGV[1])
    if excess > 0 then
        for _, old in ipairs(redis.call('ZRANGE', times, 0, excess - 1)) do redis.call('HDEL', events, old) end
        redis.call('ZREMRANGEBYRANK', times, 0, excess - 1)
    end
    touch(user)
end
return new
"""


class ValkeyStore:
    """See redraft.service.store.Store. Every change is one script or transaction."""

    def __init__(self, url: str, limits: Limits):
        self._limits = limits
        with _answering():
            self._server: Any = _server(url)
            self._add = self._server.register_script(ADD)
            self._server.ping()

    def add_events(self, events: Sequence[Event]) -> list[bool]:
        """See Store."""
        words: list[Any] = [self._limits.events, self._limits.idle_seconds]
        for event in events:
            words += [event.id, event.user, json.dumps([event.item, event.kind, event.time]), event.time]
        with _answering():
            return [bool(one) for one in self._add(args=words)]

    def history(self, user: str) -> list[Event]:
        """See Store."""
        with _answering():
            order, content = self._together(
                lambda pipe: (pipe.zrange(TIMES + user, 0, -1), pipe.hgetall(EVENTS + user))
            )
        return [Event(id.decode(), user, *json.loads(content[id])) for id in order]

    def user(self, user: str) -> StoredUser | None:
        """See Store."""
        with _answering():
            attributes, erased = self._together(
                lambda pipe: (pipe.hget(USER + user, "attributes"), pipe.exists(ERASED + user))
            )
        if attributes is None and not erased:
            return None
        return StoredUser(json.loads(attributes or b"{}"), bool(erased))

    def put_user(self, user: str, attributes: dict[str, str]) -> None:
        """See Store."""

        def put(pipe: Any) -> None:
            pipe.hset(USER + user, "attributes", json.dumps(attributes))
            pipe.zadd(USERS, {user: 0})
            for key in (USER, EVENTS, TIMES):
                pipe.expire(key + user, self._limits.idle_seconds)

        with _answering():
            self._together(put)

    def erase_user(self, user: str) -> None:
        """See Store."""

        def erase(pipe: Any) -> None:
            pipe.delete(USER + user, EVENTS + user, TIMES + user)
            pipe.zrem(USERS, user)
            pipe.set(ERASED + user, 1)

        with _answering():
            self._together(erase)

    def users(self, prefix: str, limit: int) -> list[str]:
        """See Store. Those who were forgotten meanwhile leave the index when they are met."""
        first = prefix.encode()
        least, most, users = b"[" + first, b"[" + first + HIGHEST, list[str]()
        with _answering():
            while len(users) < limit:
                some = self._server.zrangebylex(USERS, least, most, 0, limit)
                if not some:
                    break
                known = [self._server.exists(USER.encode() + user) for user in some]
                users += [user.decode() for user, there in zip(some, known) if there]
                gone = [user for user, there in zip(some, known) if not there]
                if gone:
                    self._server.zrem(USERS, *gone)
                least = b"(" + some[-1]
        return users[:limit]

    def put_item(self, item: StoredItem) -> None:
        """See Store."""
        with _answering():
            place = self._server.incr(REVISION)

            def put(pipe: Any) -> None:
                pipe.hset(ITEMS, item.id, json.dumps(item.__dict__))
                pipe.zadd(PLACES, {item.id: place}, nx=True)
                pipe.incr(REVISION)

            self._together(put)

    def items(self) -> list[StoredItem]:
        """See Store."""
        with _answering():
            order, content = self._together(lambda pipe: (pipe.zrange(PLACES, 0, -1), pipe.hgetall(ITEMS)))
        return [StoredItem(**json.loads(content[id])) for id in order]

    def revision(self) -> int:
        """See Store."""
        with _answering():
            return int(self._server.get(REVISION) or 0)

    def close(self) -> None:
        """See Store."""
        self._server.close()

    def _together(self, commands: Callable[[Any], object]) -> list[Any]:
        """One transaction's answers."""
        pipe = self._server.pipeline(transaction=True)
        commands(pipe)
        answers: list[Any] = pipe.execute()
        return answers


def _server(url: str) -> Any:
    try:
        return redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=3)
    except ValueError as error:
        raise StoreUnavailableError(f"not an address ({error})") from None


@contextmanager
def _answering() -> Iterator[None]:
    with unavailable(redis.RedisError, OSError):
        yield
