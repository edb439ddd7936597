"""Ranking metrics, evaluation of a recommender on a holdout, and paired significance tests."""

from redraft.eval.evaluate import Evaluation, evaluate, save_ranks
from redraft.eval.metrics import KS, check_identity, ranking_metrics, ranks_of
from redraft.eval.significance import PairedTest, holm, paired_test

__all__ = [
    "KS",
    "Evaluation",
    "PairedTest",
    "check_identity",
    "evaluate",
    "holm",
    "paired_test",
    "ranking_metrics",
    "ranks_of",
    "save_ranks",
]
