import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from redraft.decode.merge import POLICIES, merge

logs = st.floats(-20, 0, allow_nan=False)
drafts = st.lists(st.tuples(logs, st.sampled_from([0.0, -0.5, -math.inf])), min_size=1, max_size=6)
corrections = st.lists(st.tuples(st.integers(-1, 7), logs), min_size=1, max_size=8)


@given(drafts, corrections, st.sampled_from(POLICIES), st.integers(1, 12))
@settings(max_examples=200, deadline=None)
def test_each_policy_is_what_it_says(drafted, written, policy, k: int) -> None:
    """Against a dictionary of paths. Drafts are the items 0, 1, 2, ...; -1 pads the corrections."""
    paths: dict[int, list[float]] = {}
    for item, (score, kept) in enumerate(drafted):
        if policy != "replace":
            paths[item] = [score]
        elif kept > -math.inf:
            paths[item] = [score + kept]
    for item, score in written:
        if item >= 0:
            paths.setdefault(item, []).append(score)
    combine = max if policy == "union-best" else lambda scores: math.log(sum(map(math.exp, scores)))
    wanted = sorted(((combine(scores), item) for item, scores in paths.items()), reverse=True)[:k]
    items, scores = merge(
        (torch.arange(len(drafted))[None], torch.tensor([[score for score, _ in drafted]], dtype=torch.float64)),
        torch.tensor([[kept for _, kept in drafted]], dtype=torch.float64),
        (
            torch.tensor([[item for item, _ in written]]),
            torch.tensor([[score if item >= 0 else -math.inf for item, score in written]], dtype=torch.float64),
        ),
        policy,
        k,
    )
    found = [(score, item) for score, item in zip(scores[0].tolist(), items[0].tolist()) if item >= 0]
    assert [score for score, _ in found] == pytest.approx([score for score, _ in wanted])
    assert len({item for _, item in found}) == len(found)
    for score, item in found:
        assert combine(paths[item]) == pytest.approx(score)
    assert (scores[0, len(found) :] == -math.inf).all()
