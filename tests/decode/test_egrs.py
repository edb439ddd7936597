import math

import pytest
import torch
from tiny import reflection_of

from redraft.decode.egrs import label_hypotheses, reflection_entropy, schedule
from redraft.records import Reflection


def logits(*probabilities: float) -> list[float]:
    return [math.log(p) for p in probabilities]


def test_entropy_by_hand() -> None:
    """Eq. 24 with three slots.

    Draft 0: location uniform over 4 labels, H = ln 4 = 1.386294; match (1/2, 1/2), H = ln 2 = 0.693147;
    match (3/4, 1/4), H = 0.75 ln(4/3) + 0.25 ln 4 = 0.562335; mean = 2.641777 / 3 = 0.880592.
    Draft 1: location (1/2, 1/4, 1/8, 1/8), H = 1.75 ln 2 = 1.213008; twice (1/2, 1/2); mean = 2.599302 / 3 = 0.866434.
    """
    location = torch.tensor([logits(0.25, 0.25, 0.25, 0.25), logits(0.5, 0.25, 0.125, 0.125)])
    match = torch.tensor([[logits(0.5, 0.5), logits(0.75, 0.25)], [logits(0.5, 0.5), logits(0.5, 0.5)]])
    entropy = reflection_entropy(reflection_of(location[None], match[None]))
    assert entropy.tolist()[0] == pytest.approx([0.880592, 0.866434], abs=1e-6)


def test_without_attributes_the_location_alone_counts() -> None:
    reflection = reflection_of(torch.tensor([[logits(0.5, 0.5)]]), torch.zeros(1, 1, 0, 2))
    assert reflection_entropy(reflection).item() == pytest.approx(math.log(2))


def test_schedule_by_hand() -> None:
    """Eq. 25 with alpha 0.5: -1 + 0.5 * 0.2 = -0.9, -2 + 0.5 * 3 = -0.5, -1.2 + 0.5 * 0.5 = -0.95.

    Draft 3 is settled, so its high score counts for nothing.
    """
    log_probs = torch.tensor([[-1.0, -2.0, -1.2, -0.1]])
    entropy = torch.tensor([[0.2, 3.0, 0.5, 9.0]])
    settled = torch.tensor([[False, False, False, True]])
    rows, used = schedule(log_probs, entropy, settled, alpha=0.5, budget=2)
    assert rows.tolist() == [[1, 0]]
    assert used.all()
    rows, used = schedule(log_probs, entropy, settled, alpha=0.0, budget=2)
    assert rows.tolist() == [[0, 2]], "without entropy the likeliest drafts come first"
    rows, used = schedule(log_probs, entropy, settled, alpha=0.5, budget=4)
    assert used.tolist() == [[True, True, True, False]]


def test_hypotheses_by_hand() -> None:
    """Two levels and one attribute: location (0.5, 0.2, 0.3 = right), match (0.9 no, 0.1 yes).

    Wrong from code 1, no match: 0.5 * 0.9 = 0.45; wrong from code 2, no match: 0.2 * 0.9 = 0.18; wrong from code 1,
    match: 0.5 * 0.1 = 0.05; wrong from code 2, match: 0.2 * 0.1 = 0.02. Together 0.7, the rest is "right".
    """
    said = reflection_of(torch.tensor(logits(0.5, 0.2, 0.3)), torch.tensor([logits(0.9, 0.1)]))
    labels, log_probs = label_hypotheses(said, 3)
    assert log_probs.exp().tolist() == pytest.approx([0.45, 0.18, 0.05])
    assert labels[:, 0].tolist() == [0, 1, 0]
    assert labels[:, 1:].tolist() == [[0], [0], [1]]
    assert label_hypotheses(said, 99)[1].exp().tolist() == pytest.approx([0.45, 0.18, 0.05, 0.02])


def test_hypotheses_with_a_slot_of_three_classes() -> None:
    """Location (0.6, 0.4 = right), match (0.7, 0.3), a third slot (0.2, 0.5, 0.3): the best are 0.6 * 0.7 * 0.5, then
    0.6 * 0.7 * 0.3, then 0.6 * 0.3 * 0.5; all six vectors together have 0.6.
    """
    third = torch.tensor([logits(0.2, 0.5, 0.3)])
    said = Reflection((torch.tensor([logits(0.6, 0.4)]), torch.tensor([logits(0.7, 0.3)]), third))
    labels, log_probs = label_hypotheses(said, 3)
    assert log_probs.exp().tolist() == pytest.approx([0.21, 0.126, 0.09])
    assert labels.tolist() == [[0, 0, 1], [0, 0, 2], [0, 1, 1]]
    assert label_hypotheses(said, 99)[1].exp().sum().item() == pytest.approx(0.6)
    entropies = [-sum(p * math.log(p) for p in slot) for slot in ((0.6, 0.4), (0.7, 0.3), (0.2, 0.5, 0.3))]
    assert reflection_entropy(said).item() == pytest.approx(sum(entropies) / 3)


def test_hypotheses_without_attributes() -> None:
    labels, log_probs = label_hypotheses(reflection_of(torch.tensor(logits(0.2, 0.5, 0.3)), torch.zeros(0, 2)), 9)
    assert labels[:, 0].tolist() == [1, 0]
    assert labels.shape == (2, 1)
    assert log_probs.exp().tolist() == pytest.approx([0.5, 0.2])
