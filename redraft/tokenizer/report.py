"""What semantic IDs are like: use of the codes, collisions, and what is lost."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from redraft.records import FloatArray, IntArray, SemanticIds
from redraft.tokenizer.collisions import prefix_keys, sharing

__all__ = ["LevelReport", "TokenizerReport", "relative_errors", "report_table", "tokenizer_report"]


@dataclass(frozen=True)
class LevelReport:
    """One level of the final ids.

    used: codes in use. perplexity: exp of the entropy of their use; equal to C if all are used evenly.
    prefixes: distinct code prefixes that end here. sharing_before, sharing_after: items that share theirs with
    another item, before and after collisions were resolved. relative_error: squared error of the reconstruction from
    the codes so far, relative to the vectors' variance; None where no vectors are known.
    """

    used: int
    perplexity: float
    prefixes: int
    sharing_before: int
    sharing_after: int
    relative_error: float | None


@dataclass(frozen=True)
class TokenizerReport:
    """All levels, and the collisions.

    collisions_before, collisions_after: items that share their whole code sequence with another. moved: items that
    were given another sequence.
    """

    n_items: int
    codebook_size: int
    collisions_before: int
    collisions_after: int
    moved: int
    levels: tuple[LevelReport, ...]


def report_table(report: TokenizerReport) -> Table:
    """The report for the terminal."""
    table = Table(
        title=f"Semantic IDs of {report.n_items:,} items",
        caption=f"Items that share all codes: {report.collisions_before:,} before, {report.collisions_after:,} after, "
        f"{report.moved:,} were moved",
    )
    headings = ("level", "used", "perplexity", "prefixes", "sharing\nbefore", "sharing\nafter", "relative\nerror")
    for heading in headings:
        table.add_column(heading, justify="right")
    for number, level in enumerate(report.levels, start=1):
        table.add_row(
            str(number),
            f"{level.used:,}/{report.codebook_size:,}",
            f"{level.perplexity:,.1f}",
            f"{level.prefixes:,}",
            f"{level.sharing_before:,}",
            f"{level.sharing_after:,}",
            "-" if level.relative_error is None else f"{level.relative_error:.4f}",
        )
    return table


def tokenizer_report(raw_codes: IntArray, ids: SemanticIds, errors: FloatArray | None = None) -> TokenizerReport:
    """Compare codes [N, L] with the ids made of them; errors: [L], from `relative_errors`."""
    n_items, codebook_size = ids.n_items, ids.codebook_size
    before, after = sharing(raw_codes, codebook_size), sharing(ids.codes, codebook_size)
    keys = prefix_keys(ids.codes, codebook_size)
    levels = []
    for level in range(ids.n_levels):
        share = np.bincount(ids.codes[:, level]) / n_items
        share = share[share > 0]
        levels.append(
            LevelReport(
                used=len(share),
                perplexity=float(np.exp(-(share * np.log(share)).sum())),
                prefixes=len(np.unique(keys[:, level])),
                sharing_before=int(before[level]),
                sharing_after=int(after[level]),
                relative_error=None if errors is None else float(errors[level]),
            )
        )
    moved = int((raw_codes != ids.codes).any(axis=1).sum())
    return TokenizerReport(n_items, codebook_size, int(before[-1]), int(after[-1]), moved, tuple(levels))


def relative_errors(
    vectors: FloatArray, codes: IntArray, codebooks: FloatArray, decode: Callable[[FloatArray], FloatArray]
) -> FloatArray:
    """float64 [L]: squared error of decode(sum of the first codes) over the vectors' variance, after each level.

    vectors: [N, width]. codes: [N, L]. codebooks: [L, C, D]. decode: latents [N, D] to vectors [N, width].
    """
    variance = np.square(vectors - vectors.mean(axis=0)).sum()
    latents = np.zeros((len(codes), codebooks.shape[2]), dtype=np.float32)
    errors = []
    for level, codebook in enumerate(codebooks):
        latents += codebook[codes[:, level]]
        errors.append(np.square(vectors - decode(latents)).sum() / variance)
    return np.array(errors, dtype=np.float64)
