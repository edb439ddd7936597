"""Recommenders that every table is compared with: one contract (`redraft.records.Recommender`), one file each."""

from redraft.baselines.itemknn import ItemKNN
from redraft.baselines.markov import Markov
from redraft.baselines.popularity import Popularity

__all__ = ["ItemKNN", "Markov", "Popularity"]
