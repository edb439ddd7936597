"""Tiny worlds for tests: random catalogues, semantic IDs and backbones in which every parameter has a say."""

from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl
import torch

from redraft.data.split import leave_one_out
from redraft.model.backbone import Backbone, ModelConfig
from redraft.model.generator import Generator, GeneratorConfig
from redraft.records import Catalogue, Interactions, Labels, Reflection, SemanticIds
from redraft.tokenizer.trie import Trie
from redraft.train.pretrain import PretrainConfig, pretrain

Model = TypeVar("Model", bound=Backbone)


def tiny_ids(n_items: int, n_levels: int, codebook_size: int, seed: int = 0) -> SemanticIds:
    keys = np.random.default_rng(seed).permutation(codebook_size**n_levels)[:n_items]
    codes = keys[:, None] // codebook_size ** np.arange(n_levels - 1, -1, -1) % codebook_size
    return SemanticIds(codes.astype(np.int32), codebook_size)


def tiny_catalogue(n_items: int, n_attributes: int = 1, seed: int = 0) -> Catalogue:
    """Attributes of three values each, some of them unknown."""
    attributes = np.random.default_rng(seed).integers(-1, 3, (n_items, n_attributes)).astype(np.int32)
    attributes[:3] = np.arange(3)[:n_items, None]
    return Catalogue(
        ids=pl.Series("id", [f"item-{i}" for i in range(n_items)]),
        titles=pl.Series("title", [f"thing {i}" for i in range(n_items)]),
        descriptions=pl.Series("description", [""] * n_items),
        attributes=attributes,
        attribute_names=tuple(f"attribute{k}" for k in range(n_attributes)),
        attribute_values=tuple(pl.Series("value", ["a", "b", "c"]) for _ in range(n_attributes)),
    )


def tiny_config(**changes) -> ModelConfig:
    shape = {"history": 8, "width": 16, "embedding": 8, "feed_forward": 24, "heads": 2, "dropout": 0.0}
    return ModelConfig(**{**shape, **changes})


def tiny_backbone(config: ModelConfig, ids: SemanticIds, catalogue: Catalogue, seed: int = 0) -> Backbone:
    model = Backbone(config, torch.from_numpy(ids.codes), ids.codebook_size, torch.from_numpy(catalogue.attributes))
    return with_random_weights(model, seed)


def tiny_generator_config(**changes) -> GeneratorConfig:
    shape = {"history": 8, "width": 16, "embedding": 8, "feed_forward": 24, "heads": 2, "dropout": 0.0}
    return GeneratorConfig(**{**shape, "encoder_layers": 2, "negatives": 8, **changes})


def tiny_generator(config: GeneratorConfig, ids: SemanticIds, catalogue: Catalogue, seed: int = 0) -> Generator:
    codes, attributes = torch.from_numpy(ids.codes), torch.from_numpy(catalogue.attributes)
    return with_random_weights(Generator(config, codes, ids.codebook_size, attributes, Trie.build(ids)), seed)


def with_random_weights(model: Model, seed: int) -> Model:
    """Weights as after some training: none is zero, so that every path shows in the result."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            spread = weight.shape[-1] ** -0.5 if weight.dim() > 1 else 0.5
            weight.normal_(0.0, spread, generator=generator)
        if hasattr(model, "encoder_bias"):
            model.encoder_bias.normal_(generator=generator)
        model.cross_bias.normal_(generator=generator)
    return model.eval()


def labels_of(location: torch.Tensor, match: torch.Tensor) -> Labels:
    """Labels of the location [...] and of attributes [..., K]."""
    return torch.cat([location[..., None], match], dim=-1)


def reflection_of(location: torch.Tensor, match: torch.Tensor) -> Reflection:
    """What is thought of the location [..., L + 1] and of attributes [..., K, 2]."""
    return Reflection((location[..., None, :], match))


def random_interactions(lengths: list[int], n_items: int, seed: int = 0) -> Interactions:
    rng = np.random.default_rng(seed)
    return Interactions.from_lists([rng.integers(n_items, size=n).tolist() for n in lengths])


def tiny_interactions(users: int) -> Interactions:
    """Users of 3 to 14 events each."""
    return random_interactions([3 + u % 12 for u in range(users)], 30)


def tiny_train(users: int) -> Interactions:
    """What `tiny_run` learns from."""
    return leave_one_out(tiny_interactions(users)).train


def tiny_run(
    out: Path, *, users: int = 40, ids: SemanticIds | None = None, init: Backbone | None = None, **changes
) -> None:
    """Pre-train a tiny model for two epochs."""
    knobs = {
        "model": tiny_config(dropout=0.1),
        "epochs": 2,
        "batch_size": 48,
        "learning_rate": 3e-3,
        "precision": "float32",
        "evaluate_every": 1,
        "evaluate_users": 16,
        "evaluate_beams": 10,
        "save_every": 2,
    }
    split = leave_one_out(tiny_interactions(users))
    config = PretrainConfig(Path("data"), out, **{**knobs, **changes})
    pretrain(split.train, split.validation, ids or tiny_ids(30, 3, 5), tiny_catalogue(30), config, init=init)
