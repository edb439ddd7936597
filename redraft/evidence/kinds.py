"""Named kinds of evidence about drafts: each a pure function from what is known to columns of numbers.

A new kind is one entry of KINDS. What a kind says of a user, such as how far it can be relied on, it says of each of
the user's drafts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from redraft.evidence.memory import Memory
from redraft.records import InputError

__all__ = ["KINDS", "Case", "Kind", "Known", "check_kinds", "columns_of", "read_kinds"]

RECENT = 5
NEVER = -20.0


class Known(NamedTuple):
    """What is known of the N items. codes: int64 [N, L]. attributes: int64 [N, K], -1 = unknown.

    attribute_names: of the K. popularity: int64 [N], training events. memory: of the training log.
    """

    codes: torch.Tensor
    attributes: torch.Tensor
    attribute_names: tuple[str, ...]
    popularity: torch.Tensor
    memory: Memory


class Case(NamedTuple):
    """R drafts of U users, best first, their corrections among them, and what has been said of them.

    history: int64 [U, T], most recent last, -1 pads. lengths: int64 [U], events of the whole history. items: int64
    [U, R], -1 where there are fewer. log_probs: float32 [U, R], -inf there. head, tower: logits [U, R] of the
    generator's item head and of an independently trained model. corrected: int64 [U, R], 1 for what was written after
    the drafts, by a writer that was told more.
    """

    history: torch.Tensor
    lengths: torch.Tensor
    items: torch.Tensor
    log_probs: torch.Tensor
    head: torch.Tensor
    tower: torch.Tensor
    corrected: torch.Tensor

    @property
    def real(self) -> torch.Tensor:
        """bool [U, R]: where there is a draft."""
        return self.items >= 0

    @property
    def drafts(self) -> "Case":
        """The case without its corrections."""
        return self.with_corrections(0)

    def with_corrections(self, n: int) -> "Case":
        """The case with the first n of its corrections alone."""
        n_drafts = int((self.corrected == 0).sum(dim=1).max())
        return Case(self.history, self.lengths, *(part[:, : n_drafts + n] for part in self[2:]))


@dataclass(frozen=True)
class Kind:
    """columns: their words, given the names of the attributes. read: float32 [U, R, columns], finite at real drafts."""

    columns: Callable[[tuple[str, ...]], tuple[str, ...]]
    read: Callable[[Case, Known], torch.Tensor]


def generator(case: Case, known: Known) -> torch.Tensor:
    """How probable the generator found each draft, among its drafts, and how much all of them cover."""
    covered = case.log_probs.logsumexp(dim=1, keepdim=True)
    return _said(case, case.log_probs, covered)


def item_head(case: Case, known: Known) -> torch.Tensor:
    """The generator's own item head."""
    return _opinion(case, case.head)


def tower(case: Case, known: Known) -> torch.Tensor:
    """A model of items with an encoder of its own."""
    return _opinion(case, case.tower)


def memory(case: Case, known: Known) -> torch.Tensor:
    """What stood near the recent items, and near the last one, in the training log."""
    columns = []
    for recent in (10, 1):
        near, total = known.memory.read(case.history, case.items, recent)
        share = near / total.clamp(min=1e-12)
        any_near = near > 0
        columns += [torch.where(any_near, share.clamp(min=1e-6).log(), -15.0), any_near.float()]
        if recent > 1:
            mass = share.masked_fill(~case.real, 0.0).sum(dim=1, keepdim=True)
            columns += [
                _places(share.masked_fill(~case.real, -1.0)),
                mass.expand_as(share),
                total.log1p().expand_as(share),
            ]
    return torch.stack(columns, dim=-1)


def popularity(case: Case, known: Known) -> torch.Tensor:
    """How often an item is among the training events, and the user's last items on average."""
    counts = known.popularity.float().log1p()
    last = case.history[:, -RECENT:]
    usual = (counts[last.clamp(min=0)] * (last >= 0)).sum(dim=1) / (last >= 0).sum(dim=1).clamp(min=1)
    own = counts[case.items.clamp(min=0)]
    return torch.stack([own, own - usual[:, None]], dim=-1)


def attributes(case: Case, known: Known) -> torch.Tensor:
    """Which attributes an item has in common with the last item, and with how many of the last ones."""
    last = case.history[:, -RECENT:]
    theirs = known.attributes[last.clamp(min=0)].masked_fill((last < 0)[..., None], -1)
    own = known.attributes[case.items.clamp(min=0)]
    same = (own[:, :, None] == theirs[:, None]) & (own >= 0)[:, :, None]
    n_last = (last >= 0).sum(dim=1).clamp(min=1)[:, None, None]
    return torch.cat([same[:, :, -1].float(), same.sum(dim=2) / n_last], dim=-1)


def prefix(case: Case, known: Known) -> torch.Tensor:
    """How many leading codes an item shares with the last item, and at most with one of the last ones."""
    last = case.history[:, -RECENT:]
    theirs = known.codes[last.clamp(min=0)]
    same = (known.codes[case.items.clamp(min=0)][:, :, None] == theirs[:, None]).long().cumprod(dim=-1).sum(dim=-1)
    same = same.masked_fill((last < 0)[:, None], 0)
    return torch.stack([same[:, :, -1], same.amax(dim=2)], dim=-1).float()


def correction(case: Case, known: Known) -> torch.Tensor:
    """Whether it is a correction."""
    return case.corrected.float()[..., None]


def length(case: Case, known: Known) -> torch.Tensor:
    """How long the history is."""
    return case.lengths.float().log1p()[:, None, None].expand(*case.items.shape, 1)


def _opinion(case: Case, logits: torch.Tensor) -> torch.Tensor:
    """What logits [U, R] say of drafts among each other, and how sure they are."""
    log_probs = logits.masked_fill(~case.real, -torch.inf).log_softmax(dim=1)
    return _said(case, log_probs, log_probs.amax(dim=1, keepdim=True))


def _said(case: Case, log_probs: torch.Tensor, sure: torch.Tensor) -> torch.Tensor:
    """Log-probabilities [U, R], how far they lie below the best, their places, and how sure they are, [U, 1]."""
    behind = log_probs - log_probs.amax(dim=1, keepdim=True)
    columns = [log_probs, behind, _places(log_probs), sure.expand_as(log_probs)]
    return torch.stack([part.clamp(min=NEVER) for part in columns], dim=-1)


def _places(scores: torch.Tensor) -> torch.Tensor:
    """float32 [U, R]: the log of each draft's place by its score, from log 1."""
    order = scores.argsort(dim=1, descending=True, stable=True)
    places = torch.arange(1, scores.shape[1] + 1, device=scores.device).float().log().expand_as(scores)
    return torch.empty_like(scores).scatter(1, order, places)


def _by_name(*names: str) -> Callable[[tuple[str, ...]], tuple[str, ...]]:
    return lambda attributes: names


SAID = ("log p", "behind the best", "place", "sure")

KINDS: dict[str, Kind] = {
    "generator": Kind(_by_name(*SAID[:3], "covered"), generator),
    "head": Kind(_by_name(*SAID), item_head),
    "tower": Kind(_by_name(*SAID), tower),
    "memory": Kind(
        _by_name("log share", "any", "place", "mass", "total", "log share after the last", "any after the last"), memory
    ),
    "popularity": Kind(_by_name("log count", "against the last items'"), popularity),
    "attributes": Kind(
        lambda names: (*(f"{n} as the last" for n in names), *(f"{n} as the last {RECENT}" for n in names)), attributes
    ),
    "codes": Kind(_by_name("as the last", f"as one of the last {RECENT}"), prefix),
    "correction": Kind(_by_name("is one"), correction),
    "length": Kind(_by_name("log length"), length),
}


def check_kinds(names: Sequence[str]) -> None:
    """Raise InputError unless names are of known kinds, each once."""
    for name in names:
        if name not in KINDS:
            raise InputError(f"evidence: no kind is called {name!r}; there are {', '.join(KINDS)}")
    if len(set(names)) < len(names):
        raise InputError(f"evidence: {' '.join(names)}: give each kind once")


def columns_of(kinds: Sequence[str], attribute_names: tuple[str, ...]) -> list[tuple[str, str]]:
    """The kind and the words of each column that `read_kinds` gives."""
    return [(kind, words) for kind in kinds for words in KINDS[kind].columns(attribute_names)]


def read_kinds(kinds: Sequence[str], case: Case, known: Known) -> torch.Tensor:
    """All columns [U, R, C] of some kinds; 0 where there is no draft.

    Raises InputError for a kind that says what is no number.
    """
    columns = []
    for name in kinds:
        said = KINDS[name].read(case, known).masked_fill(~case.real[..., None], 0.0)
        if not bool(torch.isfinite(said).all()):
            raise InputError(f"evidence: {name} gives numbers that are not finite; make it again")
        columns.append(said)
    return torch.cat(columns, dim=-1) if columns else torch.zeros(*case.items.shape, 0)
