"""A kind of label that the paper does not have, added in one place: everything follows."""

from pathlib import Path

import numpy as np
import pytest
import torch
from loops import SPLIT, grpo_run, sft_run
from stopping import metrics

from redraft.bench.tables.correct import observe
from redraft.bench.tables.reflection import reflection_rows
from redraft.decode.correction import Correction
from redraft.decode.engine import Plan
from redraft.model.slots import DEFAULT, KINDS, Case, Kind, check_kinds, histories_before, label_drafts
from redraft.recommender import SelfCorrectingRecommender, load
from redraft.records import InputError
from redraft.serve.explain import trajectory_tables


def bought_before(case: Case) -> torch.Tensor:
    """How often the history has items with the draft's value of the first attribute: never, once, more often."""
    value = case.attributes[case.drafts][..., :1]
    bought = case.attributes[case.history.clamp(min=0)][..., 0]
    return ((bought == value) & (case.history >= 0)).sum(dim=-1).clamp(max=2)


SLOTS = (*DEFAULT, "kind bought")


@pytest.fixture(autouse=True)
def third_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("never", "once", "often")
    monkeypatch.setitem(KINDS, "kind bought", Kind("kind bought", lambda _: words, bought_before, judges=False))


def test_it_is_learned_recommended_with_explained_counted_and_rewarded(tmp_path: Path) -> None:
    sft_run(tmp_path / "sft", slots=SLOTS, epochs=8, learning_rate=1e-2, evaluate_every=8)
    lines = metrics(tmp_path / "sft")
    assert lines[-1]["reflection"] < lines[0]["reflection"]
    model = load(tmp_path / "sft", beams=10, correction=Correction(budget=6, hypotheses=4))
    assert isinstance(model, SelfCorrectingRecommender)
    names = ["location", *model.catalogue.attribute_names, "kind bought"]
    assert model.recommend(SPLIT.test.histories, 5).items.shape == (30, 5)

    told = model.trajectory([3, 14, 15], 5)
    assert [slot.name for slot in told.slots] == names
    assert [part.shape for part in told.said] == [(10, 4), (10, 2), (10, 2), (10, 3)]
    assert told.sayings(0)[-1].split(" (")[0] in {f"kind bought {word}" for word in ("never", "once", "often")}
    drafts, _ = trajectory_tables(told, model.catalogue, Plan(5, 10, False, None, 0.0))
    assert all("kind bought" in cell for cell in drafts.columns[2]._cells)

    [seen] = observe(model, SPLIT.test, [Correction(budget=6)], filter_seen=False)
    rows = reflection_rows("grc", seen, model.model.slots(model.catalogue.attribute_names))
    assert [row["label"] for row in rows] == names
    assert np.array(rows[-1]["confusion@10"]).shape == (3, 3)
    history, kinds = SPLIT.test.histories.history(7)[-8:], model.catalogue.attributes[:, 0]
    told = model.trajectory(SPLIT.test.histories.history(7).tolist(), 5, filter_seen=False)
    counts = [min(2, int((kinds[history] == kinds[item]).sum())) for item in told.drafts]
    assert seen.labels[7, :, -1].tolist() == counts

    assert grpo_run(tmp_path / "rl", start=model, steps=2) is None
    assert {"match_right", "entropy reflection"} <= metrics(tmp_path / "rl")[-1].keys()
    assert [kind.name for kind in load(tmp_path / "rl", beams=10).model.kinds] == [*SLOTS]


def test_a_label_reads_only_what_came_before_its_target() -> None:
    history = torch.tensor([[-1, 4, 5, 6]])
    expected = [[[-1, 4, -1, -1], [-1, 4, 5, -1], [-1, 4, 5, 6]]]
    assert histories_before(history, 3).tolist() == expected
    assert histories_before(history, 1).tolist() == [[[-1, 4, 5, 6]]]
    attributes = torch.tensor([[0], [0], [1], [0], [0], [1], [0]])
    case = Case(
        torch.tensor([[0, 0, 0]]), torch.tensor([[5, 6, 2]]), histories_before(history, 3), attributes, attributes
    )
    assert bought_before(case).tolist() == [[1, 1, 2]]


def test_kinds_that_cannot_be_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    check_kinds(SLOTS)
    for names, message in (
        (("location", "colour"), "no kind of label is called 'colour'; there are location, match, kind bought"),
        (("match",), "give location first, and each kind once"),
        (("location", "match", "match"), "give location first, and each kind once"),
    ):
        with pytest.raises(InputError, match=message):
            check_kinds(names)
    wild = Kind("wild", lambda _: ("no", "yes"), lambda case: torch.full_like(case.drafts, 2))
    items = torch.zeros((1, 1), dtype=torch.int64)
    with pytest.raises(InputError, match="the label function of wild gives a class outside its 2; fix it"):
        label_drafts((wild,), Case(items, items, items[..., None], items, items))
