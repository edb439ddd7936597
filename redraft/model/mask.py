"""Who may attend to whom in the three-segment template. Pure functions of L and the number of slots."""

from typing import NamedTuple

import torch

__all__ = ["Segments", "segments", "template_mask"]


class Segments(NamedTuple):
    """Where the segments of a template stand (paper Eq. 7).

    draft: L + 1 positions, BOS1 and the draft's L codes. slots: K + 1 positions, or none without reflection.
    correction: L positions, BOS3 and all but the last code. The delimiters EOF1 to EOF3 are known beforehand, so they
    take no position.
    """

    draft: slice
    slots: slice
    correction: slice

    @property
    def length(self) -> int:
        """Positions in all."""
        return int(self.correction.stop)


def segments(n_levels: int, n_slots: int) -> Segments:
    """The template's segments for L levels and K + 1 slots (0 without reflection)."""
    ends = n_levels + 1, n_levels + 1 + n_slots, 2 * n_levels + 1 + n_slots
    return Segments(slice(0, ends[0]), slice(ends[0], ends[1]), slice(ends[1], ends[2]))


def template_mask(n_levels: int, n_slots: int) -> torch.Tensor:
    """bool [P, P]: whether the row's position may attend to the column's.

    The draft is causal. A slot sees the draft and itself, no other slot (Eq. 8). The correction sees the draft and
    what it has written (Eq. 9); the labels reach it as values in BOS3, not through the slots, whose inputs and states
    are the same whatever the labels.
    """
    at = segments(n_levels, n_slots)
    mask = torch.eye(at.length, dtype=torch.bool)
    mask[:, at.draft] = True
    mask[at.draft, at.draft] = torch.ones(n_levels + 1, n_levels + 1, dtype=torch.bool).tril()
    mask[at.correction, at.correction] = torch.ones(n_levels, n_levels, dtype=torch.bool).tril()
    return mask
