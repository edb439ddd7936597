import pytest
import torch

from redraft.train.step import set_learning_rate


def test_the_learning_rate_warms_up_then_falls_to_two_percent() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    rates = []
    for step in range(401):
        set_learning_rate(optimizer, 0.5, step, 400)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(0.05, rel=0.01)
    assert max(rates) == rates[9]
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[400] == pytest.approx(0.01)
    set_learning_rate(optimizer, 0.5, 0, 1)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5)
