import torch
from hypothesis import given
from hypothesis import strategies as st

from redraft.model.mask import segments, template_mask


def test_a_mask_small_enough_to_draw() -> None:
    """Two levels, one attribute: BOS1 z1 z2 | location match | BOS3 y1."""
    drawn = ["1......", "11.....", "111....", "1111...", "111.1..", "111..1.", "111..11"]
    assert template_mask(2, 2).int().tolist() == [[int(cell == "1") for cell in row] for row in drawn]


@given(st.integers(1, 6), st.integers(0, 4))
def test_segments_tile_the_template(n_levels: int, n_slots: int) -> None:
    at = segments(n_levels, n_slots)
    assert (at.draft.start, at.draft.stop, at.slots.stop) == (0, at.slots.start, at.correction.start)
    assert at.length == 2 * n_levels + 1 + n_slots == len(template_mask(n_levels, n_slots))


@given(st.integers(1, 6), st.integers(0, 4))
def test_nobody_sees_later_segments_or_other_slots(n_levels: int, n_slots: int) -> None:
    mask, at = template_mask(n_levels, n_slots), segments(n_levels, n_slots)
    assert not mask.triu(1).any(), "nothing sees what comes after it"
    assert mask.diagonal().all()
    assert mask[at.slots, at.draft].all()
    assert mask[at.correction, at.draft].all()
    assert not mask[at.correction, at.slots].any()
    assert torch.equal(mask[at.slots, at.slots], torch.eye(n_slots, dtype=torch.bool))
