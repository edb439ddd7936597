import numpy as np
import pytest
from rich.console import Console

from redraft.records import SemanticIds
from redraft.tokenizer.collisions import resolve_collisions
from redraft.tokenizer.report import relative_errors, report_table, tokenizer_report


def test_counts_on_a_case_done_by_hand():
    raw = np.array([[0, 0], [0, 0], [1, 2], [1, 3]])
    report = tokenizer_report(raw, SemanticIds(resolve_collisions(raw, 4), 4), np.array([0.5, 0.25]))
    assert (report.collisions_before, report.collisions_after, report.moved) == (2, 0, 1)
    first, last = report.levels
    assert (first.used, first.prefixes, first.sharing_before, first.sharing_after) == (2, 2, 4, 4)
    assert (last.used, last.prefixes, last.sharing_before, last.sharing_after) == (4, 4, 2, 0)
    assert first.perplexity == pytest.approx(2)
    assert last.perplexity == pytest.approx(4)
    assert (first.relative_error, last.relative_error) == (0.5, 0.25)


def test_relative_error_is_one_for_the_mean_and_zero_for_the_vectors():
    vectors = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    mean = vectors.mean(axis=0)
    codebooks = np.stack([np.tile(mean, (5, 1)), vectors - mean])
    codes = np.stack([np.arange(5), np.arange(5)], axis=1)
    np.testing.assert_allclose(relative_errors(vectors, codes, codebooks, lambda z: z), [1, 0], atol=1e-6)


def test_the_table_names_every_level():
    raw = np.array([[0, 1, 2]])
    console = Console(record=True, width=120)
    console.print(report_table(tokenizer_report(raw, SemanticIds(raw, 300))))
    text = console.export_text()
    assert text.count("1/300") == 3
    assert "0 before, 0 after, 0 were moved" in text
