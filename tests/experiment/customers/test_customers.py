"""Customers who answer: what they are promised to heed shows in what they do, and worlds can be compared."""

import numpy as np
import pytest
from worlds import N_ITEMS, crowd, shop, world

from redraft.baselines.popularity import Popularity
from redraft.data.shop_process import Oracle
from redraft.experiment.customers.people import Customers, Visits, draw_prices
from redraft.experiment.customers.worlds import ModelServer, by_taste, live, true_lifts

K = 6


def everyone(customers: Customers) -> np.ndarray:
    return np.arange(len(customers.taste))


def constant(customers: Customers, item: int) -> np.ndarray:
    return np.full((len(customers.taste), K), item)


def test_positions_are_looked_at_as_said() -> None:
    customers = crowd(500, attention=0.6)
    p_click, p_buy = customers.chances(everyone(customers), constant(customers, 3))
    np.testing.assert_allclose(p_click / p_click[:, :1], np.tile(np.arange(1, K + 1) ** -0.6, (500, 1)))
    assert (p_buy == p_buy[:, :1]).all()


def test_dear_items_are_clicked_and_bought_less() -> None:
    customers = crowd(500)
    cheap, dear = customers.prices.argmin(), customers.prices.argmax()
    before = [chance.mean() for chance in customers.chances(everyone(customers), constant(customers, dear))]
    customers.dear[dear] = customers.dear[cheap]
    after = [chance.mean() for chance in customers.chances(everyone(customers), constant(customers, dear))]
    assert after[0] > 1.5 * before[0]
    assert after[1] > 1.5 * before[1]


def test_what_was_shown_before_bores() -> None:
    customers = crowd(500)
    visits = Visits(everyone(customers), np.zeros(500))
    lists = np.tile(np.arange(K), (500, 1))
    fresh = customers.chances(visits.users, lists)[0]
    customers.answer(0, visits, lists)
    assert (customers.shown[:, :K] == 1).all()
    assert (customers.chances(visits.users, lists)[0][:, 1:] < fresh[:, 1:]).mean() > 0.9


def test_moods_drift() -> None:
    customers = crowd(2000)
    before = customers.taste.copy()
    visits = customers.come(0)
    changed = customers.taste[visits.users] != before[visits.users]
    assert changed.mean() == pytest.approx(0.09, abs=0.03)
    assert len(visits.users) == pytest.approx(500, abs=80)
    assert (np.diff(visits.seconds) >= 0).all()


def test_appeal_is_the_processes_probability() -> None:
    customers, users = crowd(20), np.arange(20)
    items = np.broadcast_to(np.arange(N_ITEMS), (20, N_ITEMS))
    np.testing.assert_allclose(np.exp(customers.appeal(users, items)).sum(axis=1), N_ITEMS, rtol=1e-6)


def test_tastes_are_those_of_the_histories() -> None:
    made = shop(500)
    belief = Oracle(made.process).posterior(made.dataset.interactions).sum(axis=2)
    np.testing.assert_allclose(belief.sum(axis=1), 1)
    draws = np.mean([belief[np.arange(500), crowd(500, seed=seed).taste].mean() for seed in range(5)])
    assert draws == pytest.approx((belief**2).sum(axis=1).mean(), abs=0.05)


def test_the_same_customers_come_whatever_they_saw() -> None:
    one, other = crowd(500), crowd(500)
    live(one, range(3), by_taste(one, K, 0.1, 1))
    live(other, range(3), by_taste(other, K, 5.0, 1))
    np.testing.assert_array_equal(one.come(3).users, other.come(3).users)
    np.testing.assert_array_equal(one.taste, other.taste)


def test_short_lists_have_no_clicks_where_they_end() -> None:
    customers = crowd(500)
    lists = np.tile([0, 1, -1], (500, 1))
    answers = customers.answer(0, Visits(everyone(customers), np.zeros(500)), lists)
    assert not answers.clicked[:, 2].any()
    assert not (answers.bought & ~answers.clicked).any()
    assert customers.shown.sum() == 1000


def test_worlds_add_up_and_better_lists_lift() -> None:
    good, bad = world(0.3, users=500), world(3.0, users=500)
    lists, items, clicks, gmv, revenue = good.daily.sum(axis=(0, 2))
    assert items == 8 * lists
    assert gmv == revenue
    assert clicks / items == pytest.approx(good.expected[0], rel=0.1)
    lifts = true_lifts(bad, good)
    assert min(lifts.values()) > 0.2
    assert set(true_lifts(good, good).values()) == {0.0}


def test_a_model_is_asked_with_what_was_clicked_and_bought() -> None:
    made, customers = shop(500), crowd(500)
    model = Popularity.fit(made.dataset.interactions, made.dataset.catalogue)
    server = ModelServer(model, made.dataset.interactions, K)
    seen: list[int] = []

    def tell(day: int, visits: Visits, lists: np.ndarray, answers) -> None:
        server.tell(day, visits, lists, answers)
        seen.append(int(answers.clicked.sum() + answers.bought.sum()))

    live(customers, range(2), server, tell)
    assert sum(map(len, server._histories)) == len(made.dataset.interactions.items) + sum(seen)


def test_prices_are_positive_and_drawn_by_seed() -> None:
    assert (draw_prices(50, 1) > 0).all()
    np.testing.assert_array_equal(draw_prices(50, 1), draw_prices(50, 1))
    assert (draw_prices(50, 1) != draw_prices(50, 2)).any()
