"""The nouns that the stages exchange, and the one protocol that every recommender keeps.

Shape letters, used in every file: U users, T history length, L levels, C codes per level, K attributes, R beams,
B beam budget, D width, N items.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import chain
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from redraft.checks import MAX_COUNT, MAX_SEED, InputError, check_above, check_between, check_least, check_whole

if TYPE_CHECKING:
    import torch

__all__ = [
    "MAX_COUNT",
    "MAX_SEED",
    "Batch",
    "Beams",
    "BoolArray",
    "Catalogue",
    "Dataset",
    "FloatArray",
    "Holdout",
    "InputError",
    "IntArray",
    "Interactions",
    "Labels",
    "Recommendations",
    "Recommender",
    "Reflection",
    "SemanticIds",
    "Slot",
    "Trajectory",
    "check_above",
    "check_allow",
    "check_between",
    "check_least",
    "check_whole",
]

IntArray = NDArray[np.integer[Any]]
FloatArray = NDArray[np.floating[Any]]
BoolArray = NDArray[np.bool_]


def check_allow(allow: Any, n_users: int, n_items: int) -> BoolArray | None:
    """What may be shown as bool [N] or [U, N]; raises InputError for another type or shape. None stays None."""
    if allow is None:
        return None
    mask = np.asarray(allow)
    if mask.dtype != np.bool_:
        raise InputError(f"allow holds {mask.dtype}; give bool, True for each item that may be shown")
    if mask.shape not in ((n_items,), (n_users, n_items)):
        raise InputError(f"allow has shape {mask.shape}; it must be ({n_items},) or ({n_users}, {n_items})")
    return mask


def _is_number(item: Any) -> bool:
    try:
        return -MAX_COUNT <= index(item) <= MAX_COUNT
    except TypeError:
        return False


@dataclass(frozen=True)
class Interactions:
    """Users' events in time order, as CSR arrays that may be memory-mapped.

    items: int32 [nnz], item numbers, each user's oldest first.
    offsets: int64 [U + 1]; user u owns items[offsets[u]:offsets[u + 1]].
    times: int64 [nnz] seconds since 1970, or None where only the order is known.
    """

    items: IntArray
    offsets: IntArray
    times: IntArray | None = None

    def __repr__(self) -> str:
        order = "in order" if self.times is None else "with times"
        return f"Interactions({self.n_users:,} users, {len(self.items):,} events {order})"

    @classmethod
    def from_lists(cls, histories: Sequence[Sequence[int]], times: Sequence[Sequence[int]] | None = None) -> Self:
        """Pack one list of item numbers per user, and one of seconds where there are times.

        Raises InputError, naming the first, for what is no such number, and for times that are not one for each item.
        """
        try:
            lengths = np.fromiter((len(h) for h in histories), dtype=np.int64, count=len(histories))
        except TypeError:
            raise InputError("histories are no lists of item numbers, one list per user; give [[1, 2], [3]]") from None
        try:
            items = np.fromiter(map(index, chain.from_iterable(histories)), dtype=np.int32, count=int(lengths.sum()))
        except (TypeError, OverflowError):
            user, item = next((u, i) for u, h in enumerate(histories) for i in h if not _is_number(i))
            raise InputError(f"history {user} has {item!r}, which is no item number; give whole numbers") from None
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        if times is None:
            return cls(items, offsets)
        if list(map(len, times)) != lengths.tolist():
            raise InputError("times are not one for each item of each history; give as many")
        return cls(items, offsets, np.fromiter(chain.from_iterable(times), dtype=np.int64, count=len(items)))

    @property
    def n_users(self) -> int:
        """U, users without events included."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> IntArray:
        """int64 [U], events per user."""
        return np.diff(self.offsets)

    def history(self, user: int) -> IntArray:
        """The items of one user, oldest first."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    def padded(self, length: int) -> IntArray:
        """int64 [U, length]: each user's most recent items, the last one rightmost, -1 on the left where shorter."""
        columns = self.offsets[1:, None] - np.arange(length, 0, -1)
        real = columns >= self.offsets[:-1, None]
        items = np.full(columns.shape, -1, dtype=np.int64)
        items[real] = self.items[columns[real]]
        return items

    def check_items(self, n_items: int) -> None:
        """Raise InputError, naming the first, if a history holds an item that is not in a catalogue of n_items."""
        if not np.issubdtype(self.items.dtype, np.integer):
            raise InputError(f"histories hold {self.items.dtype}; give item numbers, which are whole")
        bad = np.flatnonzero((self.items < 0) | (self.items >= n_items))
        if len(bad):
            user = int(np.searchsorted(self.offsets, bad[0], side="right")) - 1
            item = self.items[bad[0]]
            raise InputError(f"history {user} names item {item}, but items are 0 to {n_items - 1}; remove it")

    def distinct(self) -> "Interactions":
        """The same users with each of their items once, in order of item number, without times."""
        first, last = self.offsets[0], self.offsets[-1]
        span = int(self.items[first:last].max(initial=0)) + 1
        pairs = np.unique(np.repeat(np.arange(self.n_users), self.lengths) * span + self.items[first:last])
        offsets = np.searchsorted(pairs, np.arange(self.n_users + 1) * span)
        return Interactions(pairs % span, offsets)

    def take(self, users: slice | IntArray) -> "Interactions":
        """The same events for some users only, in the order given."""
        starts, lengths = self.offsets[:-1][users], self.lengths[users]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        rows = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Interactions(self.items[rows], offsets, None if self.times is None else self.times[rows])


@dataclass(frozen=True)
class Catalogue:
    """What is known of each item; item number n is row n everywhere.

    ids: String series [N], the shop's own identifiers. titles, descriptions: String series [N], "" where unknown.
    attributes: int32 [N, K], row numbers of the value tables, -1 = unknown.
    attribute_names: K names. attribute_values: K String series, the values by number.
    """

    ids: pl.Series
    titles: pl.Series
    descriptions: pl.Series
    attributes: IntArray
    attribute_names: tuple[str, ...] = ()
    attribute_values: tuple[pl.Series, ...] = ()

    def __repr__(self) -> str:
        return f"Catalogue({self.n_items:,} items, attributes: {', '.join(self.attribute_names) or 'none'})"

    @property
    def n_items(self) -> int:
        """N."""
        return len(self.ids)

    def attribute(self, item: int, k: int) -> str | None:
        """The value of attribute k in words, or None if unknown."""
        code = int(self.attributes[item, k])
        return None if code < 0 else str(self.attribute_values[k][code])

    def describe(self, item: int) -> str:
        """One line a person can read: title, or id where there is none, and the known attributes."""
        values = [self._said(item, k) for k in range(len(self.attribute_names))]
        name = self.titles[item] or f"#{self.ids[item]}"
        return " | ".join([name, *(value for value in values if value)])

    def _said(self, item: int, k: int) -> str | None:
        """The value of an attribute as a line shows it; of "genre: Drama", which is yes or no, the value that it is."""
        value, (_, several, one) = self.attribute(item, k), self.attribute_names[k].partition(": ")
        return (one if value == "yes" else None) if several and value in ("yes", "no") else value


@dataclass(frozen=True)
class Dataset:
    """One imported data set: who did what, and with which items.

    user_ids: String series [U], the shop's own identifiers. fingerprint: sha256 of the events, the catalogue and the
    split. split: when validation and test begin, in seconds since 1970; None for leave-one-out.
    """

    name: str
    interactions: Interactions
    catalogue: Catalogue
    user_ids: pl.Series
    fingerprint: str
    split: tuple[int, int] | None = None

    @property
    def protocol(self) -> str:
        """How events to learn from and targets are told apart, in words."""
        return "leave-one-out" if self.split is None else "split in time"

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, {self.interactions}, {self.catalogue})"


@dataclass(frozen=True)
class Holdout:
    """A question set for evaluation: what came before, and the one item that came next.

    histories: Interactions of U users. targets: int64 [U].
    """

    histories: Interactions
    targets: IntArray


@dataclass(frozen=True)
class SemanticIds:
    """The code sequence of every item; unique by construction, so that a code sequence names one item.

    codes: int32 [N, L], each in [0, codebook_size). codebook_size: C.
    Raises InputError for a code outside the codebook and for two items with the same codes.
    """

    codes: IntArray
    codebook_size: int

    def __post_init__(self) -> None:
        bad = np.argwhere((self.codes < 0) | (self.codes >= self.codebook_size))
        if len(bad):
            item, level = (int(x) for x in bad[0])
            raise InputError(
                f"semantic IDs: item {item} has code {self.codes[item, level]} at level {level + 1}, outside the "
                f"codebook of {self.codebook_size}; raise codebook_size or fix the code"
            )
        same = np.flatnonzero(np.diff(self._sorted_keys) == 0)
        if len(same):
            first, second = (int(self._order[same[0] + i]) for i in (0, 1))
            raise InputError(
                f"semantic IDs: items {first} and {second} share the codes {self.codes[first].tolist()}; "
                "resolve collisions first (redraft.tokenizer.resolve_collisions)"
            )

    def __repr__(self) -> str:
        size = f"{self.n_items:,} items, {self.n_levels} codes of {self.codebook_size} each"
        return f"SemanticIds({size}, fingerprint {self.fingerprint[:12]})"

    @property
    def n_items(self) -> int:
        """N."""
        return int(self.codes.shape[0])

    @property
    def n_levels(self) -> int:
        """L."""
        return int(self.codes.shape[1])

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over shape, codebook size and codes: the same ids give the same fingerprint on any machine."""
        digest = hashlib.sha256(f"{self.n_items} {self.n_levels} {self.codebook_size}\n".encode())
        digest.update(np.ascontiguousarray(self.codes, dtype="<i4").tobytes())
        return digest.hexdigest()

    def keys(self, codes: IntArray) -> IntArray:
        """int64 [...] from codes [..., L]: the codes read as one number in base C; orders as the codes do."""
        assert self.codebook_size**self.n_levels < 2**63, "a key must fit 63 bits"
        key = codes[..., 0].astype(np.int64)
        for level in range(1, self.n_levels):
            key = key * self.codebook_size + codes[..., level]
        return key

    def lookup(self, codes: IntArray) -> IntArray:
        """int64 [...] item numbers from codes [..., L]; -1 where no item has them (paper section 3.1, phi)."""
        keys = self.keys(codes)
        position = np.minimum(np.searchsorted(self._sorted_keys, keys), self.n_items - 1)
        inside = ((codes >= 0) & (codes < self.codebook_size)).all(axis=-1)
        return np.where(inside & (self._sorted_keys[position] == keys), self._order[position], -1)

    @cached_property
    def _order(self) -> IntArray:
        return np.argsort(self.keys(self.codes), kind="stable")

    @cached_property
    def _sorted_keys(self) -> IntArray:
        return self.keys(self.codes)[self._order]


@dataclass(frozen=True)
class Batch:
    """Training histories with what came next.

    history: int64 [U, T], most recent last, -1 pads the left. target: int64 [U], the item after the history.
    n_targets: int64 [U], how many of the last next-item predictions of the row carry a loss: 1 for the target alone,
    t + 1 to predict also the last t items of the history from what came before them.
    event: int64 [U], where the target stands among the training events.
    """

    history: "torch.Tensor"
    target: "torch.Tensor"
    n_targets: "torch.Tensor"
    event: "torch.Tensor"

    def predictions(self, *, short: bool = False) -> "tuple[torch.Tensor, torch.Tensor]":
        """The items to predict, int64 [U, R] with -1 for padding, and bool [U, R], for which of them there is a loss.

        Each item of the history is predicted from those before it, and the target last, so R = T; with `short` R = 1
        where every row predicts its target alone.
        """
        import torch

        n_rows = 1 if short and bool((self.n_targets <= 1).all()) else self.history.shape[1]
        targets = torch.cat([self.history[:, 1:], self.target[:, None]], dim=1)[:, -n_rows:]
        positions = torch.arange(n_rows, device=targets.device)
        return targets, positions >= n_rows - self.n_targets[:, None]

    def to(self, device: "torch.device") -> "Batch":
        """The same batch on a device."""
        return Batch(*(getattr(self, field.name).to(device) for field in fields(self)))


@dataclass(frozen=True)
class Beams:
    """What a search found, best first.

    items: int64 [U, R], -1 where fewer than R items are allowed. log_probs: float32 [U, R], -inf there.
    codes: int64 [U, R, L].
    """

    items: "torch.Tensor"
    log_probs: "torch.Tensor"
    codes: "torch.Tensor"


Labels: TypeAlias = "torch.Tensor"
"""What is said about drafts (paper Eq. 6): int64 [..., S], the class of each label slot, the location first."""


class Slot(NamedTuple):
    """One thing that is said about a draft: its name, and its classes in words.

    judges: whether the last class is what a right draft has.
    """

    name: str
    classes: tuple[str, ...]
    judges: bool = True


class Reflection(NamedTuple):
    """What a model thinks of drafts, as logits over the classes of its S label slots (paper Eq. 8).

    kinds: for each kind of slots [..., n, C], of which there are n with C classes each; the location is the first.
    """

    kinds: "tuple[torch.Tensor, ...]"

    @property
    def location(self) -> "torch.Tensor":
        """Logits [..., L + 1] of how many codes are right before the first wrong one, L where all are right."""
        return self.kinds[0][..., 0, :]

    def slots(self) -> "list[torch.Tensor]":
        """The logits [..., C] of each slot."""
        kinds = (kind for kind in self.kinds if kind.shape[-2])  # an exported program cannot part what has no parts
        return [logits for kind in kinds for logits in kind.unbind(dim=-2)]

    def decide(self) -> "Labels":
        """The most probable labels; they are independent given the draft, so each is decided alone."""
        import torch

        return torch.cat([kind.argmax(dim=-1) for kind in self.kinds], dim=-1)


@dataclass(frozen=True)
class Trajectory:
    """How one user's list came about: R drafts, what the model thought of each, what it wrote instead, the outcome.

    drafts, draft_log_probs: [R], best first. slots: what the model says of each, location first; none for a model that
    does not reflect. said: of each slot float64 [R, C], the probabilities of its classes. entropy: float64 [R], of the
    reflection (paper Eq. 24). corrected: bool [R], which drafts were corrected. corrections, correction_log_probs:
    [R'], paths of draft and correction, best first. origins: int64 [R'], the draft that each came from. items, scores:
    [k], the final list.
    """

    drafts: IntArray
    draft_log_probs: FloatArray
    slots: tuple[Slot, ...]
    said: tuple[FloatArray, ...]
    entropy: FloatArray
    corrected: BoolArray
    corrections: IntArray
    correction_log_probs: FloatArray
    origins: IntArray
    items: IntArray
    scores: FloatArray

    def sayings(self, row: int) -> list[str]:
        """What the model holds most probable of one draft, a line a slot, and how sure it is."""
        lines = []
        for slot, said in zip(self.slots, self.said):
            best = int(said[row].argmax())
            words = slot.classes[best] if slot.name == "location" else f"{slot.name} {slot.classes[best]}"
            lines.append(f"{words} ({said[row, best]:.0%})")
        return lines


@dataclass(frozen=True)
class Recommendations:
    """Ranked lists, best first.

    items: int64 [U, k], -1 where fewer than k items may be recommended. scores: float32 [U, k], -inf there.
    """

    items: IntArray
    scores: FloatArray

    def __repr__(self) -> str:
        n_users, k = self.items.shape
        return f"Recommendations({n_users:,} lists of {k})"


class Recommender(Protocol):
    """What the evaluation, the tables and the service know of a model."""

    def recommend(
        self, histories: Interactions, k: int, *, filter_seen: bool = True, allow: BoolArray | None = None
    ) -> Recommendations:
        """The k best items for each of U histories.

        filter_seen: leave out the items of the user's own history. allow: bool [N] or [U, N], what may be shown.
        Filters act inside the search: a list is short only if fewer than k items are left.
        Raises InputError if k exceeds the catalogue, or if a history names an item that is not in it.
        """
        ...

    def save(self, path: Path) -> None:
        """Write the fitted model to a folder, whole or not at all."""
        ...
