"""How much corrections heed the labels that they are given, and what reflection knows of drafts."""

import torch

from redraft.model.slots import histories_before
from redraft.model.template import GRC
from redraft.records import Reflection
from redraft.train.losses import next_item_nll

__all__ = ["heeding"]


@torch.inference_mode()
def heeding(model: GRC, history: torch.Tensor, drafts: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    """Means over drafts [U, R] of users with histories [U, T] and targets [U]; items, -1 pads histories alone.

    kept, told wrong and told right: P(first code of the correction = the draft's) under either label, which an ideal
    correction makes 0 and 1. correction NLL: of the target, given true labels; ideal: of the generator restricted to
    what their location leaves. location NLL: of reflection; implied: of the generator's own probabilities; base: of
    the labels' shares among these drafts. A model without labels has the correction's alone.
    """
    wanted = targets[:, None].expand_as(drafts)
    labels = model.labels(drafts, wanted, histories_before(history, 1).expand(-1, drafts.shape[1], -1))
    encoded = model.encode(history)
    said = model.trajectory(encoded, drafts, labels, wanted)
    measured = {"correction NLL": float(next_item_nll(said.correction, model.codes[wanted]).mean())}
    if said.reflection is None:
        return measured
    wrong, right = labels.clone(), torch.where(model.right_labels() >= 0, model.right_labels(), labels)
    wrong[..., 0] = 0
    first = model.codes[drafts][..., :1]
    for name, told in (("told wrong", wrong), ("told right", right)):
        written = model.trajectory(encoded, drafts, told, wanted).correction[:, :, 0].float().softmax(dim=-1)
        measured[f"kept, {name}"] = float(written.gather(-1, first).mean())
    own = model(history, targets[:, None]).float().log_softmax(dim=-1).expand(-1, drafts.shape[1], -1, -1)
    measured["ideal correction NLL"] = float(_ideal_nll(own, model.codes[wanted], model.codes[drafts]).mean())
    location, n_classes = labels[..., 0], model.n_levels + 1
    shares = torch.bincount(location.flatten(), minlength=n_classes).double() / location.numel()
    return measured | {
        "location NLL": _location_nll(said.reflection, location),
        "implied location NLL": float(_implied_nll(said.target, model.codes[drafts], location).mean()),
        "base location NLL": float(-torch.special.xlogy(shares, shares).sum()),
    }


def _location_nll(reflection: Reflection, location: torch.Tensor) -> float:
    said = reflection.location.float().log_softmax(dim=-1)
    return float(-said.gather(-1, location[..., None]).mean())


def _ideal_nll(log_probs: torch.Tensor, targets: torch.Tensor, drafts: torch.Tensor) -> torch.Tensor:
    """The NLL [U, R] of targets under what is left of log_probs [U, R, L, C] by how many codes of drafts are right.

    targets, drafts: codes [U, R, L]. The right codes are given, and the next is not the draft's; a right draft costs 0.
    """
    right = (targets == drafts).long().cumprod(dim=-1)
    first_wrong = (right == 0) & (torch.nn.functional.pad(right, (1, 0), value=1)[..., :-1] == 1)
    written, refused = (log_probs.gather(-1, codes[..., None])[..., 0] for codes in (targets, drafts))
    left = torch.where(first_wrong, torch.log1p(-refused.exp().clamp(max=1 - 1e-6)), 0.0)
    return (left - written * (right == 0)).sum(dim=-1)


def _implied_nll(logits: torch.Tensor, drafts: torch.Tensor, location: torch.Tensor) -> torch.Tensor:
    """The NLL [U, R] of locations by the probabilities of a draft's codes [U, R, L] under its logits [U, R, L, C]."""
    steps = logits.float().log_softmax(dim=-1).gather(-1, drafts[..., None])[..., 0]
    reached = torch.nn.functional.pad(steps.cumsum(dim=-1), (1, 0)).exp()
    ends = torch.nn.functional.pad(reached[..., 1:], (0, 1))
    return -(reached - ends).clamp(min=1e-9).log().gather(-1, location[..., None])[..., 0]
