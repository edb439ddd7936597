"""Listwise reflection: which of a user's drafts is right, or none, and what is wrong with each, given the evidence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from redraft.evidence.kinds import Case, Known

__all__ = ["PARTS", "ListReflection", "Said", "Shape", "implied_labels", "mixed", "parts_of"]

PARTS = ("generator", "head", "tower", "memory")
LEAST = 1e-9


class Said(NamedTuple):
    """right: log-probability [U, R + 1] that each draft is right, and last that none is; -inf where there is no draft.

    location: log-probabilities [U, S, L + 1] of how many leading codes of a draft are right. match: [U, S, K, 2] of
    whether each attribute is the target's. Of the S drafts that were asked for.
    """

    right: torch.Tensor
    location: torch.Tensor
    match: torch.Tensor


@dataclass(frozen=True)
class Shape:
    """n_columns: of the evidence. n_levels: codes of an item. n_attributes: K. hidden: width of the layers."""

    n_columns: int
    n_levels: int
    n_attributes: int
    hidden: int = 64
    dropout: float = 0.1


def parts_of(case: Case, known: Known) -> torch.Tensor:
    """Each model's probability of each draft, float32 [U, R, 4] in the order of PARTS; 0 where there is no draft.

    Models that score share out what the generator gives to all drafts; so does a memory that knows none of them.
    """
    covered = case.log_probs.exp().sum(dim=1, keepdim=True).clamp(max=1.0)
    said = [logits.masked_fill(~case.real, -torch.inf).softmax(dim=1) * covered for logits in (case.head, case.tower)]
    near, total = known.memory.read(case.history, case.items)
    share = (near / total.clamp(min=LEAST)).masked_fill(~case.real, 0.0)
    remembered = torch.where(share.sum(dim=1, keepdim=True) > 0, share, case.log_probs.exp())
    return torch.stack([case.log_probs.exp(), *said, remembered], dim=-1).masked_fill(~case.real[..., None], 0.0)


def mixed(parts: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Log-probabilities [U, R + 1] of a mixture of parts [U, R, P] by weights [P], and last of none of the drafts."""
    each = parts @ weights
    none = (1.0 - each.sum(dim=1, keepdim=True)).clamp(min=1e-3)
    return torch.cat([each, none], dim=1).clamp(min=LEAST).log()


def implied_labels(
    right: torch.Tensor,
    items: torch.Tensor,
    drafts: torch.Tensor,
    known: Known,
    none: "tuple[torch.Tensor, torch.Tensor]",
) -> tuple[torch.Tensor, torch.Tensor]:
    """What probabilities of being right imply for the labels of drafts: log-probabilities [U, S, L + 1], [U, S, K, 2].

    right: log-probabilities [U, R + 1] of the drafts, items [U, R], and of none of them. drafts: items [U, S], -1 for
    none. none: the labels' shares [L + 1] and [K, 2] where the target is no draft.
    """
    p = right.exp()
    real = (items >= 0)[:, None]
    mine, others = known.codes[drafts.clamp(min=0)], known.codes[items.clamp(min=0)]
    same = real.expand(-1, drafts.shape[1], -1)
    reached = [p[:, :-1].sum(dim=1, keepdim=True).expand_as(drafts)]
    for level in range(known.codes.shape[1]):
        same = same & (mine[:, :, None, level] == others[:, None, :, level])
        reached.append(torch.einsum("usr,ur->us", same.float(), p[:, :-1]))
    reached.append(torch.zeros_like(reached[0]))
    there = torch.stack(reached, dim=-1)
    location = there[..., :-1] - there[..., 1:] + p[:, -1, None, None] * none[0]
    mine, others = known.attributes[drafts.clamp(min=0)], known.attributes[items.clamp(min=0)]
    match = []
    for k in range(known.attributes.shape[1]):
        equal = (mine[:, :, None, k] == others[:, None, :, k]) & (mine[:, :, None, k] >= 0) & real
        right_share = torch.einsum("usr,ur->us", equal.float(), p[:, :-1])
        match.append(torch.stack([reached[0] - right_share, right_share], dim=-1) + p[:, -1, None, None] * none[1][k])
    empty = location.new_zeros(*drafts.shape, 0, 2)
    both = torch.stack(match, dim=2) if match else empty
    return tuple(x.clamp(min=LEAST).log().log_softmax(dim=-1) for x in (location, both))  # type: ignore[return-value]


class ListReflection(nn.Module):
    """A fixed mixture's opinion, and what a small network adds to it after reading the evidence of all drafts at once.

    Every draft's layer also reads the average of the others, weighted by the mixture: so a draft is compared with those
    it stands among, and what weighs more depends on the user. All that is added starts at 0.
    """

    mean: torch.Tensor
    spread: torch.Tensor
    weights: torch.Tensor
    none_location: torch.Tensor
    none_match: torch.Tensor

    def __init__(self, shape: Shape):
        super().__init__()
        width = shape.hidden
        self.read = nn.Linear(shape.n_columns, width)
        self.own = nn.Linear(width, width)
        self.all = nn.Linear(width, width, bias=False)
        self.right = nn.Linear(width, 1, bias=False)
        self.none = nn.Linear(width, 1)
        self.location = nn.Linear(width, shape.n_levels + 1)
        self.match = nn.Linear(width, 2 * shape.n_attributes)
        self.trust = nn.Parameter(torch.ones(()))
        self.dropout = nn.Dropout(shape.dropout)
        for part in (self.right, self.none, self.location, self.match):
            nn.init.zeros_(part.weight)
        for biased in (self.none, self.location, self.match):
            nn.init.zeros_(biased.bias)
        self.register_buffer("mean", torch.zeros(shape.n_columns))
        self.register_buffer("spread", torch.ones(shape.n_columns))
        self.register_buffer("weights", torch.eye(len(PARTS))[0])
        self.register_buffer("none_location", torch.full((shape.n_levels + 1,), 1 / (shape.n_levels + 1)))
        self.register_buffer("none_match", torch.full((shape.n_attributes, 2), 0.5))

    def states(
        self, columns: torch.Tensor, base: torch.Tensor, real: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What is understood of each draft [U, R, D], and of the list [U, D], from columns [U, R, C] of evidence.

        base: the mixture's log-probabilities [U, R + 1]. real: bool [U, R].
        """
        read = F.relu(self.read(((columns - self.mean) / self.spread).clamp(-5, 5)))
        share = base[:, :-1].masked_fill(~real, -1e9).softmax(dim=1)[..., None]
        around = self.all((share * read).sum(dim=1))
        return self.dropout(F.relu(self.own(read) + around[:, None])), F.relu(around)

    def forward(
        self, columns: torch.Tensor, base: torch.Tensor, real: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities [U, R + 1], as `Said.right`, and the states [U, R, D]; see `states`."""
        states, whole = self.states(columns, base, real)
        each = self.trust * base[:, :-1] + self.right(states)[..., 0]
        none = base[:, -1:] + self.none(whole)
        return torch.cat([each.masked_fill(~real, -torch.inf), none], dim=1).log_softmax(dim=1), states

    def labels(self, states: torch.Tensor, implied: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """`Said.location` and `Said.match` from states [U, S, D], and from what probabilities imply."""
        location = (implied[0] + self.location(states)).log_softmax(dim=-1)
        match = (implied[1] + self.match(states).unflatten(-1, (-1, 2))).log_softmax(dim=-1)
        return location, match

    @property
    def elsewhere(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The labels' shares where the target is no draft."""
        return self.none_location, self.none_match

    def scores(self, case: Case, columns: torch.Tensor, known: Known) -> torch.Tensor:
        """Log-probabilities [U, R] of drafts before they are normalised, so that kinds of evidence can be compared."""
        base = mixed(parts_of(case, known), self.weights)
        states, _ = self.states(columns, base, case.real)
        return self.trust * base[:, :-1] + self.right(states)[..., 0]

    @torch.inference_mode()
    def reflect(self, case: Case, columns: torch.Tensor, known: Known, n_labelled: int) -> Said:
        """All that there is to say of a case's drafts; labels of the first `n_labelled`."""
        base = mixed(parts_of(case, known), self.weights)
        right, states = self.eval()(columns, base, case.real)
        implied = implied_labels(right, case.items, case.items[:, :n_labelled], known, self.elsewhere)
        return Said(right, *self.labels(states[:, :n_labelled], implied))
