import pytest

from redraft.optim import learning_rate


def test_warm_up_then_a_cosine_to_two_percent() -> None:
    rates = [learning_rate(1e-3, step, 400) for step in range(400)]
    assert rates[0] == pytest.approx(1e-4)
    assert rates[:10] == sorted(rates[:10])
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[200] == pytest.approx(0.51e-3)
    assert rates[-1] == pytest.approx(2e-5, rel=0.01)
