"""A small crowd of the generated shop, for experiments in the process."""

from functools import cache

from redraft.data.shop import Shop, generate_shop
from redraft.experiment.customers.people import Behaviour, Customers, draw_prices
from redraft.experiment.customers.worlds import World, by_taste, live

__all__ = ["DAYS", "N_ITEMS", "crowd", "shop", "world"]

DAYS, N_ITEMS, K = 10, 100, 8


@cache
def shop(users: int) -> Shop:
    return generate_shop(users, N_ITEMS, 0)


def crowd(users: int = 4000, seed: int = 3, **behaviour: float) -> Customers:
    made = shop(users)
    prices = draw_prices(N_ITEMS, 0)
    return Customers(made.process, made.dataset.interactions, prices, seed, Behaviour(**behaviour))


@cache
def world(noise: float, users: int = 4000, days: int = DAYS) -> World:
    """All customers before a server that knows their moods apart from so much noise."""
    customers = crowd(users)
    return live(customers, range(days), by_taste(customers, K, noise, 5))
