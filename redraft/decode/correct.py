"""Generate, reflect, correct: the two-stage search (paper sections 4.1 and 4.3)."""

from functools import partial
from typing import Generic, NamedTuple, Protocol, TypeVar

import torch

from redraft.decode.beam import Blocked, Decoder, Step, search
from redraft.decode.egrs import label_hypotheses, reflection_entropy, schedule
from redraft.decode.merge import MergePolicy, merge
from redraft.prefix_tree import PrefixTree
from redraft.records import Beams, Labels, Reflection

__all__ = ["Corrector", "Drafted", "TrajectoryBatch", "correct", "correction_step", "draft", "ranked"]

Memory = TypeVar("Memory", contravariant=True)
Cache = TypeVar("Cache")


class Corrector(Decoder[Memory, Cache], Protocol[Memory, Cache]):
    """What the two-stage search asks of a model; see redraft.model.template.GRC."""

    def reflect(
        self, tokens: torch.Tensor, parents: torch.Tensor, cache: Cache, memory: Memory
    ) -> tuple[Reflection | None, Cache]:
        """All labels of R whole drafts at once, and the cache of the drafts; None if the model does not reflect."""
        ...

    def correct_step(
        self, labels: Labels, tokens: torch.Tensor | None, parents: torch.Tensor, cache: Cache, memory: Memory
    ) -> tuple[torch.Tensor, Cache]:
        """Logits [U, R, C] of the next code of a correction; at the start parents name the drafts."""
        ...


class Drafted(NamedTuple, Generic[Cache]):
    """R drafts of U users and what the model thinks of them.

    beams: Beams [U, R]. reflection: of each draft, None if the model does not reflect. entropy: [U, R] (Eq. 24).
    settled: bool [U, R], drafts that the model holds to be right. cache: of the whole drafts.
    """

    beams: Beams
    reflection: Reflection | None
    entropy: torch.Tensor
    settled: torch.Tensor
    cache: Cache


class TrajectoryBatch(NamedTuple):
    """All that happened to R drafts of U users.

    drafts, reflection, entropy, settled: as in Drafted. kept: [U, R], log-probability that a draft stays as it is: 0 if
    it was not sent to correction, else log P(r_loc = L + 1), which is -inf for a model that does not reflect.
    rows: int64 [U, S], where corrections start: the drafts sent, once for each hypothesis about their labels.
    used: bool [U, S]. corrections: Beams [U, R'], whose scores are those of the paths draft -> labels -> correction.
    origins: int64 [U, R'], the place in `rows` that each came from.
    """

    drafts: Beams
    reflection: Reflection | None
    entropy: torch.Tensor
    settled: torch.Tensor
    kept: torch.Tensor
    rows: torch.Tensor
    used: torch.Tensor
    corrections: Beams
    origins: torch.Tensor


def draft(
    model: "Corrector[Memory, Cache]",
    memory: Memory,
    trie: PrefixTree,
    n_users: int,
    n_beams: int,
    *,
    blocked: Blocked | None = None,
) -> Drafted[Cache]:
    """Write n_beams drafts per user, and reflect on all of them in one pass."""
    step, start = partial(model.decode_step, memory=memory), torch.zeros((n_users, 1), device=trie.items.device)
    written = search(step, trie, start, n_beams, blocked=blocked)
    beams = written.beams
    reflection, cache = model.reflect(written.tokens, written.parents, written.cache, memory)
    entropy, settled = torch.zeros_like(beams.log_probs), beams.items < 0
    if reflection is not None:
        entropy = reflection_entropy(reflection)
        settled = settled | (reflection.location.argmax(dim=-1) == trie.n_levels)
    return Drafted(beams, reflection, entropy, settled, cache)


def correct(
    model: "Corrector[Memory, Cache]",
    memory: Memory,
    trie: PrefixTree,
    drafted: Drafted[Cache],
    n_beams: int,
    *,
    budget: int,
    alpha: float,
    hypotheses: int,
    blocked: Blocked | None = None,
) -> TrajectoryBatch:
    """Correct up to `budget` drafts per user in competition, and keep the n_beams best corrections.

    The path of a correction scores log p(draft) + log p(labels | draft) + log p(correction | draft, labels), for the
    `hypotheses` most probable label vectors of its draft. Drafts held to be right (r_loc = L + 1) cost nothing more.
    """
    assert budget >= 1, "with no budget there is nothing to correct: search alone"
    beams, reflection = drafted.beams, drafted.reflection
    budget = min(budget, beams.items.shape[1])
    rows, used = schedule(beams.log_probs, drafted.entropy, drafted.settled, alpha=alpha, budget=budget)
    sent = torch.zeros_like(drafted.settled).scatter(1, rows, used)
    labels, log_probs = _labels(reflection, rows, hypotheses)
    right = torch.full_like(beams.log_probs, -torch.inf)
    if reflection is not None:
        right = reflection.location.float().log_softmax(dim=-1)[..., -1]
    start = beams.log_probs.gather(1, rows)[..., None] + log_probs
    start = start.masked_fill(~used[..., None], -torch.inf).flatten(1)
    rows, used = (x.repeat_interleave(log_probs.shape[-1], dim=1) for x in (rows, used))
    step = correction_step(model, memory, labels, rows, drafted.cache)
    written = search(step, trie, start, n_beams, blocked=blocked)
    return TrajectoryBatch(
        drafts=beams,
        reflection=reflection,
        entropy=drafted.entropy,
        settled=drafted.settled,
        kept=torch.where(sent, right, 0.0),
        rows=rows,
        used=used,
        corrections=written.beams,
        origins=written.origins,
    )


def ranked(batch: TrajectoryBatch, policy: MergePolicy, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k best items [U, k] and scores of drafts and corrections under a merge policy."""
    drafts, corrections = batch.drafts, batch.corrections
    return merge((drafts.items, drafts.log_probs), batch.kept, (corrections.items, corrections.log_probs), policy, k)


def _labels(reflection: Reflection | None, rows: torch.Tensor, n: int) -> tuple[Labels, torch.Tensor]:
    """What may be wrong with the drafts in rows [U, S]: labels [U, S * n, slots] and their log-probabilities [U, S, n].

    Without reflection there is one hypothesis, and no labels.
    """
    if reflection is None:
        return rows.new_zeros((*rows.shape, 0)), torch.zeros_like(rows)[..., None]
    users = torch.arange(len(rows), device=rows.device)[:, None]
    labels, log_probs = label_hypotheses(Reflection(tuple(kind[users, rows] for kind in reflection.kinds)), n)
    return labels.flatten(1, 2), log_probs


def correction_step(
    model: "Corrector[Memory, Cache]", memory: Memory, labels: Labels, rows: torch.Tensor, drafts: Cache
) -> "Step[Cache]":
    """What writes corrections, after the drafts at rows int64 [U, S] and their labels [U, S, slots]."""

    def step(
        tokens: torch.Tensor | None, parents: torch.Tensor | None, cache: Cache | None
    ) -> tuple[torch.Tensor, Cache]:
        if parents is None or cache is None:
            return model.correct_step(labels, None, rows, drafts, memory)
        return model.correct_step(labels, tokens, parents, cache, memory)

    return step
