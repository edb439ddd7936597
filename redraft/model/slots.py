"""What reflection says of a draft: named kinds of label slots, each with its classes and a pure label function.

A new kind is one entry of KINDS. Every model that is trained with it has heads and embeddings for it; its labels are
learned, sampled, rewarded, scheduled by and explained as those of all others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from redraft.records import InputError, Labels, Slot

__all__ = [
    "DEFAULT",
    "KINDS",
    "Case",
    "Kind",
    "check_kinds",
    "first_wrong_code",
    "histories_before",
    "label_drafts",
    "same_attributes",
    "slots_of",
]


class Case(NamedTuple):
    """What a label function may read.

    drafts, targets: items, int64 [...]. history: int64 [..., T], the items before each target, -1 where there are
    fewer. codes: int64 [N, L]. attributes: int64 [N, K], -1 = unknown.
    """

    drafts: torch.Tensor
    targets: torch.Tensor
    history: torch.Tensor
    codes: torch.Tensor
    attributes: torch.Tensor


@dataclass(frozen=True)
class Kind:
    """Slots of the same classes: one, or one for each of the K attributes.

    classes: their words, from the number of levels. label: the class of each draft, int64 [...], or [..., K] for each
    attribute. judges: the last class is what a draft has that is right; False for labels that say nothing of that.
    """

    name: str
    classes: Callable[[int], tuple[str, ...]]
    label: Callable[[Case], torch.Tensor]
    per_attribute: bool = False
    judges: bool = True


def first_wrong_code(case: Case) -> torch.Tensor:
    """How many codes of a draft are right before the first wrong one, r_loc - 1: L if all are right (paper Eq. 4)."""
    wrong = case.codes[case.drafts] != case.codes[case.targets]
    return torch.where(wrong.any(dim=-1), wrong.byte().argmax(dim=-1), wrong.shape[-1])


def same_attributes(case: Case) -> torch.Tensor:
    """1 where a draft has the target's value of an attribute; an unknown one matches nothing (paper Eq. 5)."""
    target = case.attributes[case.targets]
    return ((case.attributes[case.drafts] == target) & (target >= 0)).long()


def _places(n_levels: int) -> tuple[str, ...]:
    return (*(f"code {level} wrong" for level in range(1, n_levels + 1)), "all codes right")


KINDS: dict[str, Kind] = {
    "location": Kind("location", _places, first_wrong_code),
    "match": Kind("match", lambda _: ("wrong", "right"), same_attributes, per_attribute=True),
}
DEFAULT = ("location", "match")


def check_kinds(names: Sequence[str]) -> None:
    """Raise InputError unless names are of known kinds, each once and the location first."""
    for name in names:
        if name not in KINDS:
            raise InputError(f"slots: no kind of label is called {name!r}; there are {', '.join(KINDS)}")
    if names[:1] != DEFAULT[:1] or len(set(names)) < len(names):
        raise InputError(f"slots: {' '.join(names)}: give location first, and each kind once")


def slots_of(kinds: Sequence[Kind], n_levels: int, attributes: Sequence[str]) -> tuple[Slot, ...]:
    """All slots in the order of their labels, given the names of the K attributes."""
    return tuple(
        Slot(name, kind.classes(n_levels), kind.judges)
        for kind in kinds
        for name in (attributes if kind.per_attribute else (kind.name,))
    )


def label_drafts(kinds: Sequence[Kind], case: Case) -> Labels:
    """The true labels [..., S] of drafts (paper Eq. 6).

    Raises InputError for a label function that gives a class which its kind does not have.
    """
    columns = []
    for kind in kinds:
        labels, n_classes = kind.label(case), len(kind.classes(case.codes.shape[1]))
        if bool(((labels < 0) | (labels >= n_classes)).any()):
            raise InputError(f"slots: the label function of {kind.name} gives a class outside its {n_classes}; fix it")
        columns.append(labels if kind.per_attribute else labels[..., None])
    return torch.cat(columns, dim=-1)


def histories_before(history: torch.Tensor, n_rows: int) -> torch.Tensor:
    """int64 [U, R, T]: what came before each of the last R predictions of histories [U, T]; -1 where it had not yet."""
    n_items = history.shape[1]
    ends = torch.arange(n_items - n_rows + 1, n_items + 1, device=history.device)
    number = torch.arange(n_items, device=history.device)
    return torch.where(number < ends[:, None], history[:, None], -1)
