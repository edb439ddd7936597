"""What a model knows of its own drafts: the numbers and the pictures that `redraft bench correct` shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from redraft.bench.columns import Column
from redraft.eval.reflection import accuracy, calibration_error, commonest, confusion, label_shares, reliability
from redraft.records import BoolArray, FloatArray, IntArray, Slot

__all__ = ["REFLECTION_COLUMNS", "Observed", "confusion_table", "reflection_rows", "reliability_plot"]

TOP = 10
PLOT_WIDTH = 50
REFLECTION_COLUMNS = [
    Column("method", "method"),
    Column("label", "label"),
    Column("Acc@5 (commonest)", "accuracy@5", "{accuracy@5:.3f} ({commonest@5:.3f})"),
    Column("Acc@10 (commonest)", "accuracy@10", "{accuracy@10:.3f} ({commonest@10:.3f})"),
    Column("ECE", "calibration_error", ".3f"),
]


@dataclass(frozen=True)
class Observed:
    """What became of the drafts of U users.

    ranks: of the target in each list, "drafts" and one for each policy, int64 [U] each. location: int64 [U, R], how
    many codes of each draft are right before its first wrong one. labels: int64 [U, R, S], the true ones, and
    probabilities: of each slot's classes, float [U, R, C]; without reflection there are no slots. settled, sent: bool
    [U, R]. after: int64 [U, R], how many codes the best surviving correction of each draft gets right before its
    first wrong one, -1 where none survived.
    """

    ranks: dict[str, IntArray]
    location: IntArray
    labels: IntArray
    probabilities: tuple[FloatArray, ...]
    settled: BoolArray
    sent: BoolArray
    after: IntArray


def reflection_rows(name: str, observed: Observed, slots: Sequence[Slot]) -> list[dict[str, Any]]:
    """One row a label: accuracy over the top drafts beside the commonest label's, calibration, confusion."""
    rows = []
    for number, (slot, probabilities) in enumerate(zip(slots, observed.probabilities, strict=True)):
        actual, size = observed.labels[..., number], len(slot.classes)
        predicted, confidence = probabilities.argmax(-1), probabilities.max(-1)
        row: dict[str, Any] = {"method": name, "label": slot.name}
        for k in (5, 10):
            row |= {f"accuracy@{k}": accuracy(predicted, actual, k), f"commonest@{k}": commonest(actual, k)}
        top = confidence[:, :TOP], (predicted == actual)[:, :TOP]
        row["calibration_error"] = calibration_error(*top)
        row["reliability"] = {part: np.nan_to_num(bins).tolist() for part, bins in reliability(*top).items()}
        row["confusion@10"] = confusion(predicted[:, :TOP], actual[:, :TOP], size).tolist()
        row["shares@10"] = label_shares(actual[:, :TOP], size).tolist()
        rows.append(row)
    return rows


def reliability_plot(row: dict[str, Any]) -> Text:
    """Accuracy by confidence of one label, a line per bin: bars of what was right, `|` where it would be calibrated."""
    lines = [f"{row['method']}, {row['label']}: how often it is right (bar) when it is so sure (|)"]
    bins = zip(row["reliability"]["share"], row["reliability"]["confidence"], row["reliability"]["accuracy"])
    for share, confidence, right in bins:
        if share > 0:
            bar = list("\u2588" * round(right * PLOT_WIDTH) + " " * (PLOT_WIDTH + 1 - round(right * PLOT_WIDTH)))
            bar[round(confidence * PLOT_WIDTH)] = "|"
            lines.append(f"{confidence:6.1%} {''.join(bar)} {right:6.1%} right, {share:6.1%} of drafts")
    return Text("\n".join(lines))


def confusion_table(row: dict[str, Any]) -> Table:
    """How often each first wrong code was taken for another, among the top drafts, as shares of all of them."""
    counts = np.array(row["confusion@10"])
    names = [*(f"code {level}" for level in range(1, len(counts))), "none"]
    table = Table(
        "first wrong", *(f"said {name}" for name in names), title=f"{row['method']}: first wrong code, top {TOP}"
    )
    for name, shares in zip(names, counts / counts.sum()):
        table.add_row(name, *(f"{share:.1%}" for share in shares))
    return table
