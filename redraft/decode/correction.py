"""How a model that corrects itself spends its effort: as a user says it, and as a program is made for it."""

import math
from dataclasses import dataclass

from redraft.decode.merge import MergePolicy
from redraft.records import InputError

__all__ = ["DEFAULT_CORRECTION", "Correction", "CorrectionPlan"]

MOST = 1000
"""Label vectors of a draft; more would all but never hold the right one."""


@dataclass(frozen=True)
class CorrectionPlan:
    """How drafts are corrected, and how many corrections are kept; see redraft.decode.correct."""

    n_beams: int
    budget: int
    alpha: float
    hypotheses: int
    policy: MergePolicy


@dataclass(frozen=True)
class Correction:
    """How a model that corrects itself spends its effort; other models have no use for it."""

    budget: int | None = None
    """Drafts that may be corrected, from 0 to the beam budget [a quarter of the beams]."""
    alpha: float = 0.2
    """Weight of the reflection's entropy in the choice of drafts to correct (paper Eq. 25)."""
    hypotheses: int = 1
    """Label vectors of each such draft that are followed, most probable first."""
    policy: MergePolicy = "union-logsumexp"
    """How drafts and corrections become one list."""

    def spent(self, beams: int) -> int:
        """The budget for so many drafts.

        Raises InputError for a budget outside 0 to beams, a negative alpha, and less than one hypothesis.
        """
        budget = beams // 4 if self.budget is None else self.budget
        if not 0 <= budget <= beams:
            raise InputError(
                f"budget = {budget}, but there are 0 to {beams} drafts to correct; lower it or raise beams"
            )
        if not 0 <= self.alpha < math.inf:
            raise InputError(f"alpha = {self.alpha}: below 0, drafts in doubt would be corrected last; it must be >= 0")
        if not 1 <= self.hypotheses <= MOST:
            raise InputError(
                f"hypotheses = {self.hypotheses}: a correction needs labels to start from; it must be >= 1, "
                f"and at most {MOST}"
            )
        return budget

    def plan(self, beams: int) -> CorrectionPlan:
        """What a program for so many drafts does: it keeps one correction for each start, but no more than drafts."""
        budget = self.spent(beams)
        return CorrectionPlan(min(beams, budget * self.hypotheses), budget, self.alpha, self.hypotheses, self.policy)


DEFAULT_CORRECTION = Correction()
