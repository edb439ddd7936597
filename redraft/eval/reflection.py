"""How well a model knows its own drafts: accuracy, calibration and confusion of the reflection labels. Pure functions.

Arrays hold the top drafts of U users, best first.
"""

import numpy as np

from redraft.records import BoolArray, FloatArray, IntArray

__all__ = ["accuracy", "calibration_error", "commonest", "confusion", "label_shares", "outcomes", "reliability"]


def accuracy(predicted: IntArray, actual: IntArray, k: int) -> float:
    """Share of right labels over the top-k drafts of [U, R] (paper section 5.2, Acc@K)."""
    return float((predicted[:, :k] == actual[:, :k]).mean())


def commonest(actual: IntArray, k: int) -> float:
    """What `accuracy` would be for always saying the label that is commonest among the top-k drafts of [U, R]."""
    return float(np.bincount(actual[:, :k].ravel()).max() / actual[:, :k].size)


def label_shares(actual: IntArray, n_labels: int) -> FloatArray:
    """float64 [n_labels]: how often each label occurs."""
    counts: FloatArray = np.bincount(actual.ravel(), minlength=n_labels) / actual.size
    return counts


def reliability(confidence: FloatArray, right: IntArray, n_bins: int = 10) -> dict[str, FloatArray]:
    """Equal-width bins of confidence: {"share", "confidence", "accuracy"}, each float64 [n_bins], NaN where empty."""
    bins = np.minimum((confidence.ravel() * n_bins).astype(np.int64), n_bins - 1)
    counts = np.bincount(bins, minlength=n_bins)
    with np.errstate(invalid="ignore"):
        return {
            "share": counts / bins.size,
            "confidence": np.bincount(bins, confidence.ravel(), n_bins) / counts,
            "accuracy": np.bincount(bins, right.ravel(), n_bins) / counts,
        }


def calibration_error(confidence: FloatArray, right: IntArray, n_bins: int = 10) -> float:
    """Expected calibration error: the gap between confidence and accuracy, averaged over bins by their share."""
    bins = reliability(confidence, right, n_bins)
    return float(np.nansum(bins["share"] * np.abs(bins["confidence"] - bins["accuracy"])))


def confusion(predicted: IntArray, actual: IntArray, n_labels: int) -> IntArray:
    """int64 [n_labels, n_labels]: how often a label (row) was taken for another (column)."""
    return np.bincount(actual.ravel() * n_labels + predicted.ravel(), minlength=n_labels**2).reshape(n_labels, n_labels)


def outcomes(before: IntArray, after: IntArray, settled: BoolArray, sent: BoolArray) -> dict[str, float]:
    """What became of drafts [U, R], as shares of all of them.

    before, after: how many codes were right before the first wrong one, in the draft and in its best correction; after
    is -1 where no correction survived. settled: held to be right. sent: corrected. A correction that survived improves
    or harms its draft if more or fewer codes are right.
    """
    survived = sent & (after >= 0)
    shares = {
        "settled": settled,
        "corrected": sent,
        "survived": survived,
        "improved": survived & (after > before),
        "harmed": survived & (after < before),
    }
    return {name: float(share.mean()) for name, share in shares.items()}
