"""How single users' lists came about: drafts, doubts, corrections, the outcome, and what was bought in truth."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from redraft.bench.report.markup import Html, element, joined
from redraft.recommender import SelfCorrectingRecommender
from redraft.records import Catalogue, Holdout, IntArray, SemanticIds, Trajectory

__all__ = ["KINDS", "Story", "choose_users", "draw_story", "story_of"]

KINDS = {
    "gained": "The correction brought the item into the top ten",
    "kept": "The drafts had it, and the list kept it",
    "lost": "The drafts had it, and the correction lost it",
    "missed": "Neither the drafts nor the list had it",
}
TOP, DRAFTS, HISTORY = 10, 5, 6
STRONGEST = 0.6


@dataclass(frozen=True)
class Story:
    """One user. kind: of KINDS. ranks: of the target among the drafts and in the list, -1 where it is in neither."""

    kind: str
    user: int
    ranks: tuple[int, int]
    history: IntArray
    target: int
    trajectory: Trajectory


def choose_users(drafts: IntArray, final: IntArray, n_users: int, seed: int = 0) -> list[tuple[str, int]]:
    """So many users, drawn by seed, as many of every kind as of the others or all that there are: kinds and rows.

    drafts, final: int64 [S], ranks of the targets among the drafts and in the list, -1 where they are in neither.
    """
    before, after = ((ranks > 0) & (ranks <= TOP) for ranks in (drafts, final))
    groups = {"gained": ~before & after, "kept": before & after, "lost": before & ~after, "missed": ~before & ~after}
    rng = np.random.default_rng(seed)
    drawn = {kind: rng.permutation(np.flatnonzero(groups[kind])).tolist() for kind in KINDS}
    taken: dict[str, list[int]] = {}
    for kind in sorted(KINDS, key=lambda kind: len(drawn[kind])):
        room = n_users - sum(map(len, taken.values()))
        taken[kind] = drawn[kind][: room // (len(KINDS) - len(taken))]
    return [(kind, row) for kind in KINDS for row in taken[kind]]


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
    history = questions.histories.history(row)
    found = model.trajectory(history.tolist(), min(TOP, model.ids.n_items), filter_seen=filter_seen)
    return Story(kind, row, ranks, history, int(questions.targets[row]), found)


def draw_story(story: Story, ids: SemanticIds, catalogue: Catalogue) -> Html:
    """One user as an article: what was bought, what came next, the first drafts, the list."""
    before, after = (f"rank {rank}" if rank > 0 else "not there" for rank in story.ranks)
    target = element("p", _item(catalogue, story.target), _codes(ids, story.target, story.target, None), class_="item")
    return element(
        "article",
        element("p", KINDS[story.kind], class_=f"kind {story.kind}"),
        element("h3", f"User {story.user + 1} of the sample: {before} in the drafts, {after} in the list"),
        element("div", _history(story.history, catalogue), element("h4", "Bought next, in truth"), target),
        element("div", element("h4", f"The {DRAFTS} best drafts"), _drafts(story, ids, catalogue)),
        element("div", element("h4", "The list"), _list(story, catalogue)),
        class_="story",
    )


def _history(history: IntArray, catalogue: Catalogue) -> Html:
    earlier = len(history) - HISTORY
    items = [element("li", _item(catalogue, item)) for item in history[-HISTORY:].tolist()]
    more = [element("li", f"{earlier} earlier", class_="quiet")] if earlier > 0 else []
    return joined([element("h4", "Bought before, oldest first"), element("ul", *more, *items, class_="items")])


def _drafts(story: Story, ids: SemanticIds, catalogue: Catalogue) -> Html:
    return element("ol", *(_draft(story, row, ids, catalogue) for row in range(DRAFTS)[: len(story.trajectory.drafts)]))


def _draft(story: Story, row: int, ids: SemanticIds, catalogue: Catalogue) -> Html:
    found = story.trajectory
    said = found.sayings(row)
    said[0] = f"says: {said[0]}"
    item = int(found.drafts[row])
    right = "item hit" if item == story.target else "item"
    written = found.corrections[found.origins == row]
    fate = [element("p", "left as it is", class_="quiet")]
    if found.corrected[row]:
        fate = [element("p", "corrected, but no correction came among the best", class_="quiet")]
    if found.corrected[row] and len(written):
        new = int(written[0])
        fate = [element("p", "→ ", _item(catalogue, new), _codes(ids, new, story.target, None), class_="item")]
    return element(
        "li",
        element("p", _item(catalogue, item), _codes(ids, item, story.target, found.said[0][row]), class_=right),
        element("p", ", ".join(said), class_="quiet"),
        *fate,
    )


def _codes(ids: SemanticIds, item: int, target: int, doubts: Sequence[float] | None) -> Html:
    """An item's codes in boxes: the more a code is doubted, the redder; those right so far are underlined."""
    mine, true = ids.codes[item], ids.codes[target]
    wrong = np.flatnonzero(mine != true)
    right = int(wrong[0]) if len(wrong) else ids.n_levels
    boxes = []
    for level, code in enumerate(mine.tolist()):
        style = title = None
        if doubts is not None:
            style = f"background:rgb(209 64 31/{STRONGEST * doubts[level]:.2f})"
            title = f"first wrong here: {doubts[level]:.0%}"
        boxes.append(
            element("span", str(code), class_="code right" if level < right else "code", style=style, title=title)
        )
    return element("span", *boxes, class_="codes")


def _list(story: Story, catalogue: Catalogue) -> Html:
    places = {item: place for place, item in enumerate(story.trajectory.drafts.tolist(), start=1)}
    rows = []
    for item in story.trajectory.items[story.trajectory.items >= 0].tolist():
        was = f"draft {places[item]}" if item in places else "new"
        hit = [element("strong", " ← bought next")] if item == story.target else []
        text = [_item(catalogue, item), *hit, element("span", f" {was}", class_="quiet")]
        rows.append(element("li", *text, class_="hit" if hit else None))
    return element("ol", *rows, class_="items")


def _item(catalogue: Catalogue, item: int) -> str:
    return catalogue.describe(item)
