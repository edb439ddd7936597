"""Constrained beam search: the B most probable items of a catalogue, never an invalid one.

The model and the trie are passed in; anything that keeps the two protocols below can be searched.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, NamedTuple, Protocol, TypeVar

import torch

from redraft.prefix_tree import PrefixTree
from redraft.records import Beams

__all__ = ["Blocked", "Decoder", "Found", "Step", "beam_search", "block", "search"]

Memory = TypeVar("Memory", contravariant=True)
Cache = TypeVar("Cache")
Step = Callable[[torch.Tensor | None, torch.Tensor | None, Cache | None], tuple[torch.Tensor, Cache]]
"""The logits [U, R, C] of the next code from tokens, parents [U, R] and cache, all None at first; and the cache."""

GROUP = 16


class Decoder(Protocol[Memory, Cache]):
    """What the search asks of a model."""

    def decode_step(
        self, tokens: torch.Tensor | None, parents: torch.Tensor | None, cache: Cache | None, memory: Memory
    ) -> tuple[torch.Tensor, Cache]:
        """Logits [U, R, C] of the next code of R beams, and the cache to hand back.

        tokens: int64 [U, R], the code each beam wrote last; None at the start, where there is one beam per user.
        parents: int64 [U, R], which beam of the step before each beam continues.
        """
        ...


@dataclass(frozen=True)
class Blocked:
    """Which nodes must not be entered because no item below them may be shown.

    dead: L + 1 tensors int64 [U, S]; dead[d] holds nodes of depth d that the seen items exhaust, -1 elsewhere.
    above: the same shape; above[d] holds the parents of dead[d].
    open: None, or L + 1 tensors bool [1 or U, n_d]; open[d] tells which nodes have an allowed item below them.
    """

    dead: tuple[torch.Tensor, ...]
    above: tuple[torch.Tensor, ...]
    open: tuple[torch.Tensor, ...] | None


def block(trie: PrefixTree, seen: torch.Tensor, allow: torch.Tensor | None = None) -> Blocked:
    """Work out once a batch what the search must avoid.

    seen: int64 [U, S] item numbers to leave out, -1 pads. allow: None, or bool [N] or [U, N], what may be shown.
    """
    leaves = torch.where(seen >= 0, trie.leaves[seen.clamp(min=0)].long(), trie.n_items)
    counts: list[torch.Tensor] | None = None
    if allow is not None:
        in_order = allow.reshape(-1, trie.n_items)[:, trie.items]
        shown = in_order.expand(len(seen), -1).gather(1, leaves.clamp(max=trie.n_items - 1))
        leaves = torch.where(shown & (seen >= 0), leaves, trie.n_items)
        until = torch.nn.functional.pad(in_order.long().cumsum(1), (1, 0))
        counts = [until[:, start[1:]] - until[:, start[:-1]] for start in trie.leaf_start] + [in_order.long()]
    leaves = leaves.sort(dim=1).values
    repeated = torch.nn.functional.pad(leaves[:, 1:] == leaves[:, :-1], (1, 0))
    leaves = torch.where(repeated, trie.n_items, leaves).sort(dim=1).values
    real = leaves < trie.n_items
    nodes = [torch.where(real, trie.ancestors(leaves, depth), trie.n_items) for depth in range(trie.n_levels + 1)]
    dead = []
    for depth, node in enumerate(nodes):
        hidden = torch.searchsorted(node, node, right=True) - torch.searchsorted(node, node)
        inside = torch.where(real, node, 0)
        if counts is not None:
            left = counts[depth].expand(len(seen), -1).gather(1, inside)
        else:
            left = trie.n_below(inside, depth)
        dead.append(torch.where(real & (hidden == left), node, -1))
    above = tuple(torch.where(node < 0, -1, parent) for node, parent in zip(dead[1:], nodes))
    allowed = None if counts is None else tuple(count > 0 for count in counts)
    return Blocked(tuple(dead), (torch.full_like(leaves, -1), *above), allowed)


def beam_search(
    model: "Decoder[Memory, Cache]",
    memory: Memory,
    trie: PrefixTree,
    n_users: int,
    n_beams: int,
    *,
    blocked: Blocked | None = None,
) -> Beams:
    """The n_beams most probable items of each user under the model, best first (paper Eq. 2 and 3).

    A beam's score is the sum of its codes' log-probabilities over the whole codebook, so it equals the log-probability
    that the model gives the item. Exact where n_beams covers the widest level; otherwise the usual approximation.
    """
    start = torch.zeros((n_users, 1), device=trie.items.device)
    return search(partial(model.decode_step, memory=memory), trie, start, n_beams, blocked=blocked).beams


class Found(NamedTuple, Generic[Cache]):
    """What a search found, and what it takes to go on writing after it.

    origins: int64 [U, R], the start that each beam came from. tokens, parents: int64 [U, R], the last code of each beam
    and its row in `cache`, which holds everything before that code.
    """

    beams: Beams
    origins: torch.Tensor
    tokens: torch.Tensor
    parents: torch.Tensor
    cache: Cache


def search(
    step: "Step[Cache]",
    trie: PrefixTree,
    start: torch.Tensor,
    n_beams: int,
    *,
    blocked: Blocked | None = None,
) -> Found[Cache]:
    """Grow S starts per user into whole items, all in competition: the n_beams best paths of each user.

    start: float32 [U, S], the score that each path begins with; -inf for a start that is not used.
    Of paths with exactly equal scores those stay that topk meets first, by their codes. Codes say nothing about item
    numbers, so nothing about popularity: a model that knows nothing is right as often as chance.
    """
    n_users, n_starts = start.shape
    scores = start
    nodes = torch.zeros_like(start, dtype=torch.int64)
    origins = torch.arange(n_starts, device=start.device).expand(n_users, -1)
    codes = nodes.new_zeros((n_users, n_starts, 0))
    tokens = parents = cache = None
    for depth in range(trie.n_levels):
        logits, cache = step(tokens, parents, cache)
        log_probs = logits.float().log_softmax(dim=-1)
        allowed, real = trie.choices(nodes, depth)
        if blocked is not None:
            real = _unblocked(real, nodes, scores, trie, depth, blocked)
        candidates = scores[..., None] + (log_probs if allowed is None else log_probs.gather(-1, allowed))
        candidates = candidates.masked_fill_(~real, -torch.inf).flatten(1)
        scores, best = _largest(candidates, min(n_beams, candidates.shape[1]))
        parents, choices = best // real.shape[-1], best % real.shape[-1]
        nodes, tokens = trie.take(nodes.gather(1, parents), choices, depth)
        origins = origins.gather(1, parents)
        codes = torch.cat([codes.gather(1, parents[..., None].expand(-1, -1, depth)), tokens[..., None]], dim=-1)
    assert tokens is not None, "a trie has a level"
    assert parents is not None, "a trie has a level"
    assert cache is not None, "a trie has a level"
    items = torch.where(scores > -torch.inf, trie.items[nodes].long(), -1)
    return Found(Beams(items, scores, codes), origins, tokens, parents, cache)


def _largest(values: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k largest of values [U, M] and their places, largest first.

    Of many values the k groups with the largest maxima hold them all: a group outside has k maxima above its own.
    """
    n_groups = values.shape[1] // GROUP
    if n_groups < 4 * k:
        return values.topk(k)
    rest = values[:, GROUP * n_groups :]
    groups = values[:, : GROUP * n_groups].unflatten(1, (GROUP, n_groups)).amax(dim=1).topk(k, sorted=False).indices
    members = torch.arange(GROUP, device=values.device)[:, None] * n_groups
    places = (groups[:, None] + members).flatten(1)
    last = torch.arange(GROUP * n_groups, values.shape[1], device=values.device).expand(len(values), -1)
    places = torch.cat([places, last], dim=1)
    largest, best = torch.cat([values.gather(1, places[:, : GROUP * k]), rest], dim=1).topk(k)
    return largest, places.gather(1, best)


def _unblocked(
    real: torch.Tensor,
    nodes: torch.Tensor,
    scores: torch.Tensor,
    trie: PrefixTree,
    depth: int,
    blocked: Blocked,
) -> torch.Tensor:
    """`real` [U, R, F] without the children that lead to no item that may be shown."""
    if blocked.open is not None:
        children, _, _ = trie.expand(nodes, depth)
        allowed = blocked.open[depth + 1].expand(len(nodes), -1)
        real = real & allowed.gather(1, children.flatten(1)).view_as(children)
    dead, above = blocked.dead[depth + 1], blocked.above[depth + 1]
    if dead.shape[1] > real.shape[-1]:
        children, _, _ = trie.expand(nodes, depth)
        return real & ~_among(children.flatten(1), dead).view_as(children)
    holds = (nodes[:, :, None] == above[:, None, :]) & (scores > -torch.inf)[:, :, None]
    place = trie.slot(dead.clamp(min=0), above.clamp(min=0), depth)
    width = real.shape[-1]
    places = torch.where(holds, place[:, None, :], width)
    return torch.nn.functional.pad(real, (0, 1)).scatter(2, places, False)[..., :width]


def _among(values: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """bool [U, M]: which values [U, M] are among known [U, S]."""
    known = known.sort(dim=1).values
    index = torch.searchsorted(known, values).clamp(max=known.shape[1] - 1)
    return known.gather(1, index) == values
