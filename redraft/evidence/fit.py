"""Fit a listwise reflection to drafts whose targets are known: learnt on one part of the users, chosen on the other."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F

from redraft.evidence.kinds import Case, Known, read_kinds
from redraft.evidence.reflection import PARTS, ListReflection, Shape, implied_labels, mixed, parts_of
from redraft.model.slots import Case as LabelCase
from redraft.model.slots import first_wrong_code, same_attributes
from redraft.optim import Best, cosine, descend, set_learning_rate
from redraft.records import InputError, IntArray

__all__ = ["FitSettings", "Sheet", "best_mixture", "draft_ranks", "fit", "surely_better"]

GRID = 10


@dataclass(frozen=True)
class FitSettings:
    """How a reflection is fitted."""

    hidden: int = 64
    """Width of its layers."""
    dropout: float = 0.1
    """Dropout on what it understands of each draft."""
    epochs: int = 30
    """Passes over the users, at most."""
    patience: int = 4
    """Epochs without a better choice before it ends."""
    batch_size: int = 256
    """Users per step."""
    learning_rate: float = 2e-3
    """Of AdamW; a cosine takes it to 2 % of that."""
    weight_decay: float = 0.01
    """AdamW's weight decay."""
    labelled: int = 20
    """Drafts of a user, the generator's best, whose labels are learnt."""
    label_weight: float = 0.1
    """Weight of a label's loss beside the listwise loss (Eq. 10)."""
    chosen_on: float = 0.2
    """Share of the users on whom the mixture and the epoch are chosen."""
    seed: int = 0
    """Seed of the users' parts, weights, order and dropout."""


class Sheet(NamedTuple):
    """Cases made ready: evidence columns [U, R, C], parts [U, R, 4], items [U, R], and targets int64 [U]."""

    columns: torch.Tensor
    parts: torch.Tensor
    items: torch.Tensor
    targets: torch.Tensor

    @classmethod
    def of(cls, kinds: Sequence[str], case: Case, targets: IntArray, known: Known, *, at_once: int = 512) -> Self:
        """Read the evidence of a case for the targets [U]."""
        rows = [Case(*(x[start : start + at_once] for x in case)) for start in range(0, len(case.items), at_once)]
        columns = torch.cat([read_kinds(kinds, each, known) for each in rows])
        parts = torch.cat([parts_of(each, known) for each in rows])
        return cls(columns, parts, case.items, torch.from_numpy(np.asarray(targets, dtype=np.int64)))

    def take(self, users: torch.Tensor) -> Self:
        """Some of the users."""
        return type(self)(*(part[users] for part in self))

    @property
    def position(self) -> torch.Tensor:
        """int64 [U]: where the target stands among the drafts, R where it does not."""
        hit = self.items == self.targets[:, None]
        return torch.where(hit.any(dim=1), hit.byte().argmax(dim=1), self.items.shape[1])


def draft_ranks(scores: torch.Tensor, position: torch.Tensor) -> IntArray:
    """int64 [U]: the targets' ranks from 1 by scores [U, R] of the drafts, equal ones in their order; -1 for R."""
    listed = position < scores.shape[1]
    at = position.clamp(max=scores.shape[1] - 1)[:, None]
    own = scores.gather(1, at)
    before = (scores > own) | ((scores == own) & (torch.arange(scores.shape[1]) < at))
    return torch.where(listed, 1 + before.sum(dim=1), -1).numpy()


def best_mixture(sheet: Sheet, parts: Sequence[str] = PARTS) -> torch.Tensor:
    """The weights [4] in tenths, of the given parts alone, with the best NDCG@10 of all mixtures on a sheet.

    The generator alone, unless another is better by more than chance.
    """
    position, allowed = sheet.position, [name in parts for name in PARTS]
    hits = torch.nonzero(position < sheet.items.shape[1])[:, 0]
    alone = torch.eye(len(PARTS))[0]

    def gains(weights: torch.Tensor) -> torch.Tensor:
        gained = torch.zeros(len(position), dtype=torch.float64)
        ranks = torch.from_numpy(draft_ranks(sheet.parts[hits] @ weights, position[hits]))
        gained[hits] = torch.where(ranks <= 10, 1 / (1.0 + ranks.double()).log2(), 0.0)
        return gained

    grid = [w for w in product(range(GRID + 1), repeat=len(PARTS)) if sum(w) == GRID]
    grid = [w for w in grid if all(ok or not n for ok, n in zip(allowed, w)) and w[0] > 0]
    tried = {w: gains(torch.tensor(w) / GRID) for w in grid}
    best = max(grid, key=lambda w: (float(tried[w].mean()), w))
    return torch.tensor(best) / GRID if surely_better(tried[best], gains(alone)) else alone


def surely_better(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether the mean of a exceeds that of b, [U] each and paired, by more than three standard errors.

    Three, because a is the best of many that were tried.
    """
    difference = (a - b).double()
    return bool(difference.mean() > 3 * difference.std() / len(difference) ** 0.5)


def fit(
    sheet: Sheet,
    known: Known,
    settings: FitSettings,
    parts: Sequence[str] = PARTS,
    *,
    log: Callable[[dict[str, float]], None] = lambda line: None,
) -> ListReflection:
    """A reflection fitted to the sheet of a case; parts: those of the mixture that it starts from.

    The weights with the best listwise NLL on the users chosen on; the mixture alone if the order of the drafts is not
    better by more than chance.
    Raises InputError for fewer users than can be split, and for a loss that stops being finite.
    """
    n_users = len(sheet.items)
    n_chosen = int(n_users * settings.chosen_on)
    if n_chosen < 2 or n_users - n_chosen < 2:
        raise InputError(f"{n_users} users are too few to learn on some and choose on others; give more")
    torch.manual_seed(settings.seed)
    order = torch.from_numpy(np.random.default_rng(settings.seed).permutation(n_users))
    chosen, learnt = sheet.take(order[:n_chosen]), sheet.take(order[n_chosen:])
    n_levels, n_attributes = known.codes.shape[1], known.attributes.shape[1]
    model = ListReflection(Shape(sheet.columns.shape[2], n_levels, n_attributes, settings.hidden, settings.dropout))
    _start(model, learnt, known, settings, best_mixture(learnt, parts))
    optimizer = torch.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    start, first = order_nll(model, chosen), copy.deepcopy(model.state_dict())
    best = Best(model, -float(list_nll(model, chosen).mean()))
    step, n_steps = 0, settings.epochs * -(-len(learnt.items) // settings.batch_size)
    for epoch in range(settings.epochs):
        model.train()
        losses = []
        for users in torch.randperm(len(learnt.items)).split(settings.batch_size):
            set_learning_rate(optimizer, settings.learning_rate * cosine(step, n_steps))
            loss = _loss(model, learnt.take(users), known, settings)
            descend(loss, model, optimizer, 1.0, epoch + 1)
            losses.append(loss.item())
            step += 1
        nll = float(list_nll(model, chosen).mean())
        log({"epoch": epoch + 1, "loss": float(np.mean(losses)), "chosen_nll": nll})
        best.offer(-nll)
        if best.since >= settings.patience:
            break
    best.restore()
    if not surely_better(start, order_nll(model, chosen)):
        model.load_state_dict(first)
    return model.eval()


@torch.inference_mode()
def list_nll(model: ListReflection, sheet: Sheet, at_once: int = 1024) -> torch.Tensor:
    """The negative log-likelihood [U] of each user's right draft, or of none of them."""
    model.eval()
    losses = []
    for users in torch.arange(len(sheet.items)).split(at_once):
        part = sheet.take(users)
        right, _ = model(part.columns, mixed(part.parts, model.weights), part.items >= 0)
        losses.append(-right.gather(1, part.position[:, None])[:, 0])
    return torch.cat(losses)


@torch.inference_mode()
def order_nll(model: ListReflection, sheet: Sheet) -> torch.Tensor:
    """The negative log-likelihood of the right draft among the drafts, of the users who have one."""
    hits = sheet.take(torch.nonzero(sheet.position < sheet.items.shape[1])[:, 0])
    model.eval()
    right, _ = model(hits.columns, mixed(hits.parts, model.weights), hits.items >= 0)
    return -right[:, :-1].log_softmax(dim=1).gather(1, hits.position[:, None])[:, 0]


def _start(model: ListReflection, sheet: Sheet, known: Known, settings: FitSettings, weights: torch.Tensor) -> None:
    """What is counted, not learnt: the columns' spread, the mixture, and the labels of lists without the target."""
    real = sheet.items >= 0
    columns = sheet.columns[real]
    model.mean.copy_(columns.mean(dim=0))
    model.spread.copy_(columns.std(dim=0).clamp(min=1e-3))
    model.weights.copy_(weights)
    without = sheet.take(torch.nonzero(sheet.position == sheet.items.shape[1])[:, 0])
    location, match, drafted = _labels(without, known, settings.labelled)
    if len(location):
        shares = torch.bincount(location[drafted], minlength=len(model.none_location)) + 1.0
        model.none_location.copy_(shares / shares.sum())
        right = match[drafted].float().mean(dim=0)
        model.none_match.copy_(torch.stack([1 - right, right], dim=-1))


def _labels(sheet: Sheet, known: Known, n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The true location [U, n] and matches [U, n, K] of the first n drafts, and where there are drafts."""
    drafts = sheet.items[:, :n]
    targets = sheet.targets[:, None].expand_as(drafts)
    case = LabelCase(drafts.clamp(min=0), targets, drafts[..., None], known.codes, known.attributes)
    return first_wrong_code(case), same_attributes(case), drafts >= 0


def _loss(model: ListReflection, sheet: Sheet, known: Known, settings: FitSettings) -> torch.Tensor:
    """The listwise loss, and Eq. 10's losses of the labels, each a mean over users."""
    right, states = model(sheet.columns, mixed(sheet.parts, model.weights), sheet.items >= 0)
    listwise = -right.gather(1, sheet.position[:, None]).mean()
    location, match, drafted = _labels(sheet, known, settings.labelled)
    implied = implied_labels(right.detach(), sheet.items, sheet.items[:, : settings.labelled], known, model.elsewhere)
    said = model.labels(states[:, : settings.labelled], implied)
    labels = [(said[0], location), *((said[1][:, :, k], match[..., k]) for k in range(match.shape[2]))]
    losses = [F.cross_entropy(logits[drafted], true[drafted], reduction="sum") for logits, true in labels]
    return listwise + settings.label_weight * sum(losses) / drafted.sum().clamp(min=1)
