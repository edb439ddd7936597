"""A confidence sequence: intervals that hold on all days at once, so that one may look every day.

Asymptotic, by a normal mixture (Robbins 1970; Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, arXiv 2103.06476):
with the information v = 1 / se^2 of an estimate, the interval is the estimate +- sqrt((v + l) log((v + l) / (l
alpha^2))) / v. The mixture's l is chosen so that the interval is narrowest at the horizon.
"""

import numpy as np
from scipy.special import lambertw

from redraft.records import FloatArray

__all__ = ["half_widths"]


def half_widths(se: FloatArray, days: int, alpha: float = 0.05) -> FloatArray:
    """Half the width of the sequence [..., T] after each of T daily looks at estimates with standard errors [..., T].

    days: the horizon. The information at the horizon is foreseen as that of the first look times the days.
    """
    information = se**-2.0
    widest = -lambertw(-(alpha**2) / np.e, -1).real - 1
    mixture = information[..., :1] * days / widest
    sum_ = information + mixture
    return np.sqrt(sum_ * np.log(sum_ / (mixture * alpha**2))) / information
