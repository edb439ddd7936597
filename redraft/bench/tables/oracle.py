"""What an ideal corrector makes of labels: the generator restricted to items that agree with them, without training.

With true labels it is the ceiling of any correction; with the model's own, what these are worth; with those of another
user's target, what is lost by believing wrong ones.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from redraft.bench.columns import Column, metric_columns
from redraft.eval.metrics import ranking_metrics, ranks_of
from redraft.evidence.recommender import ReflectingRecommender
from redraft.model.slots import Case, first_wrong_code, same_attributes
from redraft.recommender import GenerativeRecommender, SelfCorrectingRecommender
from redraft.records import Holdout, InputError, IntArray, Interactions, Recommender
from redraft.train.progress import progress_bar

__all__ = ["ORACLE_COLUMNS", "Told", "agreeing", "oracle_rows", "true_labels"]

SHARES = (0.1, 0.25, 0.5, 1.0)
K, USERS = 10, 64
ORACLE_COLUMNS = [
    Column("method", "method"),
    Column("seen", "seen"),
    Column("labels", "labels"),
    Column("of the drafts", "share", ".0%"),
    *metric_columns(("R@5", "R@10", "N@10")),
    Column("items that agree", "agreeing", ",.0f"),
]

Labels = tuple[torch.Tensor, torch.Tensor]
"""How many leading codes of drafts [U, R] are right, and which of their attributes are, [U, R, K]."""


class Told(NamedTuple):
    """Drafts int64 [U, R], -1 where there are fewer, and what is said of each; see Labels."""

    drafts: torch.Tensor
    location: torch.Tensor
    match: torch.Tensor


def true_labels(drafts: torch.Tensor, targets: torch.Tensor, codes: torch.Tensor, attributes: torch.Tensor) -> Labels:
    """The labels of drafts [U, R] when the targets are [U] or [U, R]; see redraft.model.slots."""
    case = Case(
        drafts.clamp(min=0), targets.reshape(len(drafts), -1).expand_as(drafts), drafts[..., None], codes, attributes
    )
    return first_wrong_code(case), same_attributes(case)


def agreeing(told: Told, codes: torch.Tensor, attributes: torch.Tensor, counts: Sequence[int]) -> list[torch.Tensor]:
    """bool [U, N] for each of some counts: which items would make all labels of so many drafts right.

    As `true_labels` says it for an item as the target, without a table of all pairs.
    """
    agree, after = torch.ones(len(told.drafts), len(codes), dtype=torch.bool), {}
    for at in range(max(counts)):
        drafts = told.drafts[:, at].clamp(min=0)
        right = (codes == codes[drafts][:, None]).byte().cumprod(dim=-1, dtype=torch.uint8).sum(dim=-1)
        match = (attributes == attributes[drafts][:, None]) & (attributes >= 0)
        same = (right == told.location[:, at, None]) & (match == told.match[:, at, None]).all(dim=-1)
        agree = agree & (same | (told.drafts[:, at, None] < 0))
        if at + 1 in counts:
            after[at + 1] = agree
    return [after[n] for n in counts]


def oracle_rows(name: str, model: Recommender, holdout: Holdout, *, filter_seen: bool) -> list[dict[str, Any]]:
    """A row for each kind of labels and share of the drafts that they are given for, beside the drafts.

    Users with whose labels no item agrees keep their drafts.
    Raises InputError for a model that writes no semantic IDs.
    """
    writer = model.writer if isinstance(model, ReflectingRecommender) else model
    if not isinstance(writer, GenerativeRecommender):
        raise InputError(f"{name}: writes no semantic IDs; give runs of generative recipes")
    writer = writer.drafts_alone() if isinstance(writer, SelfCorrectingRecommender) else writer
    codes, attributes = (x.cpu() for x in (writer.model.codes, writer.model.attributes))
    ranks: dict[tuple[str, float], list[IntArray]] = {}
    counts: dict[tuple[str, float], list[float]] = {}
    with progress_bar("correct", len(holdout.targets)) as advance:
        for start in range(0, len(holdout.targets), USERS):
            users = np.arange(start, min(start + USERS, len(holdout.targets)))
            histories, targets = holdout.histories.take(users), holdout.targets[users]
            drafts = torch.from_numpy(writer.recommend(histories, writer.beams, filter_seen=filter_seen).items)
            ranks.setdefault(("none", 0.0), []).append(ranks_of(drafts[:, :K].numpy(), targets))
            wanted, others = torch.from_numpy(targets), torch.from_numpy(np.roll(holdout.targets, 1)[users])
            told = {
                "true": Told(drafts, *true_labels(drafts, wanted, codes, attributes)),
                "another user's": Told(drafts, *true_labels(drafts, others, codes, attributes)),
            } | _own(model, histories, filter_seen)
            n_drafts = [max(1, round(share * drafts.shape[1])) for share in SHARES]
            for kind, labels in told.items():
                agreed = agreeing(labels, codes, attributes[:, : labels.match.shape[2]], n_drafts)
                for share, agree in zip(SHARES, agreed):
                    counts.setdefault((kind, share), []).append(float(agree.sum(dim=1).float().mean()))
                    allow = agree | ~agree.any(dim=1, keepdim=True)
                    items = writer.recommend(histories, K, filter_seen=filter_seen, allow=allow.numpy()).items
                    ranks.setdefault((kind, share), []).append(ranks_of(items, targets))
            advance(name, len(users))
    rows = []
    for (kind, share), each in ranks.items():
        about = {"agreeing": float(np.mean(counts[kind, share]))} if kind != "none" else {}
        metrics = ranking_metrics(np.concatenate(each), (5, 10))
        rows.append({"method": name, "labels": kind, "share": share, **about, **metrics})
    return rows


def _own(model: Recommender, histories: Interactions, filter_seen: bool) -> dict[str, Told]:
    """The most probable labels of its drafts by a model that reflects."""
    if isinstance(model, ReflectingRecommender):
        case = model.case(histories, 1, filter_seen=filter_seen).drafts
        said = model.judged(case, case.items.shape[1])
        return {"own": Told(case.items, said.location.argmax(dim=-1), said.match.argmax(dim=-1))}
    if not isinstance(model, SelfCorrectingRecommender) or not model.model.reflection:
        return {}
    [batch] = model.trajectories(histories, filter_seen=filter_seen)
    assert batch.reflection is not None, "the model reflects"
    labels = {kind.name: x.argmax(dim=-1).cpu() for kind, x in zip(model.model.kinds, batch.reflection.kinds)}
    location = labels["location"]
    return {"own": Told(batch.drafts.items.cpu(), location[..., 0], labels.get("match", location[..., :0]))}
