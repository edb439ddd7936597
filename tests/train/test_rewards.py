import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import labels_of

from redraft.model.slots import KINDS, Case, label_drafts
from redraft.records import InputError, Labels
from redraft.train.rewards import (
    RewardTerms,
    RewardWeights,
    check_weights,
    hits,
    improvement,
    location_fixed,
    location_right,
    match_fixed,
    match_right,
    reward_terms,
    total_reward,
)

TARGET = torch.tensor([5, 1, 2, 7])


def codes(*rows: tuple[int, ...]) -> torch.Tensor:
    return torch.tensor(rows)


def test_hits_by_hand() -> None:
    """Eq. 14, target (5, 1, 2, 7): a right code counts wherever it stands, not only in a right prefix."""
    assert hits(codes((5, 1, 2, 7), (5, 0, 2, 0), (1, 5, 7, 2), (0, 1, 2, 7)), TARGET).tolist() == [4, 2, 0, 3]


def test_the_label_of_the_location_by_hand() -> None:
    """Eq. 17: 1 exactly where the predicted position is the real one; no part marks for being near."""
    assert location_right(torch.tensor([0, 2, 4, 1]), torch.tensor([0, 1, 4, 2])).tolist() == [1, 0, 1, 0]


def test_the_fixed_share_of_the_region_by_hand() -> None:
    """Eq. 18, target (5, 1, 2, 7), draft (5, 0, 0, 7): wrong at positions 2 and 3.

    Correction (5, 1, 2, 0) fixes both. r_loc = 2: region {2, 3, 4}, 2 of 3 fixed. r_loc = 1: 2 of 4. r_loc = 3:
    region {3, 4}, only position 3 counts, 1 of 2. r_loc = 4: nothing fixed there. r_loc = 5: empty region, 0.
    Correction (5, 0, 2, 7) fixes position 3 alone: r_loc = 2 gives 1 of 3. What was right already is no fix.
    """
    draft = codes((5, 0, 0, 7))
    both = location_fixed(torch.tensor([1, 0, 2, 3, 4]), draft, codes((5, 1, 2, 0)), TARGET)
    assert both.tolist() == pytest.approx([2 / 3, 2 / 4, 1 / 2, 0, 0])
    assert location_fixed(torch.tensor([1]), draft, codes((5, 0, 2, 7)), TARGET).tolist() == pytest.approx([1 / 3])


def test_the_labels_of_the_attributes_by_hand() -> None:
    """Eq. 19 with K = 2: two, one and no label right."""
    predicted, actual = torch.tensor([[1, 0], [1, 1], [0, 1]]), torch.tensor([[1, 0], [1, 0], [1, 0]])
    assert match_right(predicted, actual).tolist() == [1, 0.5, 0]


def test_mended_attributes_by_hand() -> None:
    """Eq. 20 with K = 1: called wrong, was wrong, matches now. Any other of the eight cases counts 0."""
    cases = [(p, b, a) for p in (0, 1) for b in (0, 1) for a in (0, 1)]
    predicted, before, after = (torch.tensor([[case[i]] for case in cases]) for i in range(3))
    assert match_fixed(predicted, before, after).tolist() == [float(case == (0, 0, 1)) for case in cases]


def test_improvement_by_hand() -> None:
    """Eq. 21: from 1 hit to 3 counts 2; no change and a loss count 0."""
    assert improvement(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([3.0, 2.0, 0.0])).tolist() == [2, 0, 0]


def terms_of(
    drafts: torch.Tensor,
    labels: Labels,
    corrections: torch.Tensor,
    targets: torch.Tensor,
    table: torch.Tensor,
    attributes: torch.Tensor,
) -> RewardTerms:
    """For items [U, G] and targets [U], with the slots of the paper."""
    target, history = targets[:, None], targets[:, None, None]
    actual, after = (
        label_drafts(tuple(KINDS.values()), Case(items, target, history, table, attributes))
        for items in (drafts, corrections)
    )
    right = torch.tensor([table.shape[1], *[1] * attributes.shape[1]])
    return reward_terms(table[drafts], labels, table[corrections], table[target], actual, after, right)


def test_a_slot_that_does_not_judge_can_be_right_but_not_fixed() -> None:
    """Two slots beside the location, the second of three classes: it says 2, which is so, and becomes 1."""
    item = torch.zeros((1, 1, 2), dtype=torch.int64)
    said, after = torch.tensor([[[2, 0, 2]]]), torch.tensor([[[2, 1, 1]]])
    terms = reward_terms(item, said, item, item, said, after, torch.tensor([2, 1, -1]))
    assert (float(terms.match_right), float(terms.match_fixed)) == (1.0, 1.0)


def test_the_whole_reward_by_hand() -> None:
    """Eq. 13, 15, 16 with the paper's weights, for L = 3 and K = 1.

    Items 0 to 3: (1, 1, 1) of kind 0, (1, 2, 1) of kind 1, (2, 2, 2) of unknown kind, (1, 1, 2) of kind 0. Target 0.
    First trajectory: draft 1, "wrong from position 2, other kind", correction 3. Draft hits 2, correction hits 2,
    location right, region {2, 3} with position 2 fixed: 1/2, kind judged right, kind mended, no improvement:
    R = 2 + 2 x 2 + 2.2 (1.0 x 1.5 + 0.8 x 2 + 0) = 12.82.
    Second: draft 2, "all right, same kind", correction 0. Hits 0 and 3, label wrong, empty region 0, kind judged wrong
    (the unknown kind matches nothing) and so not mended, improvement 3: R = 0 + 2 x 3 + 2.2 x 3 = 12.6.
    """
    table, kinds = codes((1, 1, 1), (1, 2, 1), (2, 2, 2), (1, 1, 2)), torch.tensor([[0], [1], [-1], [0]])
    labels = labels_of(torch.tensor([[1, 3]]), torch.tensor([[[0], [1]]]))
    terms = terms_of(torch.tensor([[1, 2]]), labels, torch.tensor([[3, 0]]), torch.tensor([0]), table, kinds)
    assert total_reward(terms, RewardWeights()).tolist()[0] == pytest.approx([12.82, 12.6])
    assert total_reward(terms, RewardWeights(task=0)).tolist()[0] == pytest.approx([6.82, 6.6])
    assert total_reward(terms, RewardWeights(correction=0)).tolist()[0] == pytest.approx([6, 6])
    assert total_reward(terms, RewardWeights(location=0)).tolist()[0] == pytest.approx([9.52, 12.6])
    assert total_reward(terms, RewardWeights(semantic=0)).tolist()[0] == pytest.approx([9.3, 12.6])
    assert total_reward(terms, RewardWeights(improvement=0)).tolist()[0] == pytest.approx([12.82, 6])


def by_the_book(draft, location, matches, correction, target, codes, attributes, w: RewardWeights) -> float:
    """Eq. 13 to 21 for one trajectory, symbol by symbol; positions count from 1 as in the paper."""
    z0, z1, gt = (codes[item] for item in (draft, correction, target))
    positions = range(1, len(gt) + 1)
    n_attributes = len(attributes[target])
    r_loc = location + 1
    real = min([t for t in positions if z0[t - 1] != gt[t - 1]] + [len(gt) + 1])
    l0 = sum(z0[t - 1] == gt[t - 1] for t in positions)
    l1 = sum(z1[t - 1] == gt[t - 1] for t in positions)
    region = {t for t in positions if t >= r_loc}
    fixed = {t for t in positions if z0[t - 1] != gt[t - 1] and z1[t - 1] == gt[t - 1]}
    r_location = float(r_loc == real) + (len(region & fixed) / len(region) if region else 0.0)
    r_semantic = 0.0
    for k in range(n_attributes):
        known = attributes[target][k] >= 0
        same0 = known and attributes[draft][k] == attributes[target][k]
        same1 = known and attributes[correction][k] == attributes[target][k]
        r_semantic += ((matches[k] == same0) + (matches[k] == 0 and not same0 and same1)) / n_attributes
    r_delta = l1 - l0 if l1 > l0 else 0
    r_cor = w.location * r_location + w.semantic * r_semantic + w.improvement * r_delta
    return w.task * (l0 + w.last * l1) + w.correction * r_cor


weight = st.floats(0, 3)
weights = st.builds(RewardWeights, weight, weight, weight, weight, weight, weight)


@given(st.integers(1, 4), st.integers(0, 3), weights, st.integers(0, 9999))
def test_the_reward_is_the_papers_on_random_trajectories(levels: int, kinds: int, w: RewardWeights, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def draw(high: int, *shape: int, low: int = 0) -> torch.Tensor:
        return torch.randint(low, high, shape, generator=generator)

    n_items, users, group = 6, 2, 3
    table, attributes = draw(3, n_items, levels), draw(3, n_items, kinds, low=-1)
    drafts, corrections, targets = draw(n_items, users, group), draw(n_items, users, group), draw(n_items, users)
    labels = labels_of(draw(levels + 1, users, group), draw(2, users, group, kinds))
    rewards = total_reward(terms_of(drafts, labels, corrections, targets, table, attributes), w)
    assert rewards.shape == (users, group)
    for u in range(users):
        for g in range(group):
            expected = by_the_book(
                int(drafts[u, g]),
                int(labels[u, g, 0]),
                labels[u, g, 1:].tolist(),
                int(corrections[u, g]),
                int(targets[u]),
                table.tolist(),
                attributes.tolist(),
                w,
            )
            assert float(rewards[u, g]) == pytest.approx(expected, abs=1e-4)


def test_without_attributes_there_is_no_semantic_reward() -> None:
    nothing = torch.zeros((1, 2, 0), dtype=torch.int64)
    assert match_right(nothing, nothing).tolist() == [[0, 0]]
    assert match_fixed(nothing, nothing, nothing).tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"last": -1.0}, "reward weight last = -1.0"),
        ({"semantic": math.nan}, "reward weight semantic = nan"),
        ({"task": math.inf}, "reward weight task = inf"),
        (dict.fromkeys(RewardWeights.__dataclass_fields__, 0.0), "all reward weights are 0"),
    ],
)
def test_weights_that_cannot_be_used(changes: dict[str, float], message: str) -> None:
    check_weights(RewardWeights())
    with pytest.raises(InputError, match=message):
        check_weights(RewardWeights(**changes))
