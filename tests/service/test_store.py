"""One contract for all stores, on the real servers that `.ci/services` starts; without them those tests are skipped."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redraft.records import InputError
from redraft.service.store import Event, Limits, Store, StoredItem, StoredUser, StoreUnavailableError, open_store

SERVERS = {"redis": "REDRAFT_TEST_REDIS", "postgres": "REDRAFT_TEST_POSTGRES"}
Open = Callable[..., Store]


@pytest.fixture(params=["sqlite", "redis", "postgres"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the same empty store as often as it is called."""
    url, stores = f"sqlite:{tmp_path / 'store.sqlite'}", []
    if request.param in SERVERS:
        if SERVERS[request.param] not in os.environ:
            pytest.skip(f"no {SERVERS[request.param]}: run `source .ci/services` first")
        url = _emptied(request.param, os.environ[SERVERS[request.param]])

    def open_one(**limits: float) -> Store:
        stores.append(open_store(url, Limits(**limits)))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


def _emptied(kind: str, url: str) -> str:
    """An empty database of this test process's own."""
    number = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    if kind == "redis":
        import redis

        own = url.rpartition("/")[0] + f"/{number}"
        redis.Redis.from_url(own).flushdb()
        return own
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS test{number} CASCADE")
        connection.execute(f"CREATE SCHEMA test{number}")
    return f"{url}?options=-csearch_path%3Dtest{number}"


def event(number: int, time: int | None = None, user: str = "ann") -> Event:
    return Event(f"e{number}", user, f"item-{number}", "view", number if time is None else time)


def test_events_are_remembered_in_order_of_time_whatever_order_they_came_in(opened: Open) -> None:
    store = opened()
    assert store.history("ann") == []
    assert store.user("ann") is None
    assert store.add_events([event(3), event(1)]) == [True, True]
    assert store.add_events([event(2), event(7, user="bob"), event(4, time=1)]) == [True, True, True]
    assert store.history("ann") == [event(1), event(4, time=1), event(2), event(3)]
    assert store.history("bob") == [event(7, user="bob")]
    assert store.user("ann") == StoredUser()


def test_an_event_that_comes_twice_counts_once(opened: Open) -> None:
    store = opened()
    changed = event(1)._replace(item="other")
    assert store.add_events([event(1), event(1), changed]) == [True, False, False]
    assert store.add_events([changed, event(2)]) == [False, True]
    assert store.history("ann") == [event(1), event(2)]
    assert store.add_events([event(1, user="bob")]) == [True], "another user's event of the same id is another event"


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), max_size=25), st.data())
def test_histories_do_not_depend_on_order_or_repeats(opened: Open, pairs: list[tuple[int, int]], data) -> None:
    store = opened(events=4)
    user = f"user-{time.perf_counter_ns()}"
    events = [event(number, at, user) for number, at in dict(pairs).items()]
    sent = data.draw(st.permutations([*events, *events[:3]]))
    for one in sent:
        store.add_events([one])
    assert store.history(user) == sorted(events, key=lambda one: (one.time, one.id))[-4:]


def test_other_processes_see_what_was_written(opened: Open) -> None:
    one, other = opened(), opened()
    before = other.revision()
    one.add_events([event(1)])
    one.put_item(StoredItem("new", title="a new one"))
    assert other.history("ann") == [event(1)]
    assert other.items() == [StoredItem("new", title="a new one")]
    assert other.revision() > before


def test_a_user_is_put_found_and_erased(opened: Open) -> None:
    store = opened()
    for user in ("ann", "anna", "bob", "an\u00e9"):
        store.put_user(user, {"country": "de"})
    store.add_events([event(1), event(1, user="b\u00f6b")])
    assert store.user("ann") == StoredUser({"country": "de"})
    assert store.users("an", 9) == ["ann", "anna", "an\u00e9"]
    assert store.users("", 2) == ["ann", "anna"]
    store.erase_user("ann")
    store.erase_user("nobody")
    assert store.user("ann") == StoredUser({}, erased=True)
    assert store.history("ann") == []
    assert store.users("an", 9) == ["anna", "an\u00e9"]
    store.add_events([event(5)])
    assert store.history("ann") == [event(5)]
    assert store.user("ann") == StoredUser({}, erased=True)


def test_idle_users_are_forgotten_but_not_that_they_were_erased(opened: Open) -> None:
    store = opened(idle_days=2 / 86_400)
    store.put_user("ann", {"country": "de"})
    store.add_events([event(1)])
    store.erase_user("eve")
    store.put_user("eve", {"country": "de"})
    store.add_events([event(1, user="eve")])
    time.sleep(3.1)
    assert store.user("ann") is None
    assert store.history("ann") == []
    assert store.user("eve") == StoredUser({}, erased=True)
    assert store.history("eve") == []
    assert store.users("", 9) == []
    store.add_events([event(2)])
    assert store.history("ann") == [event(2)]
    assert store.user("ann") == StoredUser()


def test_items_keep_their_first_place(opened: Open) -> None:
    store = opened()
    first, second = StoredItem("b", title="x", attributes={"brand": "y"}), StoredItem("a", description="z")
    store.put_item(first)
    store.put_item(second)
    gone = StoredItem("b", available=False, removed=True)
    store.put_item(gone)
    assert store.items() == [gone, second]


@pytest.mark.parametrize(
    ("url", "error", "said"),
    [
        ("oracle:x", InputError, "'oracle'"),
        ("redis://127.0.0.1:1/0", StoreUnavailableError, "ConnectionError"),
        ("postgresql://nobody@127.0.0.1:1/x", StoreUnavailableError, "OperationalError"),
        ("sqlite:/dev/null/store.sqlite", StoreUnavailableError, "File exists"),
    ],
)
def test_a_store_that_cannot_be_opened_is_named(url: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        open_store(url, Limits())
