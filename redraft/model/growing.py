"""More items for a trained model, without training."""

import copy
from typing import TypeVar

import torch
from torch import nn

from redraft.model.backbone import Backbone

__all__ = ["grown"]

Model = TypeVar("Model", bound=Backbone)

CODE_TABLES = ("code_embedding", "attribute_embeddings")


def grown(model: Model, codes: torch.Tensor, attributes: torch.Tensor) -> Model:
    """A copy of a model over N + M items; what it says of the old ones stays as it is.

    codes: int64 [N + M, L], the model's and then the new ones. attributes: int64 [M, K] of the new items, -1 = unknown.
    Tables with a row per item get zeros for the new ones, so that their vectors come from their content until the model
    is trained again; a table of one number per item gets the mean.
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
    return more
