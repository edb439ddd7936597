import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redraft.data.shop import LEAVES, Shop, ShopConfig, generate_shop, load_oracle, main
from redraft.data.shop_process import SESSION_GAP, Oracle, ShopProcess, draw_process, simulate
from redraft.data.split import leave_one_out
from redraft.data.store import load_dataset, load_meta, save_dataset
from redraft.records import InputError, Interactions


@pytest.fixture(scope="module")
def shop() -> Shop:
    return generate_shop(300, 100, 4)


@pytest.fixture(scope="module")
def large() -> Shop:
    return generate_shop(17_000, 800, 0)


@pytest.fixture(scope="module")
def tiny() -> ShopProcess:
    """2 tastes, 2 interests, 4 leaves, 7 items: small enough to try every hidden path."""
    leaf, brand = np.array([0, 0, 1, 1, 2, 2, 3]), np.array([0, 1, 0, 1, 0, 1, 0])
    return draw_process(leaf, brand, np.array([0, 0, 1, 1]), np.random.default_rng(7), n_tastes=2)


def test_same_seed_gives_the_same_shop(shop: Shop):
    again, other = generate_shop(300, 100, 4), generate_shop(300, 100, 5)
    assert again.dataset.fingerprint == shop.dataset.fingerprint != other.dataset.fingerprint
    for name, table in vars(shop.process).items():
        np.testing.assert_array_equal(table, getattr(again.process, name))
    assert not np.array_equal(shop.process.interests, other.process.interests)


@pytest.mark.parametrize(("users", "items"), [(300, 100), (1, 60), (50, 2000)])
def test_a_shop_is_a_valid_data_set(users: int, items: int):
    dataset = generate_shop(users, items, 1).dataset
    events, catalogue = dataset.interactions, dataset.catalogue
    assert (events.n_users, catalogue.n_items) == (users, items)
    assert dataset.user_ids.n_unique() == users
    assert catalogue.ids.n_unique() == catalogue.titles.n_unique() == items
    assert catalogue.titles.str.len_chars().min() > 0 < catalogue.descriptions.str.len_chars().min()
    assert 5 <= events.lengths.min() <= events.lengths.max() <= 30
    assert 0 <= events.items.min() <= events.items.max() < items
    for user in range(users):
        assert len(set(events.history(user).tolist())) == events.lengths[user], "an item twice"
    for k, values in enumerate(catalogue.attribute_values):
        assert 0 <= catalogue.attributes[:, k].min() <= catalogue.attributes[:, k].max() < len(values)


def test_category_paths_form_a_tree_and_agree_with_texts_and_brands(shop: Shop):
    catalogue = shop.dataset.catalogue
    assert catalogue.attribute_names == ("category", "brand")
    parents: dict[str, set[str]] = {}
    for item in range(catalogue.n_items):
        category, brand = catalogue.attribute(item, 0), catalogue.attribute(item, 1)
        assert category is not None
        assert brand is not None
        department, middle, leaf = category.split(" > ")
        for child, parent in [(leaf, middle), (middle, department), (brand, department)]:
            parents.setdefault(child, set()).add(parent)
        assert catalogue.titles[item].startswith(brand)
        assert leaf.removesuffix("s") in catalogue.titles[item]
        assert leaf.removesuffix("s") in catalogue.descriptions[item]
    assert all(len(found) == 1 for found in parents.values())
    assert catalogue.attributes[:, 0].max() + 1 == LEAVES.height


def test_times_rise_and_show_the_sessions(large: Shop):
    events = large.dataset.interactions
    assert events.times is not None
    inside = np.ones(len(events.items), dtype=bool)
    inside[events.offsets[:-1]] = False
    gaps = np.diff(events.times, prepend=0)[inside]
    assert gaps.min() > 0
    assert not ((gaps > SESSION_GAP / 4) & (gaps < SESSION_GAP)).any()
    assert (gaps >= SESSION_GAP).mean() == pytest.approx(large.process.new_session, abs=0.005)


def brute_force(p: ShopProcess, history: list[int], starts: list[bool] | None) -> np.ndarray:
    """P(next item | history) by adding up every path of (session starts, taste, interest)."""
    S, G = p.interests.shape
    total = np.zeros(len(p.leaf))
    for path in itertools.product(itertools.product((True, False), range(S), range(G)), repeat=len(history) + 1):
        if starts is not None and any(start != told for (start, _, _), told in zip(path, starts)):
            continue
        weight = 1.0
        for t, (start, s, g) in enumerate(path):
            if t == 0:
                hidden = p.tastes[s] * p.interests[s, g] * start
            elif start:
                hidden = p.new_session * ((1 - p.drift) * (s == path[t - 1][1]) + p.drift * p.tastes[s])
                hidden *= p.interests[s, g]
            else:
                hidden = (1 - p.new_session) * (path[t - 1][1:] == (s, g))
            leaves = p.leaves[g]
            if not start and t > 0:
                leaves = (1 - p.goes_with) * leaves + p.goes_with * p.leaves_after[p.leaf[history[t - 1]]]
            items = leaves[p.leaf] * p.items[s]
            items[history[:t]] = 0
            items = weight * hidden * items / items.sum()
            if t == len(history):
                total += items
            else:
                weight = items[history[t]]
            if weight == 0:
                break
    return total / total.sum()


@settings(max_examples=15, deadline=None)
@given(
    history=st.lists(st.integers(0, 6), max_size=3, unique=True), told=st.lists(st.booleans(), min_size=3, max_size=3)
)
@pytest.mark.parametrize("timed", [False, True])
def test_oracle_is_the_sum_over_all_hidden_paths(tiny: ShopProcess, timed: bool, history: list[int], told: list[bool]):
    starts = [True, *told[1:]][: len(history)]
    times = np.cumsum(np.where(starts, SESSION_GAP, 60)) if timed else None
    packed = Interactions.from_lists([history])
    predicted = Oracle(tiny).predict(Interactions(packed.items, packed.offsets, times))[0]
    np.testing.assert_allclose(predicted, brute_force(tiny, history, starts if timed else None), rtol=1e-9, atol=0)


def test_first_items_follow_the_prediction_from_no_history(tiny: ShopProcess):
    users = 20_000
    drawn = simulate(tiny, np.ones(users, dtype=np.int64), np.random.default_rng(0)).items
    expected = Oracle(tiny).predict(Interactions.from_lists([[]]))[0] * users
    assert (np.abs(np.bincount(drawn, minlength=7) - expected) < 5 * np.sqrt(expected)).all()


def test_predictions_are_distributions_over_unseen_items(shop: Shop):
    histories = shop.dataset.interactions
    p = shop.oracle().predict(histories)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-9)
    seen = np.zeros(p.shape, dtype=bool)
    seen[np.repeat(np.arange(histories.n_users), histories.lengths), histories.items] = True
    assert (p[seen] == 0).all()
    assert (p[~seen] > 0).all()


def test_expected_recall_is_what_the_oracle_reaches_and_popularity_is_far_below(large: Shop):
    assert len(large.dataset.interactions.items) > 190_000
    users, test = 1500, leave_one_out(large.dataset.interactions).test
    histories, targets = test.histories.take(slice(0, users)), test.targets[:users, None]
    popularity = np.tile(np.bincount(test.histories.items, minlength=800), (users, 1))
    popularity[np.repeat(np.arange(users), histories.lengths), histories.items] = -1
    popular = np.argsort(-popularity, axis=1)
    ranked = large.oracle().recommend(histories, 50).items
    for k, expected in large.oracle().expected_recall(histories, [5, 10, 50]).items():
        realised = (ranked[:, :k] == targets).any(axis=1).mean()
        assert abs(realised - expected) < 4 * np.sqrt(expected * (1 - expected) / users)
        assert realised > 3 * (popular[:, :k] == targets).any(axis=1).mean()


def test_times_add_knowledge(shop: Shop):
    histories = shop.dataset.interactions
    order_only = Interactions(histories.items, histories.offsets)
    assert shop.oracle().expected_recall(histories, [10])[10] > shop.oracle().expected_recall(order_only, [10])[10]


def test_recommend_ranks_and_filters(tiny: ShopProcess):
    oracle, histories = Oracle(tiny), Interactions.from_lists([[0, 3], [], [5]])
    p = oracle.predict(histories)
    found = oracle.recommend(histories, 7)
    assert found.items[0].tolist() == [*np.argsort(-p[0])[:5], -1, -1]
    assert np.isneginf(found.scores[0, 5:]).all()
    np.testing.assert_allclose(found.scores[1], np.sort(p[1])[::-1], rtol=1e-6)
    assert sorted(oracle.recommend(histories, 7, filter_seen=False).items[0]) == list(range(7))
    allow = np.eye(3, 7, k=1, dtype=bool)
    assert oracle.recommend(histories, 2, allow=allow).items.tolist() == [[1, -1], [2, -1], [3, -1]]
    assert oracle.recommend(histories, 1, allow=allow[2]).items.tolist() == [[-1], [3], [3]]


def test_chunks_do_not_change_the_answer(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    histories = shop.dataset.interactions
    whole = shop.oracle().recommend(histories, 20)
    monkeypatch.setattr("redraft.data.shop_process.CELLS", 7000)
    parts = shop.oracle().recommend(histories, 20)
    np.testing.assert_array_equal(whole.items, parts.items)
    np.testing.assert_allclose(whole.scores, parts.scores, rtol=1e-5)


def test_histories_that_the_shop_never_makes_still_get_an_answer(tiny: ShopProcess):
    histories = Interactions.from_lists([list(range(7)), [2, 2, 2], [1, 0, 1]])
    found = Oracle(tiny).recommend(histories, 7)
    assert (found.items[0] == -1).all()
    np.testing.assert_allclose(found.scores[1][:6].sum(), 1, rtol=1e-6)
    assert sorted(found.items[2][:5]) == [2, 3, 4, 5, 6]


def test_saved_oracle_is_the_same(tiny: ShopProcess, tmp_path: Path):
    Oracle(tiny).save(tmp_path / "oracle")
    histories = Interactions.from_lists([[0, 3], [6]])
    np.testing.assert_array_equal(Oracle.load(tmp_path / "oracle").predict(histories), Oracle(tiny).predict(histories))


def test_command_writes_a_data_set_whose_oracle_can_be_rebuilt(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture
):
    main(ShopConfig(tmp_path / "shop", users=300, items=100, seed=4))
    assert "300 users, 100 items" in capsys.readouterr().out
    dataset = load_dataset(tmp_path / "shop")
    assert dataset.fingerprint == shop.dataset.fingerprint
    assert load_meta(tmp_path / "shop")["options"] == {"users": 300, "items": 100, "seed": 4}
    np.testing.assert_array_equal(
        load_oracle(tmp_path / "shop").predict(dataset.interactions), shop.oracle().predict(dataset.interactions)
    )


def test_only_an_unchanged_shop_has_an_oracle(shop: Shop, tmp_path: Path):
    save_dataset(shop.dataset, tmp_path / "logs", source="table")
    with pytest.raises(InputError, match="logs: read from table"):
        load_oracle(tmp_path / "logs")
    save_dataset(shop.dataset, tmp_path / "old", source="shop", options={"users": 300, "items": 100, "seed": 5})
    with pytest.raises(InputError, match="old: another version wrote this shop"):
        load_oracle(tmp_path / "old")


@pytest.mark.parametrize(
    ("users", "items", "seed", "message"),
    [(0, 100, 0, "users is 0"), (10, 59, 0, "items is 59"), (10, 100, -1, "seed is -1")],
)
def test_impossible_sizes_are_refused(users: int, items: int, seed: int, message: str):
    with pytest.raises(InputError, match=message):
        generate_shop(users, items, seed)


@pytest.mark.parametrize(("history", "k", "message"), [([7], 1, "item 7"), ([-1], 1, "item -1"), ([0], 8, "k is 8")])
def test_impossible_questions_are_refused(tiny: ShopProcess, history: list[int], k: int, message: str):
    with pytest.raises(InputError, match=message):
        Oracle(tiny).recommend(Interactions.from_lists([history]), k)
