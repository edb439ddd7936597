"""How the learning rate moves while something is trained."""

import math

__all__ = ["learning_rate"]


def learning_rate(peak: float, step: int, n_steps: int) -> float:
    """The rate of a step: a linear warm-up over 1/40 of the steps, then a cosine down to 2 % of the peak."""
    warm_up = min(1.0, (step + 1) / max(1, n_steps // 40))
    return peak * warm_up * (0.02 + 0.49 * (1 + math.cos(math.pi * step / n_steps)))
