"""A generator whose every step knows its items: TIGER's decoder over an encoder of whole items and a trie with vectors.

A vector per item, read by the encoder and wanted by the item head, is pooled over the items below each node of the
trie.
The decoder reads the vector of the prefix it has written, and a child is chosen by its code and by what stands below
it: its logit is m_child + w (head[c] . h + b_child), with h the decoder's state and m_child the log of what the item
head gives all items below the child: a decoder that adds nothing writes as the item head would choose. Where a
catalogue is too large for a score per item and history, the logit is head[c] . h + (W_d h + a_d q) . v_child + b_child,
with q the encoder's state. The choice is among the real children of a prefix, so that the probabilities of all items
sum to 1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from redraft.dropout import Dropout
from redraft.model.backbone import Backbone, ModelConfig, check_shape, last_places
from redraft.model.choices import NEVER, choices
from redraft.model.hstu import HSTUBlock, may_attend
from redraft.model.item_vectors import ItemVectors
from redraft.model.memory import Cache, Encoded, Known, Memory
from redraft.model.prefixes import masses, masses_in_order, pairs, pooled, products, with_products
from redraft.model.template import GRC
from redraft.prefix_tree import PrefixTree
from redraft.records import MAX_COUNT, InputError, IntArray, check_above, check_between

__all__ = ["CorrectingGenerator", "Generator", "GeneratorConfig", "check_generator"]

MOST_SCORED = 1_000_000
"""Items that each history may be scored with."""
VOICE = 0.3
"""w, the weight of what the decoder adds to the item head: it learns on events that the head has learned, too."""


@dataclass(frozen=True)
class GeneratorConfig(ModelConfig):
    """The shape of the generator whose steps know their items."""

    history: int = 50
    """Items of the history that the encoder reads, most recent last."""
    encoder_layers: int = 4
    """HSTU blocks of the encoder."""
    decoder_layers: int = 1
    """Decoder blocks."""
    dropout: float = 0.3
    """Dropout on embeddings and residual branches, up to 0.99."""
    temperature: float = 0.05
    """What cosines of user and item are divided by in the item head."""
    negatives: int = 512
    """Items drawn for each step of the item head's sampled softmax, as often as they were bought; 0 for all items."""
    number_dropout: float = 0.0
    """Share of items that a step knows by their codes and attributes alone, so that new items can be recommended."""
    pooling: Literal["exact", "mean"] = "exact"
    """How a node's logit knows the items below it: by the sum of what the item head gives them, which takes a score per
    item and history, or by the mean of their unit vectors."""
    shortlist: int = 128
    """With mean: children of a node whose own vectors a search reads; what looks worse is judged by its parent's."""


def check_generator(config: GeneratorConfig) -> None:
    """Raise InputError for a shape that no generator can have."""
    check_shape(config)
    check_above(0, temperature=config.temperature)
    check_between(0, MAX_COUNT, negatives=config.negatives)
    check_between(1, MAX_COUNT, shortlist=config.shortlist)
    check_between(0, 1, number_dropout=config.number_dropout)


class Generator(Backbone):
    """See the module; tree: of the semantic IDs whose codes [N, L] are given.

    The vectors of items and nodes are worked out anew in every pass that has gradients; `eval()` keeps them for all
    others, so that a search only reads them.
    """

    config: GeneratorConfig
    tree: PrefixTree
    counts: torch.Tensor
    item_table: torch.Tensor
    unit_table: torch.Tensor

    def __init__(
        self,
        config: GeneratorConfig,
        codes: torch.Tensor,
        codebook_size: int,
        attributes: torch.Tensor,
        tree: PrefixTree | None = None,
    ):
        assert tree is not None, "the generator reads the tree of its codes"

        if config.positions != "item" or config.encoder != "causal":
            raise InputError("positions and encoder are for the plain backbone (recipe tiger); leave them out")
        check_generator(config)
        if config.pooling == "exact" and len(codes) > MOST_SCORED:
            raise InputError(
                f"pooling exact scores all of {len(codes):,} items for every history; give --model.pooling mean"
            )
        super().__init__(config, codes, codebook_size, attributes, tree)
        width, n_nodes = config.width, [len(tokens) for tokens in tree.tokens]
        self.memory_norm = nn.LayerNorm(width)
        self.start = nn.Linear(width, width, bias=False)
        self.prefix_in = nn.Linear(width, width, bias=False)
        self.child_bias = nn.ParameterList(nn.Parameter(torch.zeros(n)) for n in n_nodes)
        self.exact = config.pooling == "exact"
        self.child_query = nn.ModuleList()
        if not self.exact:
            self.child_query.extend(nn.Linear(width, width, bias=False) for _ in n_nodes)
            self.direct = nn.Parameter(torch.full((len(n_nodes),), 10.0))
        for linear in (self.start, self.prefix_in, *self.child_query):
            nn.init.normal_(linear.weight, std=width**-0.5)
        self.register_buffer("counts", torch.zeros(len(codes), dtype=torch.int64))
        self.register_buffer("item_table", torch.zeros(len(codes), width), persistent=False)
        self.register_buffer("unit_table", torch.zeros(len(codes) * self.exact, width), persistent=False)
        for level, n in enumerate(n_nodes):
            self.register_buffer(f"below_{level}", torch.zeros(n, width), persistent=False)

    def _add_item_input(self, n_values: list[int]) -> None:
        config = self.config
        self.items = ItemVectors(self.codes, self.codebook_size, n_values, config.width, config.number_dropout)

    def _add_encoder(self) -> None:
        config = self.config
        shape = config.width, config.heads, config.history, config.dropout
        self.encoder_blocks = nn.ModuleList(HSTUBlock(*shape, with_time=False) for _ in range(config.encoder_layers))
        self.encoder_dropout = Dropout(config.dropout)

    def _initialise(self) -> None:
        super()._initialise()
        self.items.initialise()

    def train(self, mode: bool = True) -> Self:
        """Switch to training or from it; the second keeps the vectors of items and nodes as they are now."""
        super().train(mode)
        if not mode:
            self.keep_vectors()
        return self

    @torch.no_grad()
    def keep_vectors(self) -> None:
        """Work out the vectors of items and nodes that searches read, in place."""
        self.item_table.copy_(self.vectors())
        self.unit_table.copy_(F.normalize(self.item_table.float(), dim=-1)[: len(self.unit_table)])
        for kept, vectors in zip(self.below, pooled(self.item_table, self.tree)):
            kept.copy_(vectors)

    @property
    def below(self) -> list[torch.Tensor]:
        """The kept vectors of the nodes of depths 1 to L, [n_d, D] each."""
        return [getattr(self, f"below_{level}") for level in range(self.n_levels)]

    def count(self, items: IntArray) -> None:
        """Keep how often each item is among the training events, by which the item head draws its negatives."""
        self.counts.copy_(torch.from_numpy(np.bincount(items, minlength=len(self.counts))))

    def vectors(self) -> torch.Tensor:
        """The vectors of all items, [N, D]."""
        return self.items(self.codes + self._level_offsets, self.attributes)

    def encode(self, history: torch.Tensor) -> Encoded:
        """Read histories [U, T] of item numbers, most recent last, -1 pads."""
        if not torch.is_grad_enabled():
            return self._encode(
                history, self.item_table, self.unit_table if self.exact else self.item_table, self.below
            )
        vectors = self.vectors()
        return self._encode(history, vectors, F.normalize(vectors.float(), dim=-1), pooled(vectors, self.tree))

    def _encode(
        self, history: torch.Tensor, vectors: torch.Tensor, wanted: torch.Tensor, below: list[torch.Tensor]
    ) -> Encoded:
        x = F.embedding(history.clamp(min=0), vectors) * (history >= 0)[..., None]
        x, allowed = self.encoder_dropout(x * self.config.width**0.5), may_attend(history)
        for block in self.encoder_blocks:
            x = block(x, allowed)
        query, item_of = F.normalize(x.float(), dim=-1), torch.arange(history.shape[1], device=history.device)
        return Encoded(history, self.memory_norm(query), item_of, history >= 0, Known(query, wanted, tuple(below)))

    def remember(self, history: torch.Tensor) -> Memory:
        """See `Backbone.remember`."""
        memory = super().remember(history)
        if not self.exact:
            return memory
        known = _known(memory.encoded)
        known = known._replace(mass=self._mass(known.query[:, -1], known.vectors))
        return memory._replace(encoded=memory.encoded._replace(known=known))

    @torch.no_grad()
    def _mass(self, query: torch.Tensor, vectors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What the item head gives the items below every node after queries [n, D]; see Known."""
        return masses(self._scores(query, vectors), self.tree)

    def _scores(self, query: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """The item head's logits [n, N] of all items, by their unit vectors [N, D], after queries [n, D]."""
        with torch.autocast(query.device.type, enabled=False):
            return query.float() @ vectors.T / self.config.temperature

    def told(self, memory: Memory, opinion: torch.Tensor, own: float) -> Memory:
        """What a search reads that was told what others think of all items: weights [U, N] that sum to at most 1 - own.

        Every step then sums them and `own` times the item head's probabilities over the items below each child.
        """
        known, order = _known(memory.encoded), self.tree.items
        weights = opinion.index_select(1, order) + own * known.mass[-1].softmax(dim=-1)
        mass = masses_in_order(weights.clamp(min=torch.finfo(weights.dtype).tiny).log(), self.tree)
        return memory._replace(encoded=memory.encoded._replace(known=known._replace(mass=mass)))

    def target_inputs(self, targets: torch.Tensor, encoded: Encoded, last_seen: torch.Tensor) -> torch.Tensor:
        """See `Backbone.target_inputs`: BOS1 carries what the encoder looks for, each code what stands below it."""
        start = self.start(encoded.states[:, last_seen]).expand(-1, targets.shape[1], -1)
        written = [self._known_code(targets, level, encoded) for level in range(self.n_levels - 1)]
        return torch.stack([start, *written], dim=2) + self.level_embedding

    def last_inputs(self, items: torch.Tensor, encoded: Encoded) -> torch.Tensor:
        """See `Backbone.last_inputs`."""
        return self._known_code(items, self.n_levels - 1, encoded)[:, :, None]

    def _known_code(self, items: torch.Tensor, level: int, encoded: Encoded) -> torch.Tensor:
        """The decoder input [U, R, D] of one code of items [U, R]."""
        items = items.clamp(min=0)
        nodes = self.tree.ancestors(self.tree.leaves[items].long(), level + 1)
        return self._code(self.codes[items][..., level], nodes, level, _known(encoded).below[level])

    def _code(self, codes: torch.Tensor, nodes: torch.Tensor, level: int, below: torch.Tensor) -> torch.Tensor:
        return self.embed_codes(codes, level) + self.prefix_in(below[nodes])

    def target_logits(
        self, x: torch.Tensor, targets: torch.Tensor, encoded: Encoded, last_seen: torch.Tensor
    ) -> torch.Tensor:
        """See `Backbone.target_logits`."""
        query = _known(encoded).query[:, last_seen].expand(-1, targets.shape[1], -1)
        logits = self.code_logits_of(x.flatten(0, 1), query.flatten(0, 1), targets.flatten(), _known(encoded))
        return logits.unflatten(0, targets.shape)

    def code_logits_of(self, x: torch.Tensor, query: torch.Tensor, targets: torch.Tensor, known: Known) -> torch.Tensor:
        """Teacher-forced logits [n, L, C] from states [n, L, D] and queries [n, D] of items [n]; -1e9 is no child."""
        leaves, logits = self.tree.leaves[targets.clamp(min=0)].long(), []
        with torch.autocast(x.device.type, enabled=False):
            x = self.decoder_norm(x).float()
            mass = self._mass(query, known.vectors) if self.exact else ()
            for level, below in enumerate(known.below):
                by_code = F.linear(x[:, level], self.head[level])
                pair = pairs(self.tree.ancestors(leaves, level), level, self.tree)
                bias = self.child_bias[level][pair.children]
                if self.exact:
                    by_child = VOICE * bias + mass[level][pair.rows, pair.children]
                else:
                    by_child = products(self._wanted(x[:, level], query, level), below, pair) + bias
                fit, real = pair.by_code(by_child, self.codebook_size)
                logits.append(((VOICE if self.exact else 1.0) * by_code + fit).masked_fill(~real, NEVER))
        return torch.stack(logits, dim=1)

    def _wanted(self, x: torch.Tensor, query: torch.Tensor, level: int) -> torch.Tensor:
        """What a child's vector should be like, [..., D], from the decoder's and the encoder's states [..., D]."""
        wanted: torch.Tensor = self.child_query[level](x)
        return wanted + self.direct[level] * query.float()

    def start_input(self, memory: Memory) -> torch.Tensor:
        """See `Backbone.start_input`."""
        return self.start(memory.encoded.states[:, -1:])

    def code_input(
        self, tokens: torch.Tensor, parents: torch.Tensor, cache: Cache, level: int
    ) -> tuple[torch.Tensor, Cache]:
        """See `Backbone.code_input`."""
        cache = cache.follow(parents)
        before = torch.zeros_like(tokens) if cache.nodes is None else cache.nodes
        nodes = self.tree.descend(before, tokens, level)
        return self._code(tokens, nodes, level, self.below[level]), cache._replace(nodes=nodes)

    def write(self, x: torch.Tensor, level: int, memory: Memory, cache: Cache) -> tuple[torch.Tensor, Cache]:
        """See `Backbone.write`."""
        x, cache = self._written(x, level, memory, cache)
        return self._search_logits(x, level, cache.nodes, _known(memory.encoded)), cache

    def told_step(
        self,
        tokens: torch.Tensor | None,
        parents: torch.Tensor | None,
        cache: Cache | None,
        memory: Memory,
        told: Memory,
    ) -> tuple[torch.Tensor, torch.Tensor, Cache]:
        """A `decode_step` by what it was told, and what it were untold: logits [U, R, C] twice, and the cache."""
        x, cache = self.next_input(tokens, parents, cache, memory)
        level = cache.length
        x, cache = self._written(x, level, memory, cache)
        by_told, by_own = (self._search_logits(x, level, cache.nodes, _known(each.encoded)) for each in (told, memory))
        return by_told, by_own, cache

    def _written(self, x: torch.Tensor, level: int, memory: Memory, cache: Cache) -> tuple[torch.Tensor, Cache]:
        """The decoder's state [U, R, D] after one new position x [U, R, D], normalised, and the cache with it."""
        x, cache = self.step_decoder(x[:, :, None], memory, cache)
        if level == 0:
            cache = cache._replace(nodes=None)
        with torch.autocast(x.device.type, enabled=False):
            return self.decoder_norm(x[:, :, 0]).float(), cache

    def _search_logits(self, x: torch.Tensor, level: int, nodes: torch.Tensor | None, known: Known) -> torch.Tensor:
        """Logits [U, R, C] over the codes of a level after nodes [U, R], the root if None; -inf is no child.

        x: [U, R, D], what the decoder's last block gives, normalised.
        """
        nodes = torch.zeros(x.shape[:2], dtype=torch.int64, device=x.device) if nodes is None else nodes
        children, codes, real = self.tree.expand(nodes, level)
        logits = F.linear(x, self.head[level]).gather(-1, codes) + self.child_bias[level][children]
        if self.exact:
            logits = VOICE * logits + known.mass[level][:, None].expand(-1, nodes.shape[1], -1).gather(-1, children)
        else:
            wanted = self._wanted(x, known.query[:, -1:], level)
            logits = with_products(logits, wanted, nodes, level, self.below, self.tree, self.config.shortlist)
        places = torch.where(real, codes, self.codebook_size)
        every = logits.new_full((*nodes.shape, self.codebook_size + 1), -torch.inf)
        return every.scatter(-1, places, logits)[..., : self.codebook_size]

    @property
    def judge_name(self) -> str:
        """See `Backbone.judge_name`."""
        return super().judge_name or ("" if self.exact else "item head")

    def judge(self, memory: Memory, items: torch.Tensor) -> torch.Tensor:
        """Logits [U, R] of items [U, R] after whole histories: of a verifier if there is one, else of the item head."""
        if self.verifier is not None:
            return super().judge(memory, items)
        known = _known(memory.encoded)
        vectors = F.normalize(known.vectors[items.clamp(min=0)].float(), dim=-1)
        return (vectors @ known.query[:, -1].float()[..., None])[..., 0] / self.config.temperature

    def losses(
        self, history: torch.Tensor, targets: torch.Tensor, has_loss: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Negative log-likelihoods [n] of the n targets [U, R] that have a loss: of their codes, and as wholes.

        history, targets: see `Backbone.forward`. has_loss: bool [U, R].
        """
        encoded, last_seen = self.encode(history), last_places(history, targets)
        x = self.target_inputs(targets, encoded, last_seen)
        x = self.run_decoder(x, self.causal_mask(self.n_levels), encoded, last_seen)[has_loss]
        known, wanted = _known(encoded), targets[has_loss]
        query = known.query[:, last_seen][has_loss]
        logits, codes = self.code_logits_of(x, query, wanted, known), self.codes[wanted]
        written = F.cross_entropy(logits.flatten(0, 1), codes.flatten(), reduction="none").view_as(codes).sum(dim=-1)
        return written, self.head_nll(query, wanted, known.vectors)

    def head_losses(self, history: torch.Tensor, targets: torch.Tensor, has_loss: torch.Tensor) -> torch.Tensor:
        """As the second of `losses`, without the decoder's work: [n]."""
        vectors = self.vectors()
        known = _known(self._encode(history, vectors, F.normalize(vectors.float(), dim=-1), []))
        return self.head_nll(known.query[:, last_places(history, targets)][has_loss], targets[has_loss], known.vectors)

    def head_nll(self, query: torch.Tensor, targets: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """Negative log-likelihood [n] of items [n] as wholes under the item head, from queries and unit vectors [., D].

        A sampled softmax over cosines, see redraft.model.choices, or a whole one.
        """
        query = query.float() / self.config.temperature
        logits, labels = choices(query, vectors, targets, self.counts, self.config.negatives)
        return F.cross_entropy(logits, labels, reduction="none")

    def _contents(self, items: torch.Tensor) -> torch.Tensor:
        return F.embedding(items.clamp(min=0), self.vectors() if torch.is_grad_enabled() else self.item_table)

    def _apply(self, fn: Callable[..., torch.Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.tree = self.tree.to(self.codes.device)
        return self


class CorrectingGenerator(GRC, Generator):
    """The generator that reflects on its drafts and corrects them, as GRC does on the plain backbone."""


def _known(encoded: Encoded) -> Known:
    assert encoded.known is not None, "the generator knows its items"
    return encoded.known
