"""The TIGER backbone: an encoder over the history, a decoder that writes semantic IDs (paper section 3.2).

One forward path serves all uses. A decoder pass holds R sequences a user: one for each item of the history that is
predicted from what came before it (training with shared prefixes), one target (plain training), or B beams (search).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import nn

from redraft.dropout import Dropout
from redraft.model.layers import DecoderBlock, EncoderBlock
from redraft.model.memory import Cache, Encoded, Memory
from redraft.model.verifier import Verifier
from redraft.prefix_tree import PrefixTree
from redraft.records import InputError, check_between

__all__ = ["Backbone", "ModelConfig", "check_shape", "last_places"]

MASKED = -1e9
WIDEST, DEEPEST = 1 << 16, 1 << 10
"""Larger shapes are slips: no machine holds them."""


@dataclass(frozen=True)
class ModelConfig:
    """The shape of the model."""

    history: int = 20
    """Items of the history that the encoder reads, most recent last."""
    positions: Literal["item", "code"] = "item"
    """One encoder position per item (embeddings concatenated and projected), or one per code and attribute."""
    encoder: Literal["causal", "bidirectional"] = "causal"
    """Causal lets all prefixes of a user share one encoder pass; bidirectional needs every prefix as its own row."""
    width: int = 128
    """Width D of the residual stream."""
    embedding: int = 128
    """Width of one code or attribute embedding."""
    feed_forward: int = 640
    """Hidden width of the feed-forward layers."""
    heads: int = 4
    """Attention heads."""
    encoder_layers: int = 1
    """Encoder blocks."""
    decoder_layers: int = 2
    """Decoder blocks."""
    dropout: float = 0.2
    """Dropout on embeddings and residual branches, up to 0.99."""


def check_shape(config: ModelConfig) -> None:
    """Raise InputError for a shape that no model can have."""
    check_between(1, WIDEST, history=config.history, width=config.width, embedding=config.embedding)
    check_between(1, WIDEST, feed_forward=config.feed_forward, heads=config.heads)
    check_between(1, DEEPEST, decoder_layers=config.decoder_layers)
    check_between(0, DEEPEST, encoder_layers=config.encoder_layers)
    if config.width % config.heads:
        raise InputError(f"width is {config.width}, which {config.heads} heads cannot share equally; change one")
    if not 0 <= config.dropout <= 0.99:
        raise InputError(f"dropout is {config.dropout}; it must be >= 0 and <= 0.99")


class Backbone(nn.Module):
    """Encoder-decoder transformer over semantic IDs.

    codes: int64 [N, L], the code table. attributes: int64 [N, K], -1 = unknown. tree: of the codes, for a model that
    knows what stands below a prefix. All come from the artifacts that a checkpoint names by fingerprint, so they are
    not part of its weights.
    """

    codes: torch.Tensor
    attributes: torch.Tensor

    def __init__(
        self,
        config: ModelConfig,
        codes: torch.Tensor,
        codebook_size: int,
        attributes: torch.Tensor,
        tree: PrefixTree | None = None,
    ):
        super().__init__()
        check_shape(config)
        self.tree = tree
        self.config = config
        self.codebook_size = codebook_size
        self.n_levels, n_attributes = codes.shape[1], attributes.shape[1]
        n_values = [int(attributes[:, k].max()) + 1 for k in range(n_attributes)]
        self.register_buffer("codes", codes.long(), persistent=False)
        self.register_buffer("attributes", attributes.long(), persistent=False)
        self.code_embedding = nn.Embedding(self.n_levels * codebook_size, config.embedding)
        self._add_item_input(n_values)
        self.token_in = nn.Linear(config.embedding, config.width, bias=False)
        self.level_embedding = nn.Parameter(torch.zeros(self.n_levels, config.width))
        self._add_encoder()
        shape = (config.width, config.heads, config.feed_forward, config.dropout)
        self.decoder_blocks = nn.ModuleList(DecoderBlock(*shape) for _ in range(config.decoder_layers))
        self.decoder_norm = nn.LayerNorm(config.width, bias=False)
        self.cross_bias = nn.Parameter(torch.zeros(config.heads, config.history + 1))
        self.head = nn.Parameter(torch.empty(self.n_levels, codebook_size, config.width))
        self.dropout = Dropout(config.dropout)
        self.verifier: Verifier | None = None
        self._initialise()

    def _add_item_input(self, n_values: list[int]) -> None:
        """What the encoder is told of an item, whose attributes have so many values."""
        config, n_fields = self.config, self.n_levels + len(n_values)
        self.attribute_embeddings = nn.ModuleList(nn.Embedding(n + 1, config.embedding) for n in n_values)
        per_item = n_fields if config.positions == "item" else 1
        self.item_in = nn.Linear(per_item * config.embedding, config.width, bias=False)
        self.field_embedding = nn.Parameter(torch.zeros(n_fields if config.positions == "code" else 1, config.width))

    def _add_encoder(self) -> None:
        config = self.config
        shape = (config.width, config.heads, config.feed_forward, config.dropout)
        self.encoder_blocks = nn.ModuleList(EncoderBlock(*shape) for _ in range(config.encoder_layers))
        self.encoder_norm = nn.LayerNorm(config.width, bias=False)
        self.encoder_bias = nn.Parameter(torch.zeros(config.heads, 2 * config.history + 1))

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=1.0)
        for block in [*self.encoder_blocks, *self.decoder_blocks]:
            for name, weight in block.named_parameters():
                if name.endswith(("out.weight", "down.weight")):
                    nn.init.zeros_(weight)
        nn.init.normal_(self.head, std=self.config.width**-0.5)
        nn.init.normal_(self.level_embedding, std=0.5)
        if hasattr(self, "field_embedding"):
            nn.init.normal_(self.field_embedding, std=0.5)

    def encode(self, history: torch.Tensor) -> Encoded:
        """Read histories [U, T] of item numbers, most recent last, -1 pads."""
        n_items = history.shape[1]
        x, fields = self._embed_items(history)
        item_of = torch.arange(n_items, device=history.device).repeat_interleave(fields)
        real = (history >= 0).repeat_interleave(fields, dim=1)
        distance = item_of[:, None] - item_of[None, :]
        bias = self.encoder_bias[:, distance + self.config.history]
        if self.config.encoder == "causal":
            bias = bias.masked_fill(distance < 0, MASKED)
        bias = bias.masked_fill(~real[:, None, None, :], MASKED)
        for block in self.encoder_blocks:
            x = block(x, bias)
        return Encoded(history, self.encoder_norm(x), item_of, real)

    def remember(self, history: torch.Tensor) -> Memory:
        """Read histories [U, T] once for all steps of a search."""
        encoded = self.encode(history)
        bias = self._cross_bias(encoded, encoded.item_of[-1:])
        blocks = tuple(block.cross_attention.recall(encoded.states) for block in self._decoder)
        return Memory(encoded, blocks, bias.flatten(1)[:, None])

    def add_verifier(self) -> Verifier:
        """Give the model a fresh verifier; the rest of it stays as it is."""
        shape = self.config
        self.verifier = Verifier(len(self.codes), shape.width, shape.heads, shape.feed_forward)
        return self.verifier.to(self.codes.device).train(self.training)

    @property
    def judge_name(self) -> str:
        """What can say how well items fit as wholes; empty if nothing can."""
        return "verifier" if self.verifier is not None else ""

    def judge(self, memory: Memory, items: torch.Tensor) -> torch.Tensor:
        """The verifier's logits [U, R] of items [U, R] after whole histories, in competition with all other items."""
        assert self.verifier is not None, "only a model with a verifier judges"
        queries, items = self.queries(memory.encoded)[:, -1], items.clamp(min=0)
        vectors = self.verifier.items(items, self._contents(items))
        logits = (vectors @ queries[..., None])[..., 0].float()
        return logits + self.verifier.popularity(items)[..., 0]

    def queries(self, encoded: Encoded) -> torch.Tensor:
        """What the verifier looks for after each item of encoded histories: [U, T, D]."""
        assert self.verifier is not None, "only a model with a verifier looks for something"
        history = encoded.history
        return self.verifier.read(encoded.states.unflatten(1, (history.shape[1], -1))[:, :, -1], history)

    def judge_all(self, queries: torch.Tensor) -> torch.Tensor:
        """The verifier's logits [..., N] of all items for queries [..., D]."""
        assert self.verifier is not None, "only a model with a verifier judges"
        items = torch.arange(len(self.codes), device=queries.device)
        vectors = self.verifier.items(items, self._contents(items[None])[0])
        return (queries @ vectors.T).float() + self.verifier.popularity.weight[:, 0]

    def forward(self, history: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Teacher-forced logits [U, R, L, C] of R targets [U, R] a user, the last of which follows the whole history.

        Target R - 1 - j was preceded by all but the last j items; -1 stands for a target that is not asked for.
        """
        encoded, last_seen = self.encode(history), last_places(history, targets)
        x = self.target_inputs(targets, encoded, last_seen)
        x = self.run_decoder(x, self.causal_mask(self.n_levels), encoded, last_seen)
        return self.target_logits(x, targets, encoded, last_seen)

    def decode_step(
        self, tokens: torch.Tensor | None, parents: torch.Tensor | None, cache: Cache | None, memory: Memory
    ) -> tuple[torch.Tensor, Cache]:
        """One step of a search; see redraft.decode.beam.Decoder. Logits [U, R, C]."""
        x, cache = self.next_input(tokens, parents, cache, memory)
        return self.write(x, cache.length, memory, cache)

    def next_input(
        self, tokens: torch.Tensor | None, parents: torch.Tensor | None, cache: Cache | None, memory: Memory
    ) -> tuple[torch.Tensor, Cache]:
        """What the decoder reads at a step of a search, [U, R, D], and the cache of the sequences that go on."""
        if tokens is None or parents is None or cache is None:
            x, cache = self.start_input(memory), Cache((), ())
        else:
            x, cache = self.code_input(tokens, parents, cache, cache.length - 1)
        return x + self.level_embedding[cache.length], cache

    def run_decoder(
        self, x: torch.Tensor, mask: torch.Tensor, memory: Encoded, last_seen: torch.Tensor
    ) -> torch.Tensor:
        """All decoder blocks over all positions x [U, R, Q, D] of R sequences a user: [U, R, Q, D].

        mask: bool [Q, Q], whom each position may attend to. last_seen: int64 [R] or [1], the last item of the history
        that a sequence may read.
        """
        bias = torch.zeros(mask.shape, device=x.device).masked_fill(~mask, MASKED)
        cross_bias = self._cross_bias(memory, last_seen)
        if len(last_seen) > 1:
            cross_bias = cross_bias.repeat_interleave(x.shape[2], dim=2)
        for block in self._decoder:
            x = block(x, memory.states, bias, cross_bias)
        return x

    def step_decoder(self, x: torch.Tensor, memory: Memory, cache: Cache) -> tuple[torch.Tensor, Cache]:
        """All decoder blocks over one new position x [U, R, 1, D] that reads the cache and itself.

        Returns [U, R, 1, D] and the cache with the new position.
        """
        page = []
        for number, (block, kept) in enumerate(zip(self._decoder, memory.blocks)):
            x, own = block.step(x, cache.read(number), kept, memory.bias)
            page.append(own)
        return x, cache.added(page)

    def target_inputs(self, targets: torch.Tensor, encoded: Encoded, last_seen: torch.Tensor) -> torch.Tensor:
        """BOS1 and all but the last code of items [U, R], teacher-forced: [U, R, L, D]; any item for -1.

        last_seen: see `run_decoder`.
        """
        codes = self.codes[targets.clamp(min=0)][..., :-1]
        start = torch.zeros((*targets.shape, 1, self.config.width), device=targets.device)
        levels = torch.arange(self.n_levels - 1, device=targets.device)
        return torch.cat([start, self.embed_codes(codes, levels)], dim=2) + self.level_embedding

    def last_inputs(self, items: torch.Tensor, encoded: Encoded) -> torch.Tensor:
        """The last codes of items [U, R] as decoder inputs [U, R, 1, D]; any item for -1."""
        return self.embed_codes(self.codes[items.clamp(min=0)][..., -1:], self.n_levels - 1)

    def target_logits(
        self, x: torch.Tensor, targets: torch.Tensor, encoded: Encoded, last_seen: torch.Tensor
    ) -> torch.Tensor:
        """Teacher-forced logits [U, R, L, C] of items [U, R] from the decoder's states [U, R, L, D]."""
        return self.code_logits(x)

    def start_input(self, memory: Memory) -> torch.Tensor:
        """The start of one sequence a user as a decoder input, broadcasting to [U, 1, D]."""
        return torch.zeros((len(memory.bias), 1, self.config.width), device=memory.bias.device)

    def code_input(
        self, tokens: torch.Tensor, parents: torch.Tensor, cache: Cache, level: int
    ) -> tuple[torch.Tensor, Cache]:
        """Decoder inputs [U, R, D] of the codes [U, R] of a level that sequences wrote last, and their cache."""
        return self.embed_codes(tokens, level), cache.follow(parents)

    def write(self, x: torch.Tensor, level: int, memory: Memory, cache: Cache) -> tuple[torch.Tensor, Cache]:
        """Logits [U, R, C] of the code of a level from one new position x [U, R, D], and the cache with it."""
        x, cache = self.step_decoder(x[:, :, None], memory, cache)
        return self.code_logits(x, level)[:, :, 0], cache

    def causal_mask(self, length: int) -> torch.Tensor:
        """bool [length, length]: each position of a sequence may attend to itself and to those before it."""
        return torch.ones(length, length, dtype=torch.bool, device=self.codes.device).tril()

    def embed_codes(self, codes: torch.Tensor, level: torch.Tensor | int) -> torch.Tensor:
        """Decoder inputs [..., D] of codes [...] of a level, or of levels that broadcast."""
        return self.token_in(self.dropout(self.code_embedding(codes + level * self.codebook_size)))

    def code_logits(self, x: torch.Tensor, level: int | None = None) -> torch.Tensor:
        """Logits [..., C] over the codes of a level from states [..., D]; of all levels from [..., L, D] if None."""
        with torch.autocast(x.device.type, enabled=False):
            x = self.decoder_norm(x).float()
            return torch.einsum("...ld,lcd->...lc", x, self.head) if level is None else F.linear(x, self.head[level])

    @property
    def _decoder(self) -> Iterable[DecoderBlock]:
        return cast(Iterable[DecoderBlock], self.decoder_blocks)

    @property
    def _level_offsets(self) -> torch.Tensor:
        return torch.arange(self.n_levels, device=self.codes.device) * self.codebook_size

    def _contents(self, items: torch.Tensor) -> torch.Tensor:
        """What the encoder is told of items [U, R]: [U, R, D]."""
        x, fields = self._embed_items(items)
        return x.unflatten(1, (items.shape[1], fields)).mean(dim=2)

    def _embed_items(self, history: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Encoder input [U, S, D] and how many positions an item takes."""
        items = history.clamp(min=0)
        fields = [self.code_embedding(self.codes[items] + self._level_offsets)]
        attributes = self.attributes[items]
        for k, embedding in enumerate(self.attribute_embeddings):
            fields.append(embedding(attributes[..., k] + 1)[:, :, None])
        x = self.dropout(torch.cat(fields, dim=2))
        if self.config.positions == "item":
            return self.item_in(x.flatten(2)) + self.field_embedding, 1
        return (self.item_in(x) + self.field_embedding).flatten(1, 2), x.shape[2]

    def _cross_bias(self, memory: Encoded, last_seen: torch.Tensor) -> torch.Tensor:
        """Bias [U, H, R, S] for sequences that may read the history up to item last_seen [R]."""
        distance = last_seen[:, None] - memory.item_of[None, :]
        bias = self.cross_bias[:, distance.clamp(min=0)].masked_fill(distance < 0, MASKED)
        return bias.masked_fill(~memory.real[:, None, None, :], MASKED)


def last_places(history: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """int64 [R]: the last item of histories [U, T] that each of R targets [U, R] follows, the last one after all."""
    return torch.arange(history.shape[1] - targets.shape[1], history.shape[1], device=history.device)
