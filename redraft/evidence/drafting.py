"""Drafts by a generator, and corrections by the same generator after it was told what others think of all items."""

from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import torch

from redraft.baselines.neural import NeuralRecommender
from redraft.checkpoint import weights_fingerprint
from redraft.decode.beam import Blocked, beam_search, block, search
from redraft.decode.engine import Engine, Program, avoided
from redraft.evidence.kinds import Case
from redraft.evidence.memory import Memory
from redraft.model.generator import Generator
from redraft.model.memory import Cache
from redraft.model.memory import Memory as Encoded
from redraft.prefix_tree import PrefixTree
from redraft.recommender import GenerativeRecommender
from redraft.records import BoolArray, InputError, Interactions, check_between

__all__ = ["Drafting", "Rewriting", "check_rewriting", "known_or_usual", "tower_scores"]


@dataclass(frozen=True)
class Rewriting:
    """How corrections are written, by a generator that was told what tower and memory think of all items."""

    budget: int = 100
    """Corrections of each user; no draft is written again."""
    tower: float = 0.7
    """Weight of the tower beside the generator's item head in the search for them."""
    memory: float = 0.0
    """Weight of the memory there."""


def check_rewriting(rewriting: Rewriting) -> None:
    """Raise InputError for a budget or weights that no search can have."""
    check_between(0, 10_000, budget=rewriting.budget)
    check_between(0, 1, tower=rewriting.tower, memory=rewriting.memory)
    if rewriting.tower + rewriting.memory > 1:
        raise InputError(
            f"tower = {rewriting.tower} and memory = {rewriting.memory} leave the generator less than nothing; their "
            "sum must be <= 1"
        )


class Drafting:
    """Writes n_drafts drafts of each user and corrects them, and asks item head and tower about both.

    Raises InputError for corrections by a generator that does not score all items.
    """

    def __init__(
        self,
        writer: GenerativeRecommender,
        tower: NeuralRecommender,
        memory: Memory,
        n_drafts: int,
        rewriting: Rewriting,
    ):
        writer._end_training()
        assert isinstance(writer.model, Generator), "only a generator that knows its items can be told about them"
        if rewriting.budget and not writer.model.exact:
            raise InputError(
                "a generator whose pooling is mean does not score all items; give --rewriting.budget 0, or one with "
                "pooling exact"
            )
        self.writer, self.tower, self.memory = writer, tower, memory
        self.n_drafts, self.rewriting = n_drafts, rewriting
        self.engine = Engine(_program(writer, n_drafts, rewriting), writer.model.codes.device)

    @property
    def about(self) -> dict[str, str]:
        """What its cases depend on."""
        return {
            "generator": weights_fingerprint(self.writer.model),
            "tower": weights_fingerprint(self.tower.network),
            "semantic_ids": self.writer.ids.fingerprint,
            "drafts": str(self.n_drafts),
            "rewriting": str(self.rewriting),
        }

    def __call__(self, histories: Interactions, *, filter_seen: bool = True, allow: BoolArray | None = None) -> Case:
        """The case of histories, in their order."""
        order, size = np.argsort(histories.lengths, kind="stable"), self.engine.buckets[-1]
        parts = []
        for start in range(0, len(order), size):
            users = order[start : start + size]
            mask = allow[users] if allow is not None and allow.ndim == 2 else allow
            parts.append(self._batch(histories.take(users), filter_seen, mask))
        back = torch.from_numpy(np.argsort(order, kind="stable"))
        return Case(*(torch.cat(part)[back] for part in zip(*parts)))

    def _batch(self, histories: Interactions, filter_seen: bool, allow: BoolArray | None) -> Case:
        history, seen, *rest = self.writer._inputs(histories, filter_seen, allow)
        scores = tower_scores(self.tower, histories, self.writer.ids.n_items)
        if self.rewriting.budget:
            opinion = self.rewriting.tower * scores.softmax(dim=1)
            opinion += self.rewriting.memory * self.memory.shares(history, scores.shape[1])
            rest = [opinion, *rest]
        items, log_probs, head, corrected = (x.cpu() for x in self.engine(history, seen, *rest))
        return Case(
            history,
            torch.from_numpy(histories.lengths),
            items.long(),
            log_probs.float(),
            head.float(),
            known_or_usual(scores.gather(1, items.clamp(min=0).long()), items >= 0),
            corrected,
        )


def tower_scores(tower: NeuralRecommender, histories: Interactions, n_items: int) -> torch.Tensor:
    """A tower's scores [U, N], which passes over items of the histories that are newer than it is; -inf for newer."""
    n_known = len(tower.facts.counts)
    old = histories.items < n_known
    if not old.all():
        offsets = np.concatenate([[0], np.cumsum(old)])[histories.offsets]
        times = None if histories.times is None else histories.times[old]
        histories = Interactions(histories.items[old], offsets, times)
    return torch.nn.functional.pad(torch.from_numpy(tower.scores(histories)), (0, n_items - n_known), value=-torch.inf)


def known_or_usual(logits: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Logits [U, R] with the average of a user's others in the place of those that a tower does not have."""
    known = real & (logits > -torch.inf)
    usual = logits.masked_fill(~known, 0.0).sum(dim=1, keepdim=True) / known.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.where(logits > -torch.inf, logits, usual)


def _program(writer: GenerativeRecommender, n_drafts: int, rewriting: Rewriting) -> Program:
    """Histories and seen items, with corrections also the others' opinion [U, N], and what is allowed -> items
    [U, R + B], their log-probabilities by the generator alone, its item head's logits, and which are corrections.
    """
    model, trie = cast(Generator, writer.model), writer.trie
    own = 1 - rewriting.tower - rewriting.memory
    budget = min(rewriting.budget, trie.n_items)

    def drafts(
        history: torch.Tensor, seen: torch.Tensor, allow: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, ...]:
        memory = model.remember(history)
        beams = beam_search(model, memory, trie, len(history), n_drafts, blocked=avoided(trie, seen, allow))
        return answered(memory, beams.items, beams.log_probs)

    def corrected(
        history: torch.Tensor, seen: torch.Tensor, opinion: torch.Tensor, allow: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, ...]:
        memory, n_users = model.remember(history), len(history)
        beams = beam_search(model, memory, trie, n_users, n_drafts, blocked=avoided(trie, seen, allow))
        others = block(trie, torch.cat([seen, beams.items], dim=1), allow)
        written, log_probs = _written(model, memory, model.told(memory, opinion, own), trie, budget, others)
        both = (beams.items, written), (beams.log_probs, log_probs)
        return answered(memory, *(torch.cat(x, dim=1) for x in both))

    def answered(memory: Encoded, items: torch.Tensor, log_probs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        second = torch.arange(items.shape[1], device=items.device) >= n_drafts
        return items, log_probs, model.judge(memory, items), second.long().expand_as(items)

    return corrected if budget else drafts


class _Untold(NamedTuple):
    """A cache of a search that was told, and beside it what its sequences [U, R] would have been worth untold.

    score: float32 [U, R], of the sequences before their last step. log_probs: float32 [U, R, C], of that step.
    """

    cache: Cache
    score: torch.Tensor
    log_probs: torch.Tensor

    def after(self, tokens: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
        """The log-probabilities [U, R] of sequences that continue those of parents [U, R] by tokens [U, R]."""
        users = torch.arange(len(tokens), device=tokens.device)[:, None]
        return self.score.gather(1, parents) + self.log_probs[users, parents, tokens]


def _written(
    model: Generator, memory: Encoded, told: Encoded, trie: PrefixTree, budget: int, blocked: Blocked
) -> tuple[torch.Tensor, torch.Tensor]:
    """The items [U, B] that a generator writes by what it was told, and their log-probabilities untold."""
    start = torch.zeros((len(memory.bias), 1), device=memory.bias.device)

    def step(
        tokens: torch.Tensor | None, parents: torch.Tensor | None, before: _Untold | None
    ) -> tuple[torch.Tensor, _Untold]:
        score = start if tokens is None or parents is None or before is None else before.after(tokens, parents)
        cache = None if before is None else before.cache
        logits, untold, cache = model.told_step(tokens, parents, cache, memory, told)
        return logits, _Untold(cache, score, untold.log_softmax(dim=-1))

    found = search(step, trie, start, budget, blocked=blocked)
    log_probs = found.cache.after(found.tokens, found.parents)
    return found.beams.items, log_probs.masked_fill(found.beams.items < 0, -torch.inf)
