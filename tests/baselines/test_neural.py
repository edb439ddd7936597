import pytest
from tiny import random_interactions, tiny_catalogue

from redraft import optim
from redraft.baselines.neural import Training
from redraft.baselines.sasrec import SASRec, SASRecSettings


def test_the_learning_rate_comes_down_where_rows_hold_more_targets_than_a_batch(monkeypatch: pytest.MonkeyPatch):
    asked = []

    def learning_rate(peak: float, step: int, n_steps: int) -> float:
        asked.append((step, n_steps))
        return peak

    monkeypatch.setattr(optim, "learning_rate", learning_rate)
    training = Training(epochs=3, batch_size=4)
    SASRec.fit(
        random_interactions([20] * 10, 30),
        tiny_catalogue(30),
        SASRecSettings(width=8, feed_forward=8, heads=1, layers=1, history=16, training=training),
    )
    assert asked == [(step, len(asked)) for step in range(len(asked))]
