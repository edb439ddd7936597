"""More items for a trained model, without training."""

import copy
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from redraft.model.backbone import Backbone
from redraft.model.generator import Generator
from redraft.prefix_tree import PrefixTree
from redraft.records import IntArray

__all__ = ["carried", "grown"]

Model = TypeVar("Model", bound=Backbone)

CODE_TABLES = ("code_embedding", "attribute_embeddings", "items.codes", "items.attributes")


def grown(model: Model, codes: torch.Tensor, attributes: torch.Tensor, tree: PrefixTree) -> Model:
    """A copy of a model over N + M items; what it says of the old ones stays as it is, as far as they stand alone.

    codes: int64 [N + M, L], the model's and then the new ones. attributes: int64 [M, K] of the new items, -1 = unknown.
    tree: of all codes. Tables with a row per item get zeros for the new ones, so that their vectors come from their
    content until the model is trained again; a table of one number per item gets the mean.
    """
    n_old = len(model.codes)
    more = copy.deepcopy(model)
    more.codes = codes.to(model.codes)
    more.attributes = torch.cat([model.attributes, attributes.to(model.attributes)])
    for name, module in more.named_modules():
        if not isinstance(module, nn.Embedding) or name.startswith(CODE_TABLES) or module.num_embeddings != n_old:
            continue
        table = module.weight.detach()
        row = table.mean(dim=0, keepdim=True) if table.shape[1] == 1 else torch.zeros_like(table[:1])
        module.weight = nn.Parameter(torch.cat([table, row.expand(len(codes) - n_old, -1)]))
        module.num_embeddings = len(codes)
    if isinstance(more, Generator):
        _grow_tree(more, model.codes, tree)
    return more


def carried(known: Generator, fresh: Generator, items: IntArray, values: Sequence[IntArray]) -> Generator:
    """A fresh generator, over items in any order, with what a trained one of the same shape knows of them.

    items: int64 [N], what number each item had, -1 for a new one; those that are not new keep their codes. values: for
    each attribute int64 [n], what number each of its values had. New items get zeros for their number, as in `grown`,
    new values the vector of an unknown one, new nodes of the tree a bias of 0.
    """
    weights = known.state_dict()
    numbers, new = weights["items.number.weight"], torch.from_numpy(items < 0)
    weights["items.number.weight"] = numbers[np.maximum(items, 0)].masked_fill(new[:, None], 0.0)
    weights["counts"] = weights["counts"][np.maximum(items, 0)].masked_fill(new, 0)
    for k, value in enumerate(values):
        table = weights[f"items.attributes.{k}.weight"]  # its first row is that of an unknown value
        weights[f"items.attributes.{k}.weight"] = table[np.concatenate([[0], value + 1])]
    for level, bias in enumerate(_grown_biases(known, known.codes, fresh.codes)):
        weights[f"child_bias.{level}"] = bias
    fresh.load_state_dict(weights)
    return fresh.eval()


def _grow_tree(more: Generator, old_codes: torch.Tensor, tree: PrefixTree) -> None:
    """Give the nodes of the larger tree what the model knew of them, 0 for new ones, and work out their vectors."""
    more.tree = tree
    for level, bias in enumerate(_grown_biases(more, old_codes, more.codes)):
        more.child_bias[level] = nn.Parameter(bias)
        more.register_buffer(f"below_{level}", bias.new_zeros(len(bias), more.config.width), persistent=False)
    more.counts = torch.nn.functional.pad(more.counts, (0, len(more.codes) - len(old_codes)))
    more.item_table = more.item_table.new_zeros(len(more.codes), more.config.width)
    more.unit_table = more.unit_table.new_zeros(len(more.codes) * more.exact, more.config.width)
    more.keep_vectors()


def _grown_biases(known: Generator, old_codes: torch.Tensor, codes: torch.Tensor) -> Iterator[torch.Tensor]:
    """What a model knows of the nodes of a larger tree, level by level: its own biases, and 0 for new nodes."""
    for level, bias in enumerate(known.child_bias):
        old, new = (_nodes(rows, level, known.codebook_size) for rows in (old_codes, codes))
        grown_bias = torch.zeros(len(new), dtype=bias.dtype, device=bias.device)
        grown_bias[torch.searchsorted(new, old)] = bias.detach()
        yield grown_bias


def _nodes(codes: torch.Tensor, level: int, codebook_size: int) -> torch.Tensor:
    """The nodes of depth level + 1 in their order, as keys: int64 [n]."""
    keys = codes[:, 0]
    for column in range(1, level + 1):
        keys = keys * codebook_size + codes[:, column]
    return keys.unique()
