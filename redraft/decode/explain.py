"""How lists came about: items code by code, or drafts, what the model thought of them, and what it wrote instead."""

from dataclasses import dataclass

import torch

from redraft.decode.correct import TrajectoryBatch
from redraft.prefix_tree import PrefixTree
from redraft.records import Slot, Trajectory

__all__ = ["CodeStep", "Explanation", "explanations", "trajectory_of_one"]


@dataclass(frozen=True)
class CodeStep:
    """One written code: how probable the model found it, how many codes it preferred, and how many items still fit."""

    code: int
    probability: float
    preferred: int
    items_left: int


@dataclass(frozen=True)
class Explanation:
    """How one item came to be recommended: its log-probability is the sum over the steps.

    verifier: what a verifier or an item head added to that in the item's score: trust times its logit, else 0.
    """

    item: int
    log_prob: float
    verifier: float
    steps: tuple[CodeStep, ...]


def explanations(
    items: torch.Tensor, codes: torch.Tensor, log_probs: torch.Tensor, added: torch.Tensor, trie: PrefixTree
) -> list[Explanation]:
    """Of items [n] with codes [n, L]: by the log-probabilities [n, L, C] of all codes, and what was added [n]."""
    written = log_probs.gather(-1, codes[..., None])
    preferred = (log_probs > written).sum(dim=-1)
    depths = range(1, codes.shape[1] + 1)
    left = torch.stack([trie.n_below(trie.ancestors(trie.leaves[items], depth), depth) for depth in depths], dim=1)
    steps = [
        tuple(map(CodeStep, *row))
        for row in zip(codes.tolist(), written[..., 0].exp().tolist(), preferred.tolist(), left.tolist())
    ]
    totals = written.sum(dim=(1, 2)).tolist()
    return list(map(Explanation, items.tolist(), totals, added.tolist(), steps))


def trajectory_of_one(
    batch: TrajectoryBatch, slots: tuple[Slot, ...], items: torch.Tensor, scores: torch.Tensor
) -> Trajectory:
    """What happened for the first user of a batch, and the list [k] that came of it; slots: what the model labels."""
    n_drafts, n_paths = (int((beams.items[0] >= 0).sum()) for beams in (batch.drafts, batch.corrections))
    said: list[torch.Tensor] = []
    if batch.reflection is not None:
        said = [logits[0, :n_drafts].double().softmax(dim=-1) for logits in batch.reflection.slots()]
    corrected = torch.zeros_like(batch.settled).scatter(1, batch.rows, batch.used)
    return Trajectory(
        drafts=batch.drafts.items[0, :n_drafts].cpu().numpy(),
        draft_log_probs=batch.drafts.log_probs[0, :n_drafts].cpu().numpy(),
        slots=slots if said else (),
        said=tuple(probabilities.cpu().numpy() for probabilities in said),
        entropy=batch.entropy[0, :n_drafts].double().cpu().numpy(),
        corrected=corrected[0, :n_drafts].cpu().numpy(),
        corrections=batch.corrections.items[0, :n_paths].cpu().numpy(),
        correction_log_probs=batch.corrections.log_probs[0, :n_paths].cpu().numpy(),
        origins=batch.rows[0][batch.origins[0, :n_paths]].cpu().numpy(),
        items=items.cpu().numpy(),
        scores=scores.cpu().numpy(),
    )
