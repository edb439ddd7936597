"""How single users' lists came about: drafts, doubts, corrections, the outcome, and what was bought in truth."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from redraft.recommender import SelfCorrectingRecommender
from redraft.records import Catalogue, Holdout, IntArray, SemanticIds, Trajectory

__all__ = ["OUTCOMES", "Story", "choose_users", "story_of"]

OUTCOMES = {
    "gained": "The correction brought the item into the top ten",
    "kept": "The drafts had it, and the list kept it",
    "lost": "The drafts had it, and the correction lost it",
    "missed": "Neither the drafts nor the list had it",
}
TOP, DRAFTS, HISTORY = 10, 5, 6


@dataclass(frozen=True)
class Code:
    """One code of an item. right: it and all before it are those of the target. doubt: that the first wrong is here."""

    code: int
    right: bool
    doubt: float | None


@dataclass(frozen=True)
class Item:
    """An item in words and codes."""

    words: str
    codes: Sequence[Code]


@dataclass(frozen=True)
class Draft:
    """One draft. hit: it is the target. said: what the model says of it. fate: for lack of a correction."""

    item: Item
    hit: bool
    said: Sequence[str]
    correction: Item | None
    fate: str


@dataclass(frozen=True)
class Entry:
    """One item of the list. origin: the draft that it was, or "new"."""

    words: str
    hit: bool
    origin: str


@dataclass(frozen=True)
class Story:
    """One user. kind: of OUTCOMES. ranks: of the target among the drafts and in the list, in words."""

    kind: str
    user: int
    ranks: tuple[str, str]
    history: Sequence[str]
    n_earlier: int
    target: Item
    drafts: Sequence[Draft]
    entries: Sequence[Entry]

    @property
    def outcome(self) -> str:
        """What became of the target."""
        return OUTCOMES[self.kind]


def choose_users(drafts: IntArray, final: IntArray, n_users: int, seed: int = 0) -> list[tuple[str, int]]:
    """So many users, drawn by seed, as many of every kind as of the others or all that there are: kinds and rows.

    drafts, final: int64 [S], ranks of the targets among the drafts and in the list, -1 where they are in neither.
    """
    before, after = ((ranks > 0) & (ranks <= TOP) for ranks in (drafts, final))
    groups = {"gained": ~before & after, "kept": before & after, "lost": before & ~after, "missed": ~before & ~after}
    rng = np.random.default_rng(seed)
    drawn = {kind: rng.permutation(np.flatnonzero(groups[kind])).tolist() for kind in OUTCOMES}
    taken: dict[str, list[int]] = {}
    for kind in sorted(OUTCOMES, key=lambda kind: len(drawn[kind])):
        room = n_users - sum(map(len, taken.values()))
        taken[kind] = drawn[kind][: room // (len(OUTCOMES) - len(taken))]
    return [(kind, row) for kind in OUTCOMES for row in taken[kind]]


def story_of(
    model: SelfCorrectingRecommender,
    questions: Holdout,
    kind: str,
    row: int,
    ranks: tuple[int, int],
    *,
    filter_seen: bool,
) -> Story:
    """Run the search for one user again, and keep all that happened."""
    history, target = questions.histories.history(row), int(questions.targets[row])
    told = model.trajectory(history.tolist(), min(TOP, model.ids.n_items), filter_seen=filter_seen)
    words = [f"rank {rank}" if rank > 0 else "not there" for rank in ranks]
    return Story(
        kind,
        row,
        (words[0], words[1]),
        [model.catalogue.describe(item) for item in history[-HISTORY:].tolist()],
        max(0, len(history) - HISTORY),
        _item(model.ids, model.catalogue, target, target),
        [_draft(told, draft, target, model) for draft in range(min(DRAFTS, len(told.drafts)))],
        _entries(told, target, model.catalogue),
    )


def _draft(told: Trajectory, row: int, target: int, model: SelfCorrectingRecommender) -> Draft:
    item, written = int(told.drafts[row]), told.corrections[told.origins == row]
    new, fate = None, "left as it is"
    if told.corrected[row]:
        fate = "corrected, but no correction came among the best"
        new = _item(model.ids, model.catalogue, int(written[0]), target, "→ ") if len(written) else None
    shown = _item(model.ids, model.catalogue, item, target, doubts=told.said[0][row].tolist())
    return Draft(shown, item == target, told.sayings(row), new, fate)


def _item(
    ids: SemanticIds, catalogue: Catalogue, item: int, target: int, arrow: str = "", doubts: Sequence[float] = ()
) -> Item:
    wrong = np.flatnonzero(ids.codes[item] != ids.codes[target])
    n_right = int(wrong[0]) if len(wrong) else ids.n_levels
    codes = [
        Code(code, level < n_right, doubts[level] if doubts else None)
        for level, code in enumerate(ids.codes[item].tolist())
    ]
    return Item(arrow + catalogue.describe(item), codes)


def _entries(told: Trajectory, target: int, catalogue: Catalogue) -> list[Entry]:
    origins = {item: f"draft {number}" for number, item in enumerate(told.drafts.tolist(), start=1)}
    items = told.items[told.items >= 0].tolist()
    return [Entry(catalogue.describe(item), item == target, origins.get(item, "new")) for item in items]
