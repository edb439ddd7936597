"""Generate, reflect, correct: the two-stage search (paper sections 4.1 and 4.3)."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

import torch

from redraft.decode.beam import Blocked, Decoder, PrefixTree, search
from redraft.decode.egrs import reflection_entropy, schedule
from redraft.decode.merge import MergePolicy, merge
from redraft.records import Beams, Labels, Reflection

__all__ = ["Corrector", "Trajectories", "correcting_search", "ranked"]

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


class Trajectories(NamedTuple):
    """All that happened to R drafts of U users.

    drafts: Beams [U, R]. reflection: of each draft, None if the model does not reflect. entropy: [U, R] (Eq. 24).
    settled: bool [U, R], drafts that the model holds to be right. rows: int64 [U, S], the drafts sent to correction,
    with used: bool [U, S]. corrections: Beams [U, R'], whose scores are those of the paths draft -> correction, and
    origins: int64 [U, R'], the place in `rows` that each came from.
    """

    drafts: Beams
    reflection: Reflection | None
    entropy: torch.Tensor
    settled: torch.Tensor
    rows: torch.Tensor
    used: torch.Tensor
    corrections: Beams
    origins: torch.Tensor


def correcting_search(
    model: "Corrector[Memory, Cache]",
    memory: Memory,
    trie: PrefixTree,
    n_users: int,
    n_beams: int,
    *,
    budget: int,
    alpha: float,
    blocked: Blocked | None = None,
) -> Trajectories:
    """Draft n_beams items a user, reflect on all at once, rewrite up to `budget` of them in competition.

    A correction path scores log p(draft) + log p(correction | draft, labels): the labels are the model's own most
    probable ones. Drafts that it holds to be right (r_loc = L + 1) are settled and cost nothing more.
    """
    assert 1 <= budget <= n_beams, "with no budget there is nothing to correct: search alone"

    def draft_step(
        tokens: torch.Tensor | None, parents: torch.Tensor | None, cache: Cache | None
    ) -> tuple[torch.Tensor, Cache]:
        return model.decode_step(tokens, parents, cache, memory)

    found = search(draft_step, trie, torch.zeros((n_users, 1), device=trie.items.device), n_beams, blocked=blocked)
    drafts = found.beams
    reflection, cache = model.reflect(found.tokens, found.parents, found.cache, memory)
    labels = _labels(reflection, drafts)
    entropy = torch.zeros_like(drafts.log_probs) if reflection is None else reflection_entropy(reflection)
    settled = (labels.location == trie.n_levels) | (drafts.items < 0)
    budget = min(budget, drafts.items.shape[1])
    rows, used = schedule(drafts.log_probs, entropy, settled, alpha=alpha, budget=budget)
    start = drafts.log_probs.gather(1, rows).masked_fill(~used, -torch.inf)
    written = search(_correction_step(model, memory, labels, rows, cache), trie, start, n_beams, blocked=blocked)
    return Trajectories(drafts, reflection, entropy, settled, rows, used, written.beams, written.origins)


def ranked(found: Trajectories, policy: MergePolicy, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k best items [U, k] and scores of drafts and corrections under a merge policy."""
    corrected = torch.zeros_like(found.settled).scatter(1, found.rows, found.used)
    drafts = found.drafts.items, found.drafts.log_probs
    return merge(drafts, corrected, (found.corrections.items, found.corrections.log_probs), policy, k)


def _labels(reflection: Reflection | None, drafts: Beams) -> Labels:
    """The model's own labels; without reflection, that every draft is wrong from the start and nothing is known."""
    if reflection is not None:
        return reflection.decide()
    return Labels(torch.zeros_like(drafts.items), drafts.items.new_zeros((*drafts.items.shape, 0)))


def _correction_step(
    model: "Corrector[Memory, Cache]", memory: Memory, labels: Labels, rows: torch.Tensor, drafts: Cache
) -> Callable[[torch.Tensor | None, torch.Tensor | None, Cache | None], tuple[torch.Tensor, Cache]]:
    users = torch.arange(len(rows), device=rows.device)[:, None]
    chosen = Labels(labels.location[users, rows], labels.match[users, rows])

    def step(
        tokens: torch.Tensor | None, parents: torch.Tensor | None, cache: Cache | None
    ) -> tuple[torch.Tensor, Cache]:
        if parents is None or cache is None:
            return model.correct_step(chosen, None, rows, drafts, memory)
        return model.correct_step(chosen, tokens, parents, cache, memory)

    return step
