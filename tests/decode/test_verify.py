import math

import pytest
import torch

from redraft.decode.verify import verified


def test_by_hand() -> None:
    """-1 + 0.5 * 0 = -1, -2 + 0.5 * 4 = 0, -3 + 0.5 * 3 = -1.5; what may not be shown stays last."""
    items, scores = torch.tensor([[7, 5, 3, -1]]), torch.tensor([[-1.0, -2.0, -3.0, -math.inf]])
    logits = torch.tensor([[0.0, 4.0, 3.0, 99.0]])
    items, scores = verified(items, scores, logits, 0.5, 4)
    assert items.tolist() == [[5, 7, 3, -1]]
    assert scores.tolist() == [pytest.approx([0.0, -1.0, -1.5, -math.inf])]


def test_a_list_is_cut_after_the_second_look() -> None:
    items, _ = verified(torch.tensor([[1, 2]]), torch.tensor([[0.0, -1.0]]), torch.tensor([[0.0, 9.0]]), 1.0, 1)
    assert items.tolist() == [[2]]
