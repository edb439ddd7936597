"""Items to semantic IDs in one command: text -> vectors -> codes -> artifact, with a report."""

import json
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from rich.console import Console

from redraft.data.store import load_dataset
from redraft.files import write_json
from redraft.records import Catalogue, FloatArray, InputError, IntArray, SemanticIds
from redraft.tokenizer.collisions import residual_distances, resolve_collisions
from redraft.tokenizer.embed import item_texts, load_vectors, sentence_vectors, tfidf_vectors
from redraft.tokenizer.kmeans import nearest_codes, residual_kmeans
from redraft.tokenizer.report import TokenizerReport, relative_errors, report_table, tokenizer_report
from redraft.tokenizer.semantic_ids import read_published_codes, save_semantic_ids
from redraft.train.processes import join_processes
from redraft.train.rqvae import RqvaeConfig, train_rqvae

__all__ = ["TokenizeConfig", "item_vectors", "kmeans_ids", "main", "published_ids", "rqvae_ids"]


@dataclass(frozen=True)
class TokenizeConfig:
    """Give every item of a data set its semantic ID."""

    data: Annotated[Path, tyro.conf.Positional]
    """Data-set folder."""
    out: Path | None = None
    """File to write; by default semantic_ids.safetensors in the data-set folder."""
    method: Literal["rqvae", "kmeans", "published"] = "rqvae"
    """How ids are made: RQ-VAE, residual k-means (faster), or read from a published index.json."""
    vectors: str = "tfidf"
    """Item vectors: tfidf, a sentence-transformers model name or folder, or a .npy file with a row an item."""
    dim: int = 64
    """Width of tfidf vectors."""
    allow_empty: bool = False
    """Accept items without any text."""
    index: Path | None = None
    """The index.json of method published; it brings its own levels and codebook size."""
    levels: int = 4
    """Codes an item."""
    codebook_size: int = 300
    """Codes a level."""
    seed: int = 0
    """Seed of everything random."""
    rqvae: RqvaeConfig = field(default_factory=RqvaeConfig)
    """Training of the RQ-VAE."""


def main(config: TokenizeConfig) -> TokenizerReport:
    """Make, save and report the semantic IDs of a data set.

    Writes the artifact, its report as JSON beside it, and for the RQ-VAE a folder of weights and metrics.
    """
    dataset = load_dataset(config.data)
    out = config.out or config.data / "semantic_ids.safetensors"
    sizes = {"levels": config.levels, "codebook_size": config.codebook_size, "seed": config.seed}
    if config.method == "published":
        if config.index is None:
            raise InputError("method published: no file to read; pass --index PATH/TO/index.json")
        ids, report = published_ids(config.index, dataset.catalogue.n_items)
    else:
        vectors = item_vectors(
            dataset.catalogue, config.vectors, dim=config.dim, allow_empty=config.allow_empty, seed=config.seed
        )
        if config.method == "kmeans":
            ids, report = kmeans_ids(vectors, **sizes)
        else:
            ids, report = rqvae_ids(vectors, out.with_suffix(".rqvae"), **sizes, **asdict(config.rqvae))
    if join_processes().is_main_process:
        source = {
            "method": config.method,
            "config": json.loads(json.dumps(asdict(config), default=str)),
            "data_fingerprint": dataset.fingerprint,
            "versions": {name: version(name) for name in ("redraft", "torch", "numpy", "scikit-learn", "faiss-cpu")},
        }
        save_semantic_ids(ids, out, source=source)
        write_json(out.with_suffix(".json"), {"fingerprint": ids.fingerprint, "report": asdict(report), **source})
        console = Console()
        console.print(report_table(report))
        console.print(
            f"wrote {out} (fingerprint {ids.fingerprint[:12]}), report {out.with_suffix('.json')}", soft_wrap=True
        )
        console.print(f"next: redraft train {config.data}", soft_wrap=True)
    return report


def item_vectors(catalogue: Catalogue, kind: str, *, dim: int, allow_empty: bool, seed: int) -> FloatArray:
    """float32 [N, D], rows of length one. kind: tfidf, a .npy file, or a sentence-transformers name or folder.

    Raises InputError for an item without text (unless allow_empty), a file of other shape, an unknown model.
    """
    if kind.endswith(".npy"):
        return load_vectors(Path(kind), catalogue.n_items)
    texts = item_texts(catalogue, allow_empty=allow_empty)
    return tfidf_vectors(texts, dim=dim, seed=seed) if kind == "tfidf" else sentence_vectors(texts, kind)


def published_ids(index: Path, n_items: int) -> tuple[SemanticIds, TokenizerReport]:
    """Ids from a published index.json, collisions resolved in numeric order."""
    raw, codebook_size = read_published_codes(index, n_items)
    ids = SemanticIds(resolve_collisions(raw, codebook_size), codebook_size)
    return ids, tokenizer_report(raw, ids)


def kmeans_ids(
    vectors: FloatArray, *, levels: int, codebook_size: int, seed: int
) -> tuple[SemanticIds, TokenizerReport]:
    """Ids by residual k-means on vectors [N, D]."""
    codebooks = residual_kmeans(vectors, levels=levels, codebook_size=codebook_size, seed=seed)
    ids, raw = _unique_ids(vectors, codebooks)
    return ids, tokenizer_report(raw, ids, relative_errors(vectors, ids.codes, codebooks, lambda latents: latents))


def rqvae_ids(
    vectors: FloatArray, folder: Path, *, levels: int, codebook_size: int, seed: int, **training: Any
) -> tuple[SemanticIds, TokenizerReport]:
    """Ids by an RQ-VAE trained on vectors [N, D]; folder and training: as in `train_rqvae`."""
    model = train_rqvae(vectors, folder, levels=levels, codebook_size=codebook_size, seed=seed, **training)
    model.requires_grad_(False)
    latents = model.encode(torch.from_numpy(vectors)).numpy()
    codebooks = model.codebooks.numpy()
    ids, raw = _unique_ids(latents, codebooks)
    errors = relative_errors(vectors, ids.codes, codebooks, lambda sums: model.decode(torch.from_numpy(sums)).numpy())
    return ids, tokenizer_report(raw, ids, errors)


def _unique_ids(latents: FloatArray, codebooks: FloatArray) -> tuple[SemanticIds, IntArray]:
    """Ids of latents [N, D] under codebooks [L, C, D], and their codes [N, L] before collisions were resolved."""
    raw = nearest_codes(latents, codebooks)
    codebook_size = codebooks.shape[1]
    distances = residual_distances(latents, codebooks)
    return SemanticIds(resolve_collisions(raw, codebook_size, distances), codebook_size), raw
