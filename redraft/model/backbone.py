"""The TIGER backbone: an encoder over the history, a decoder that writes semantic IDs (paper section 3.2).

One forward path serves all uses. A decoder pass holds R sequences a user: one for each item of the history that is
predicted from what came before it (training with shared prefixes), one target (plain training), or B beams (search).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import nn

from redraft.model.layers import DecoderBlock, EncoderBlock, KeysValues

__all__ = ["Backbone", "Cache", "Memory", "ModelConfig"]

MASKED = -1e9


@dataclass(frozen=True)
class ModelConfig:
    """The shape of the model."""

    history: int = 20
    """Items of the history that the encoder reads, most recent last."""
    positions: Literal["item", "code"] = "item"
    """One encoder position an item (embeddings concatenated and projected), or one a code and attribute (flat form)."""
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
    """Dropout on embeddings and residual branches."""


class Memory(NamedTuple):
    """What the decoder reads of U users, computed once: keys and values of every decoder block [U, H, S, D / H].

    place: int64 [S], which item of the history a position belongs to. real: bool [U, S], False at padding.
    """

    blocks: tuple[KeysValues, ...]
    place: torch.Tensor
    real: torch.Tensor


class Cache(NamedTuple):
    """Self-attention keys and values of every decoder block, [U, R, H, P, D / H]."""

    blocks: tuple[KeysValues, ...]


class Backbone(nn.Module):
    """Encoder-decoder transformer over semantic IDs.

    codes: int64 [N, L], the code table. attributes: int64 [N, K], -1 = unknown. Both come from the artifacts that a
    checkpoint names by fingerprint, so they are not part of its weights.
    """

    codes: torch.Tensor
    attributes: torch.Tensor

    def __init__(self, config: ModelConfig, codes: torch.Tensor, codebook_size: int, attributes: torch.Tensor):
        super().__init__()
        self.config = config
        self.codebook_size = codebook_size
        self.n_levels, n_attributes = codes.shape[1], attributes.shape[1]
        n_values = [int(attributes[:, k].max()) + 1 for k in range(n_attributes)]
        self.register_buffer("codes", codes.long(), persistent=False)
        self.register_buffer("attributes", attributes.long(), persistent=False)
        self.code_embedding = nn.Embedding(self.n_levels * codebook_size, config.embedding)
        self.attribute_embeddings = nn.ModuleList(nn.Embedding(n + 1, config.embedding) for n in n_values)
        n_fields = self.n_levels + n_attributes
        per_item = n_fields if config.positions == "item" else 1
        self.item_in = nn.Linear(per_item * config.embedding, config.width, bias=False)
        self.field_embedding = nn.Parameter(torch.zeros(n_fields if config.positions == "code" else 1, config.width))
        self.token_in = nn.Linear(config.embedding, config.width, bias=False)
        self.level_embedding = nn.Parameter(torch.zeros(self.n_levels, config.width))
        shape = (config.width, config.heads, config.feed_forward, config.dropout)
        self.encoder_blocks = nn.ModuleList(EncoderBlock(*shape) for _ in range(config.encoder_layers))
        self.encoder_norm = nn.LayerNorm(config.width, bias=False)
        self.decoder_blocks = nn.ModuleList(DecoderBlock(*shape) for _ in range(config.decoder_layers))
        self.decoder_norm = nn.LayerNorm(config.width, bias=False)
        self.encoder_bias = nn.Parameter(torch.zeros(config.heads, 2 * config.history + 1))
        self.cross_bias = nn.Parameter(torch.zeros(config.heads, config.history + 1))
        self.head = nn.Parameter(torch.empty(self.n_levels, codebook_size, config.width))
        self.dropout = nn.Dropout(config.dropout)
        self._initialise()

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
        nn.init.normal_(self.field_embedding, std=0.5)

    def encode(self, history: torch.Tensor) -> Memory:
        """Read histories [U, T] of item numbers, most recent last, -1 pads."""
        n_items = history.shape[1]
        x, fields = self._embed_items(history)
        place = torch.arange(n_items, device=history.device).repeat_interleave(fields)
        real = (history >= 0).repeat_interleave(fields, dim=1)
        distance = place[:, None] - place[None, :]
        bias = self.encoder_bias[:, distance + self.config.history]
        if self.config.encoder == "causal":
            bias = bias.masked_fill(distance < 0, MASKED)
        bias = bias.masked_fill(~real[:, None, None, :], MASKED)
        for block in self.encoder_blocks:
            x = block(x, bias)
        x = self.encoder_norm(x)
        decoder = cast(Iterable[DecoderBlock], self.decoder_blocks)
        return Memory(tuple(block.cross_attention.project(x) for block in decoder), place, real)

    def forward(self, history: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Teacher-forced logits [U, R, L, C] of R targets [U, R] a user, the last of which follows the whole history.

        Target R - 1 - j was preceded by all but the last j items; -1 stands for a target that is not asked for.
        """
        n_rows = targets.shape[1]
        memory = self.encode(history)
        tokens = self.codes[targets.clamp(min=0)][..., :-1] + self._level_offsets[:-1]
        start = torch.zeros((*targets.shape, 1, self.config.width), device=history.device)
        x = torch.cat([start, self.token_in(self.dropout(self.code_embedding(tokens)))], dim=2) + self.level_embedding
        causal = torch.ones(self.n_levels, self.n_levels, dtype=torch.bool, device=x.device).tril()
        self_bias = torch.zeros_like(causal, dtype=x.dtype).masked_fill(~causal, MASKED)
        last_seen = torch.arange(history.shape[1] - n_rows, history.shape[1], device=x.device)
        cross_bias = self._cross_bias(memory, last_seen).repeat_interleave(self.n_levels, dim=2)
        for block, kv in zip(self.decoder_blocks, memory.blocks):
            x, _ = block(x, None, kv, self_bias, cross_bias)
        with torch.autocast(x.device.type, enabled=False):
            return torch.einsum("urld,lcd->urlc", self.decoder_norm(x).float(), self.head)

    def decode_step(
        self, tokens: torch.Tensor | None, parents: torch.Tensor | None, cache: Cache | None, memory: Memory
    ) -> tuple[torch.Tensor, Cache]:
        """One step of a search; see redraft.decode.beam.Decoder. Logits [U, R, C]."""
        if tokens is None or parents is None or cache is None:
            level = 0
            x = torch.zeros((len(memory.real), 1, 1, self.config.width), device=memory.real.device)
            past: list[KeysValues | None] = [None] * len(self.decoder_blocks)
        else:
            level = cache.blocks[0].keys.shape[-2]
            x = self.token_in(self.code_embedding(tokens + (level - 1) * self.codebook_size))[:, :, None]
            past = [KeysValues(_follow(kv.keys, parents), _follow(kv.values, parents)) for kv in cache.blocks]
        x = x + self.level_embedding[level]
        cross_bias = self._cross_bias(memory, memory.place[-1:])
        written = []
        for block, before, kv in zip(self.decoder_blocks, past, memory.blocks):
            x, kept = block(x, before, kv, None, cross_bias)
            written.append(kept)
        with torch.autocast(x.device.type, enabled=False):
            logits = F.linear(self.decoder_norm(x)[:, :, 0].float(), self.head[level])
        return logits, Cache(tuple(written))

    @property
    def _level_offsets(self) -> torch.Tensor:
        return torch.arange(self.n_levels, device=self.codes.device) * self.codebook_size

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

    def _cross_bias(self, memory: Memory, last_seen: torch.Tensor) -> torch.Tensor:
        """Bias [U, H, R, S] for sequences that may read the history up to item last_seen [R]."""
        distance = last_seen[:, None] - memory.place[None, :]
        bias = self.cross_bias[:, distance.clamp(min=0)].masked_fill(distance < 0, MASKED)
        return bias.masked_fill(~memory.real[:, None, None, :], MASKED)


def _follow(kept: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
    """Reorder [U, R, ...] so that each beam continues its parent [U, R']."""
    users = torch.arange(len(parents), device=parents.device)[:, None]
    return kept[users, parents]
