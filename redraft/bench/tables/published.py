"""Numbers that others published, beside which ours stand: R@5, N@5, R@10, N@10 on test, leave-one-out."""

from typing import NamedTuple

__all__ = ["ABLATION", "PUBLISHED", "REFLECTION", "Published"]

PAPER = "GRC paper, arXiv 2602.23639"


class Published(NamedTuple):
    """One published row."""

    recall_5: float
    ndcg_5: float
    recall_10: float
    ndcg_10: float
    source: str


PUBLISHED: dict[str, dict[str, Published]] = {
    "Instruments": {
        "dssm": Published(0.0618, 0.0447, 0.0845, 0.0528, PAPER),
        "sasrec": Published(0.0690, 0.0583, 0.0918, 0.0657, PAPER),
        "hstu": Published(0.0804, 0.0636, 0.1023, 0.0702, PAPER),
        "tiger": Published(0.0849, 0.0715, 0.1078, 0.0776, PAPER),
        "rearec-erl": Published(0.0825, 0.0678, 0.1064, 0.0747, PAPER),
        "cobra": Published(0.0861, 0.0688, 0.1095, 0.0763, PAPER),
        "gc-sft": Published(0.0875, 0.0743, 0.1102, 0.0791, PAPER),
        "grc-sft": Published(0.0912, 0.0771, 0.1148, 0.0812, PAPER),
        "grc-rl": Published(0.0946, 0.0794, 0.1208, 0.0873, PAPER),
    },
    "Beauty": {
        "sasrec": Published(0.0387, 0.0249, 0.0605, 0.0318, "S3-Rec, arXiv 2008.07873"),
        "tiger": Published(0.0454, 0.0321, 0.0648, 0.0384, "TIGER, arXiv 2305.05065"),
        "cobra": Published(0.0537, 0.0395, 0.0725, 0.0456, "COBRA, arXiv 2503.02453"),
    },
}
"""By data set and method."""

REFLECTION: dict[str, tuple[float, float, float, float]] = {
    "grc-sft": (0.5632, 0.5335, 0.7442, 0.7185),
    "grc-rl": (0.6126, 0.5994, 0.7773, 0.7620),
}
"""Acc_loc@5, Acc_loc@10, Acc_cat@5, Acc_cat@10 on the paper's industrial data set (its Table 2)."""

ABLATION: dict[str, tuple[float, float, float, float]] = {
    "grc-rl": (0.1309, 0.1648, 0.2928, 0.3576),
    "grc-sft": (0.1207, 0.1512, 0.2735, 0.3389),
    "grc-rl-no-task": (0.0973, 0.1126, 0.2341, 0.2953),
    "grc-rl-no-correction": (0.1238, 0.1573, 0.2776, 0.3412),
    "grc-rl-no-location": (0.1275, 0.1621, 0.2873, 0.3519),
    "grc-rl-no-semantic": (0.1282, 0.1614, 0.2864, 0.3497),
    "grc-rl-no-improvement": (0.1244, 0.1598, 0.2827, 0.3463),
    "grc-rl-no-egrs": (0.1287, 0.1629, 0.2801, 0.3428),
}
"""R@5, R@10, R@100, R@200 on the paper's industrial data set (its Table 3)."""
