"""Hugging Face's T5 with the layers and widths of our backbone: what one would otherwise train and search with."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from redraft.model.backbone import ModelConfig
from redraft.records import InputError, SemanticIds
from redraft.tokenizer.trie import Trie

__all__ = ["END", "FIRST_CODE", "PADDING", "build_t5", "flat_tokens", "prefix_function", "t5_search", "trie_mask"]

PADDING, END, FIRST_CODE = 0, 1, 2


def build_t5(shape: ModelConfig, n_levels: int, codebook_size: int, *, use_cache: bool) -> nn.Module:
    """A fresh T5 whose token 2 + l * C + c is code c of level l.

    Raises InputError if transformers is not installed.
    """
    try:
        from transformers import T5Config, T5ForConditionalGeneration
    except ImportError:
        raise InputError(
            "compares with the T5 of `transformers`, which is not installed; install it: pip install transformers"
        ) from None
    config = T5Config(
        vocab_size=FIRST_CODE + n_levels * codebook_size,
        d_model=shape.width,
        d_kv=shape.width // shape.heads,
        d_ff=shape.feed_forward,
        num_layers=shape.encoder_layers,
        num_decoder_layers=shape.decoder_layers,
        num_heads=shape.heads,
        dropout_rate=shape.dropout,
        use_cache=use_cache,
        pad_token_id=PADDING,
        eos_token_id=END,
        decoder_start_token_id=PADDING,
    )
    model: nn.Module = T5ForConditionalGeneration(config)
    # The cache that generate makes has a layer for each encoder block; this model has more decoder blocks.
    config.num_layers = max(shape.encoder_layers, shape.decoder_layers)
    return model


def flat_tokens(items: torch.Tensor, codes: torch.Tensor, codebook_size: int) -> torch.Tensor:
    """The tokens [..., L] of items [...] by their codes int64 [N, L]; padding for -1."""
    levels = torch.arange(codes.shape[1], device=codes.device)
    tokens = codes[items.clamp(min=0)].long() + levels * codebook_size + FIRST_CODE
    return torch.where(items[..., None] >= 0, tokens, PADDING)


def prefix_function(ids: SemanticIds) -> Callable[[int, torch.Tensor], list[int]]:
    """`prefix_allowed_tokens_fn` over a trie of dictionaries, as generative recommenders publish it."""
    root: dict[int, Any] = {}
    every = torch.arange(ids.n_items)
    for tokens in flat_tokens(every, torch.from_numpy(ids.codes), ids.codebook_size).tolist():
        node = root
        for token in tokens:
            node = node.setdefault(token, {})

    def allowed(_: int, written: torch.Tensor) -> list[int]:
        node = root
        for token in written.tolist()[1:]:
            node = node.get(token, {})
        return list(node) or [END]

    return allowed


def trie_mask(trie: Trie) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """A logits processor that masks all beams at once with our trie's tables."""

    def process(written: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        nodes = torch.zeros(len(written), dtype=torch.int64, device=written.device)
        depth = written.shape[1] - 1
        for level in range(depth):
            codes = written[:, level + 1] - FIRST_CODE - level * trie.codebook_size
            children, offered, real = trie.expand(nodes, level)
            number = ((offered == codes[:, None]) & real).byte().argmax(dim=1, keepdim=True)
            nodes = children.gather(1, number)[:, 0]
        first = FIRST_CODE + depth * trie.codebook_size
        masked = torch.full_like(scores, -torch.inf)
        own = slice(first, first + trie.codebook_size)
        masked[:, own] = scores[:, own].masked_fill(~trie.mask(nodes, depth), -torch.inf)
        return masked

    return process


def t5_search(
    model: Any,
    tokens: torch.Tensor,
    n_levels: int,
    n_beams: int,
    *,
    prefix: Callable[[int, torch.Tensor], list[int]] | None = None,
    processors: Sequence[Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = (),
) -> torch.Tensor:
    """Beam search by `generate`, under one of the two constraints: token sequences [U, B, L + 1].

    tokens: int64 [U, S], padding to either side.
    """
    with torch.inference_mode():
        sequences: torch.Tensor = model.generate(
            input_ids=tokens,
            attention_mask=(tokens != PADDING).long(),
            num_beams=n_beams,
            num_return_sequences=n_beams,
            max_new_tokens=n_levels,
            do_sample=False,
            early_stopping=True,
            prefix_allowed_tokens_fn=prefix,
            logits_processor=list(processors),
        )
    return sequences.view(len(tokens), n_beams, -1)
