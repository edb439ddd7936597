import numpy as np
import pytest

from redraft.eval.reflection import accuracy, calibration_error, commonest, confusion, label_shares, reliability

ACTUAL = np.array([[0, 0, 1, 4], [0, 2, 0, 0]])
PREDICTED = np.array([[0, 1, 1, 0], [0, 2, 1, 0]])


def test_accuracy_stands_beside_always_saying_the_commonest() -> None:
    """Of the top 2 drafts of both users, 0 0 and 0 2, three are predicted and three say 0."""
    assert accuracy(PREDICTED, ACTUAL, 2) == 0.75
    assert commonest(ACTUAL, 2) == 0.75
    assert accuracy(PREDICTED, ACTUAL, 4) == 5 / 8
    assert commonest(ACTUAL, 4) == 5 / 8


def test_shares_and_confusion_count_every_label() -> None:
    assert label_shares(ACTUAL, 5).tolist() == [5 / 8, 1 / 8, 1 / 8, 0, 1 / 8]
    table = confusion(PREDICTED, ACTUAL, 5)
    assert table.sum() == 8
    assert table[0].tolist() == [3, 2, 0, 0, 0]
    assert table[4].tolist() == [1, 0, 0, 0, 0]


def test_calibration_by_hand() -> None:
    """Two bins: (0.1, 0.3), none right, a gap of 0.2; (0.6, 0.9, 1.0), all right, mean 0.8333, a gap of 0.1667."""
    confidence, right = np.array([0.1, 0.3, 0.6, 0.9, 1.0]), np.array([0, 0, 1, 1, 1])
    assert calibration_error(confidence, right, n_bins=2) == pytest.approx(0.4 * 0.2 + 0.6 * (1 - 2.5 / 3))
    bins = reliability(confidence, right, n_bins=4)
    assert bins["share"].tolist() == pytest.approx([0.2, 0.2, 0.2, 0.4])
    assert bins["accuracy"].tolist() == [0, 0, 1, 1]
    assert np.isnan(reliability(np.array([0.1]), np.array([1]))["accuracy"][5])


def test_a_calibrated_forecaster_has_no_error() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.random(200_000)
    assert calibration_error(confidence, rng.random(200_000) < confidence) < 0.005
