"""Items to semantic IDs in one command: text -> vectors -> codes -> artifact, with a report."""

import json
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from redraft.data.split import split_of
from redraft.data.store import load_dataset
from redraft.files import measured, write_json
from redraft.folders import RQVAE, Kind, alone_in, check_file, check_place, json_object
from redraft.options import check_unread
from redraft.records import (
    MAX_COUNT,
    MAX_SEED,
    Catalogue,
    FloatArray,
    InputError,
    IntArray,
    SemanticIds,
    check_above,
    check_between,
    check_least,
)
from redraft.terminal import next_command, plain_console
from redraft.tokenizer.collaborative import log_vectors
from redraft.tokenizer.collisions import check_room, residual_distances, resolve_collisions
from redraft.tokenizer.embed import check_distinct, item_texts, load_vectors, sentence_vectors, tfidf_vectors
from redraft.tokenizer.kmeans import nearest_codes, residual_kmeans
from redraft.tokenizer.report import TokenizerReport, relative_errors, report_table, tokenizer_report
from redraft.tokenizer.semantic_ids import IDS, read_published_codes, save_semantic_ids
from redraft.train.processes import join_processes
from redraft.train.rqvae import RqvaeConfig, train_rqvae
from redraft.train.settings import fitted

__all__ = ["TokenizeConfig", "check_settings", "item_vectors", "kmeans_ids", "main", "published_ids", "rqvae_ids"]

REPORT = Kind("the report of semantic IDs", lambda path: {"fingerprint", "report"} <= json_object(path).keys())


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
    """Item vectors: tfidf, a sentence-transformers model name or folder, or a .npy file with a row per item."""
    from_log: bool = False
    """Item vectors from who bought what after what, in place of texts: what a catalogue without texts needs."""
    dim: int = 64
    """Width of tfidf vectors, and of those from the log."""
    allow_empty: bool = False
    """Accept items without any text."""
    index: Path | None = None
    """The index.json of method published; it brings its own levels and codebook size."""
    levels: int = 4
    """Codes per item."""
    codebook_size: int = 300
    """Codes per level; by default no more than there are items."""
    seed: int = 0
    """Seed of everything random; the ids of an RQ-VAE also depend on the number of threads (OMP_NUM_THREADS)."""
    resume: bool = False
    """Go on with an RQ-VAE whose training was stopped, or start if there is none."""
    replace: bool = False
    """Lose the ids that are there, and the RQ-VAE that made them."""
    rqvae: RqvaeConfig = field(default_factory=RqvaeConfig)
    """Training of the RQ-VAE."""


def main(config: TokenizeConfig) -> TokenizerReport:
    """Make, save and report the semantic IDs of a data set.

    Writes the artifact, its report as JSON beside it, and for the RQ-VAE a folder of weights and metrics.
    """
    dataset = load_dataset(config.data)
    default = config.data / "semantic_ids.safetensors"
    out = config.out or default
    if config.method != "published":
        config = fitted(config, dataset.catalogue.n_items, "codebook_size")
    check_settings(config, dataset.catalogue.n_items)
    training_folder = None if config.method != "rqvae" else out.with_suffix(".rqvae")
    _check_out(config, out, training_folder)
    sizes = {"levels": config.levels, "codebook_size": config.codebook_size, "seed": config.seed}
    if config.index is not None:
        ids, report = published_ids(config.index, dataset.catalogue.n_items)
    else:
        if config.from_log:
            train = split_of(dataset).train
            vectors = log_vectors(train, dataset.catalogue.n_items, config.dim, config.seed)
            check_distinct(vectors, f"the log of {config.data}")
        else:
            vectors = item_vectors(
                dataset.catalogue,
                config.vectors,
                dim=config.dim,
                allow_empty=config.allow_empty,
                seed=config.seed,
                source=config.data / "catalogue.parquet",
            )
        if training_folder is None:
            ids, report = kmeans_ids(vectors, **sizes)
        else:
            with alone_in(training_folder) if join_processes().is_main_process else nullcontext():
                ids, report = rqvae_ids(vectors, training_folder, config.rqvae, **sizes, resume=config.resume)
    if join_processes().is_main_process:
        source = {
            "method": config.method,
            "config": json.loads(json.dumps(asdict(config), default=str)),
            "data_fingerprint": dataset.fingerprint,
            "versions": {name: version(name) for name in ("redraft", "torch", "numpy", "scikit-learn", "faiss-cpu")},
        }
        save_semantic_ids(ids, out, source=source)
        write_json(
            out.with_suffix(".json"), {"fingerprint": ids.fingerprint, "report": measured(asdict(report)), **source}
        )
        console = plain_console()
        console.print(report_table(report))
        console.print(f"wrote {out} (fingerprint {ids.fingerprint[:12]}), report {out.with_suffix('.json')}")
        elsewhere = () if out == default else ("--ids", out)
        console.print(next_command("train", "small", config.data, Path("runs") / dataset.name, *elsewhere))
    return report


def _check_out(config: TokenizeConfig, out: Path, training: Path | None) -> None:
    """Raise InputError for what would be lost, or cannot be written. training: folder of an RQ-VAE that is trained."""
    begun = training is not None and any((training / name).exists() for name in RQVAE.files[:2])
    if begun and not (config.resume or config.replace):
        raise InputError(
            f"{training}: holds an RQ-VAE; pass --resume to go on with its training, or --replace to lose it"
        )
    if training is not None:
        check_place(training, RQVAE)
    check_file(out, IDS, replace=config.replace or (config.resume and begun))
    check_file(out.with_suffix(".json"), REPORT, replace=True)


def check_settings(config: TokenizeConfig, n_items: int) -> None:
    """Raise InputError for settings that cannot work with this many items, before any work is done."""
    if config.out is not None and config.out.suffix != ".safetensors":
        raise InputError(
            f"{config.out}: ids are one .safetensors file, with their report as .json beside it; "
            "give a name that ends in .safetensors"
        )
    if (config.method == "published") != (config.index is not None):
        raise InputError(
            "method published reads a file and no other does; pass --index FILE.json with it, and only then"
        )
    _check_read(config)
    if config.method == "published":
        return
    check_between(1, MAX_COUNT, levels=config.levels, codebook_size=config.codebook_size, dim=config.dim)
    check_between(0, MAX_SEED, seed=config.seed)
    check_room(n_items, config.levels, config.codebook_size)
    training = config.rqvae
    counts = {name: getattr(training, name) for name in ("epochs", "batch_size", "evaluate_every", "latent")}
    check_between(1, MAX_COUNT, **counts)
    for width in training.hidden:
        check_between(1, MAX_COUNT, hidden=width)
    check_least(0, weight_decay=training.weight_decay, commitment=training.commitment)
    check_above(0, learning_rate=training.learning_rate, sinkhorn_epsilon=training.sinkhorn_epsilon)


def _check_read(config: TokenizeConfig) -> None:
    """Raise InputError for an option that is of no use with this method or these vectors."""
    training = ("rqvae", "resume")
    if config.method == "published":
        sizes = ("vectors", "from_log", "dim", "allow_empty", "levels", "codebook_size", "seed")
        check_unread(config, sizes + training, "method published")
    if config.method == "kmeans":
        check_unread(config, training, "method kmeans")
    if config.from_log:
        check_unread(config, ("vectors", "allow_empty"), "vectors from the log")
    if config.vectors.endswith(".npy"):
        check_unread(config, ("dim", "allow_empty"), "a file of vectors")
    elif config.vectors != "tfidf":
        check_unread(config, ("dim",), f"the model {config.vectors!r}")


def item_vectors(
    catalogue: Catalogue, kind: str, *, dim: int, allow_empty: bool, seed: int, source: Path | str = "catalogue"
) -> FloatArray:
    """float32 [N, D], rows of length one. kind: tfidf, a .npy file, or a sentence-transformers name or folder.

    source: where the catalogue was read from, for messages.
    Raises InputError for an item without text (unless allow_empty), a file of other shape, an unknown model, and
    vectors that are all equal.
    """
    if kind.endswith(".npy"):
        source, vectors = kind, load_vectors(Path(kind), catalogue.n_items)
    else:
        texts = item_texts(catalogue, allow_empty=allow_empty, source=source)
        vectors = tfidf_vectors(texts, dim=dim, seed=seed) if kind == "tfidf" else sentence_vectors(texts, kind)
    check_distinct(vectors, source)
    return vectors


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
    vectors: FloatArray,
    folder: Path,
    config: RqvaeConfig,
    *,
    levels: int,
    codebook_size: int,
    seed: int,
    resume: bool = False,
) -> tuple[SemanticIds, TokenizerReport]:
    """Ids by an RQ-VAE trained on vectors [N, D]; folder, config and resume: as in `train_rqvae`."""
    model = train_rqvae(vectors, folder, config, levels=levels, codebook_size=codebook_size, seed=seed, resume=resume)
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
