"""Weights with what gives them meaning: the model's shape, the fingerprints of its semantic IDs and attributes."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from redraft.files import atomic_file
from redraft.model.backbone import Backbone, ModelConfig
from redraft.model.generator import CorrectingGenerator, Generator, GeneratorConfig
from redraft.model.slots import DEFAULT, check_kinds
from redraft.model.template import GRC
from redraft.records import Catalogue, InputError, SemanticIds
from redraft.stored import check_tensors, parsed, read_tensors, record
from redraft.tokenizer.trie import Trie

__all__ = [
    "build_backbone",
    "build_grc",
    "check_item_counts",
    "check_same_items",
    "load_backbone",
    "save_backbone",
    "weights_fingerprint",
]

FORMAT = "redraft-backbone"
VERSION = "1"
FIX = "train again or copy it again"


def check_item_counts(ids: SemanticIds, catalogue: Catalogue) -> None:
    """Raise InputError if there are not as many items in the catalogue as semantic IDs."""
    if ids.n_items != catalogue.n_items:
        raise InputError(
            f"semantic IDs of {ids.n_items} items, but a catalogue of {catalogue.n_items}; "
            "make the ids from this data set with `redraft tokenize`"
        )


def check_same_items(run: Path, known: Catalogue, data: Path, given: Catalogue) -> None:
    """Raise InputError if a run was trained on other items than those of a data set: its item numbers mean others."""
    if not known.ids.equals(given.ids):
        raise InputError(f"{run}: trained on other items than those of {data}; use the data set it was trained on")


def build_backbone(config: ModelConfig, ids: SemanticIds, catalogue: Catalogue) -> Backbone:
    """A fresh model over these items; raises InputError as `check_item_counts`."""
    check_item_counts(ids, catalogue)
    codes, attributes = torch.from_numpy(ids.codes), torch.from_numpy(catalogue.attributes)
    if isinstance(config, GeneratorConfig):
        return Generator(config, codes, ids.codebook_size, attributes, Trie.build(ids))
    return Backbone(config, codes, ids.codebook_size, attributes)


def build_grc(
    config: ModelConfig,
    ids: SemanticIds,
    catalogue: Catalogue,
    *,
    reflection: bool,
    slots: Sequence[str] = DEFAULT,
    backbone: Backbone | None = None,
) -> GRC:
    """A generate-reflect-correct model over these items, from the weights of a backbone if one is given.

    Raises InputError as `check_item_counts`.
    """
    check_item_counts(ids, catalogue)
    shape = config, torch.from_numpy(ids.codes), ids.codebook_size, torch.from_numpy(catalogue.attributes)
    if isinstance(config, GeneratorConfig):
        model: GRC = CorrectingGenerator(*shape, Trie.build(ids), reflection=reflection, slots=slots)
    else:
        model = GRC(*shape, reflection=reflection, slots=slots)
    if backbone is not None:
        model.load_state_dict(backbone.state_dict(), strict=False)
    return model


def weights_fingerprint(model: nn.Module) -> str:
    """sha256 over the names and values of all weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_backbone(model: Backbone, path: Path, ids: SemanticIds, catalogue: Catalogue) -> None:
    """Write weights, shape and fingerprints as one safetensors file; of a GRC model, too."""
    template = None
    if isinstance(model, GRC):
        template = {"reflection": model.reflection, "slots": [kind.name for kind in model.kinds]}
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "template": json.dumps(template),
        "verifier": json.dumps(model.verifier is not None),
        "kind": "generator" if isinstance(model, Generator) else "backbone",
        "model": json.dumps(dataclasses.asdict(model.config)),
        "semantic_ids": ids.fingerprint,
        "attributes": _attributes_fingerprint(catalogue),
        "weights": weights_fingerprint(model),
    }
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    with atomic_file(path) as partial:
        save_file(weights, partial, metadata)


def load_backbone(path: Path, ids: SemanticIds, catalogue: Catalogue) -> Backbone:
    """Read a model back: a Backbone, or a GRC if that is what was saved.

    Raises InputError if the file is not a backbone or damaged, holds weights that are missing, of another shape or not
    finite, or was trained with other semantic IDs or other attributes.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; train one with `redraft train`")
    metadata, weights = read_tensors(path, "checkpoint", FIX)
    if metadata.get("format") != FORMAT or metadata.get("version") != VERSION:
        raise InputError(f"{path}: not a checkpoint of this version of redraft; train again with `redraft train`")
    theirs = metadata.get("semantic_ids", "none")
    if theirs != ids.fingerprint:
        raise InputError(
            f"{path}: trained with semantic IDs {theirs[:12]}, but given {ids.fingerprint[:12]}; "
            "load it with the ids it was trained with"
        )
    if metadata.get("attributes") != _attributes_fingerprint(catalogue):
        raise InputError(f"{path}: trained with other item attributes; load it with the data set it was trained on")
    shape = GeneratorConfig if metadata.get("kind") == "generator" else ModelConfig
    content = parsed(path, metadata, "model", FIX)
    if shape is GeneratorConfig and isinstance(content, dict):
        content = {"pooling": "mean"} | content  # what those of before were, which do not say it
    config = record(shape, content, path, FIX)
    longest = max((len(weights), *(size for weight in weights.values() for size in weight.shape)))
    for name in (field.name for field in dataclasses.fields(ModelConfig)):
        number = getattr(config, name)
        if isinstance(number, int) and number > longest:
            raise InputError(f"{path}: {name!r} is {number}, more than its weights have room for; {FIX}")
    model = _described(path, metadata, config, ids, catalogue)
    check_tensors(path, weights, model.state_dict(), FIX)
    model.load_state_dict(weights)
    if "weights" in metadata and metadata["weights"] != weights_fingerprint(model):
        raise InputError(f"{path}: its weights were changed after they were written; {FIX}")
    return model.eval()


def _described(
    path: Path, metadata: dict[str, str], config: ModelConfig, ids: SemanticIds, catalogue: Catalogue
) -> Backbone:
    """A fresh model of the kind that a checkpoint's metadata name."""
    template = parsed(path, {"template": "null"} | metadata, "template", FIX)
    verifier = parsed(path, {"verifier": "false"} | metadata, "verifier", FIX)
    try:
        if template is None:
            model = build_backbone(config, ids, catalogue)
        else:
            told = record(_Template, template, path, FIX, newer=("slots",))
            if told.reflection:
                check_kinds(told.slots)
            model = build_grc(config, ids, catalogue, reflection=told.reflection, slots=told.slots)
        if verifier:
            model.add_verifier()
    except (InputError, MemoryError, OverflowError, RuntimeError) as error:
        raise InputError(f"{path}: names a model that cannot be ({str(error).splitlines()[0]}); {FIX}") from None
    return model


@dataclasses.dataclass(frozen=True)
class _Template:
    reflection: bool
    slots: tuple[str, ...] = DEFAULT


def _attributes_fingerprint(catalogue: Catalogue) -> str:
    digest = hashlib.sha256(json.dumps([catalogue.n_items, catalogue.attribute_names]).encode())
    digest.update(catalogue.attributes.astype("<i4").tobytes())
    for values in catalogue.attribute_values:
        digest.update(json.dumps(values.to_list()).encode())
    return digest.hexdigest()
