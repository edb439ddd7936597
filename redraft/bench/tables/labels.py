"""How well a reflection with evidence knows its drafts: beside base rates, and beside what its writer knew."""

from typing import Any

import numpy as np
import torch

from redraft.bench.columns import Column
from redraft.eval.reflection import accuracy, calibration_error, commonest
from redraft.evidence.kinds import Case
from redraft.evidence.recommender import ReflectingRecommender
from redraft.evidence.reflection import implied_labels
from redraft.model.slots import Case as LabelCase
from redraft.model.slots import first_wrong_code, same_attributes

__all__ = ["LABEL_COLUMNS", "label_rows"]

TOP, PART = 10, 512
LABEL_COLUMNS = [
    Column("label", "label"),
    Column("run", "run"),
    Column("NLL", "nll", ".4f"),
    Column("as the generator implies", "implied_nll", ".4f"),
    Column("as base rates imply", "base_nll", ".4f"),
    Column("accuracy (commonest)", "accuracy", "{accuracy:.4f} ({commonest:.4f})"),
    Column("ECE", "calibration_error", ".4f"),
]


def label_rows(model: ReflectingRecommender, case: Case, targets: torch.Tensor) -> list[dict[str, Any]]:
    """One row per label of each user's ten best drafts by the generator, and one for being right among those shown.

    base rates: the labels' shares among these very drafts, which nobody knows beforehand.
    """
    said: dict[str, list[torch.Tensor]] = {}
    for start in range(0, len(targets), PART):
        part = Case(*(x[start : start + PART] for x in case))
        for name, values in _part(model, part, targets[start : start + PART]).items():
            said.setdefault(name, []).append(values)
    names = ["location", *model.known.attribute_names]
    rows = [_row(name, *(torch.cat(said[f"{name} {what}"]) for what in ("true", "said", "implied"))) for name in names]
    shown, right = torch.cat(said["shown"]), torch.cat(said["right"])
    rows.append(
        {
            "label": f"right, of the {TOP} shown",
            "expected hits": float(shown.sum() / len(targets)),
            "hits": float(right.sum() / len(targets)),
            "calibration_error": calibration_error(shown.numpy(), right.numpy()),
        }
    )
    return rows


def _part(model: ReflectingRecommender, case: Case, targets: torch.Tensor) -> dict[str, torch.Tensor]:
    """The true labels, and log-probabilities of all, of the drafts [U, TOP] that are there, in one row."""
    known, said = model.known, model.judged(case, TOP)
    drafts = case.items[:, :TOP]
    there = drafts >= 0
    true = LabelCase(
        drafts.clamp(min=0), targets[:, None].expand_as(drafts), drafts[..., None], known.codes, known.attributes
    )
    none = (1 - case.log_probs.exp().sum(dim=1, keepdim=True)).clamp(min=1e-3).log()
    told_nothing = torch.cat([case.log_probs, none], dim=1).log_softmax(dim=1)
    implied = implied_labels(told_nothing, case.items, drafts, known, model.reflection.elsewhere)
    parts = {
        "location true": first_wrong_code(true)[there],
        "location said": said.location[there],
        "location implied": implied[0][there],
    }
    matches = same_attributes(true)[there]
    for at, name in enumerate(known.attribute_names):
        parts |= {
            f"{name} true": matches[:, at].long(),
            f"{name} said": said.match[:, :, at][there],
            f"{name} implied": implied[1][:, :, at][there],
        }
    best = said.right[:, :-1].topk(min(TOP, case.items.shape[1]), dim=1)
    hit = case.items.gather(1, best.indices) == targets[:, None]
    return parts | {"shown": best.values.exp().flatten(), "right": hit.long().flatten()}


def _row(name: str, true: torch.Tensor, said: torch.Tensor, implied: torch.Tensor) -> dict[str, Any]:
    shares = torch.bincount(true).double() / len(true)
    predicted = said.argmax(dim=1).numpy()[None]
    confidence = said.max(dim=1).values.exp().numpy()
    return {
        "label": name,
        "nll": float(-said.gather(1, true[:, None]).mean()),
        "implied_nll": float(-implied.gather(1, true[:, None]).mean()),
        "base_nll": float(-torch.special.xlogy(shares, shares).sum()),
        "accuracy": accuracy(predicted, true.numpy()[None], len(true)),
        "commonest": commonest(true.numpy()[None], len(true)),
        "calibration_error": calibration_error(confidence, (predicted[0] == true.numpy()).astype(np.int64)),
    }
