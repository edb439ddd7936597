import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import random_interactions, tiny_backbone, tiny_catalogue, tiny_config, tiny_ids

from redraft.data.loader import batches, every_prefix, shared_prefixes
from redraft.recommender import GenerativeRecommender
from redraft.records import InputError, Interactions, SemanticIds
from redraft.train import drafts as drafting
from redraft.train.drafts import draft_labels, load_drafts, make_drafts
from redraft.train.sft import draw_drafts


def drafter(seed: int = 0) -> GenerativeRecommender:
    ids, catalogue = tiny_ids(30, 3, 5), tiny_catalogue(30)
    return GenerativeRecommender(tiny_backbone(tiny_config(), ids, catalogue, seed), ids, catalogue, beams=4)


TRAIN = random_interactions([5, 1, 12, 2, 7, 3], 30)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drafting, "PART", 7)


def made(folder: Path, drafters: list[GenerativeRecommender], **changes) -> torch.Tensor:
    make_drafts(drafters, TRAIN, folder, **{"data": "d", "n_beams": 4, **changes})
    return load_drafts(folder, TRAIN, 8)


def test_each_event_has_the_beams_of_what_came_before_it(tmp_path: Path) -> None:
    drafts = made(tmp_path, [drafter()])
    assert drafts.shape == (len(TRAIN.items), 4)
    first = TRAIN.offsets[:-1]
    assert (drafts[first] == -1).all()
    for event in np.setdiff1d(np.arange(len(TRAIN.items)), first):
        start = TRAIN.offsets[np.searchsorted(TRAIN.offsets, event, side="right") - 1]
        history = Interactions.from_lists([TRAIN.items[start:event].tolist()])
        assert drafts[event].tolist() == drafter().recommend(history, 4, filter_seen=False).items[0].tolist()


def test_with_folds_each_user_meets_the_drafter_that_never_saw_them(tmp_path: Path) -> None:
    both = made(tmp_path / "both", [drafter(0), drafter(1)])
    alone = [made(tmp_path / str(seed), [drafter(seed)]) for seed in (0, 1)]
    for user in range(TRAIN.n_users):
        mine = slice(TRAIN.offsets[user], TRAIN.offsets[user + 1])
        assert torch.equal(both[mine], alone[user % 2][mine])
    assert not torch.equal(alone[0], alone[1])


def test_a_stopped_run_goes_on_and_processes_share_the_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = made(tmp_path / "whole", [drafter()])
    for rank in (1, 0):
        make_drafts([drafter()], TRAIN, tmp_path / "shared", data="d", n_beams=4, rank=rank, world=2)
    assert torch.equal(load_drafts(tmp_path / "shared", TRAIN, 8), whole)
    (tmp_path / "shared" / "part-00002.npy").unlink()
    with pytest.raises(InputError, match=r"part-00002\.npy: drafts are not complete"):
        load_drafts(tmp_path / "shared", TRAIN, 8)
    asked = []
    recommend = GenerativeRecommender.recommend
    monkeypatch.setattr(
        GenerativeRecommender,
        "recommend",
        lambda self, h, *a, **k: asked.append(h.n_users) or recommend(self, h, *a, **k),
    )
    assert torch.equal(made(tmp_path / "shared", [drafter()]), whole)
    assert len(asked) == 1, "only the missing part is made again"


@pytest.mark.parametrize(
    ("changes", "named"), [({"data": "e"}, "data"), ({"n_beams": 3}, "beams"), ({"drafters": 1}, "weights")]
)
def test_drafts_of_something_else_are_refused(tmp_path: Path, changes: dict, named: str) -> None:
    made(tmp_path, [drafter()])
    before = json.loads((tmp_path / "drafts.json").read_text())
    with pytest.raises(InputError, match=f"made with other {named}; remove the folder or give another"):
        made(tmp_path, [drafter(changes.pop("drafters", 0))], **changes)
    assert json.loads((tmp_path / "drafts.json").read_text()) == before


@pytest.mark.parametrize("windows", [shared_prefixes, every_prefix])
def test_targets_draw_among_their_own_drafts_evenly(windows) -> None:
    """Draft b of event e is e * 10 + b, so a draw tells where it comes from."""
    n_events = len(TRAIN.items)
    table = (torch.arange(n_events)[:, None] * 10 + torch.arange(4)).int()
    torch.manual_seed(0)
    counts = np.zeros((n_events, 4), dtype=int)
    for epoch in range(200):
        for batch in batches(TRAIN, windows(TRAIN, 8), 6, seed=0, epoch=epoch):
            [drawn] = draw_drafts(table, batch, 1)
            for row, n_targets in enumerate(batch.n_targets.tolist()):
                for back in range(n_targets):
                    event, draft = divmod(int(drawn[row, -1 - back]), 10)
                    assert event == int(batch.event[row]) - back
                    counts[event, draft] += 1
    asked = counts.sum(axis=1) > 0
    assert (counts[asked].sum(axis=1) == 200).all()
    assert not asked[TRAIN.offsets[:-1]].any()
    assert counts[asked].min() > 20


def test_labels_of_drafts_by_hand() -> None:
    """Two targets, two drafts each, two codes an item: a hit and a draft that fails at code 2; both fail at code 1."""
    ids = SemanticIds(np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.int32), 2)
    model = tiny_backbone(tiny_config(), ids, replace(tiny_catalogue(4), attributes=np.array([[0], [1], [0], [2]])))
    told = draft_labels(torch.tensor([[0, 1, 3], [2, 3, 1]]), torch.tensor([0, 0]), model, k=2)
    assert told == {"hits": 0.5, "location": [0.5, 0.25, 0.25], "match": [0.5]}
