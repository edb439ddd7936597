from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tiny import random_interactions, tiny_catalogue

from redraft.bench.tables.evaluate import COLUMNS, evaluate_methods, over_seeds
from redraft.data.split import leave_one_out
from redraft.eval.evaluate import save_ranks
from redraft.methods.registry import fit_counted


def test_rows_ranks_and_means_over_seeds(tmp_path: Path) -> None:
    split = leave_one_out(random_interactions([6] * 30, 250))
    methods = {name: fit_counted(name, split.train, tiny_catalogue(250)) for name in ("popularity", "itemknn")}
    rows = evaluate_methods(
        methods,
        split.test,
        250,
        keep=lambda name, ranks: save_ranks(tmp_path / f"ranks-{'-'.join(name)}.parquet", split.test, ranks),
    )
    assert [(row["method"], row["seen"]) for row in rows] == [
        ("popularity", "kept"),
        ("popularity", "filtered"),
        ("itemknn", "kept"),
        ("itemknn", "filtered"),
    ]
    for row in rows:
        ranks = pl.read_parquet(tmp_path / f"ranks-{row['method']}-{row['seen']}.parquet")["rank"]
        assert row["R@200"] == pytest.approx(ranks.is_not_null().mean())
    unreachable = [row["unreachable"] for row in rows]
    repeats = sum(t in split.test.histories.history(u) for u, t in enumerate(split.test.targets))
    assert unreachable == [0, repeats, 0, repeats]
    mean, spread = over_seeds(rows, ["popularity", "itemknn"])[2:]
    found = [row["N@200"] for row in rows if row["seen"] == "filtered"]
    assert (mean["method"], mean["seen"]) == ("mean of popularity, itemknn", "filtered")
    assert mean["N@200"] == pytest.approx(np.mean(found))
    assert spread["N@200"] == pytest.approx(abs(found[0] - found[1]) / np.sqrt(2))


def test_a_small_catalogue_is_measured_at_the_ks_it_has() -> None:
    split = leave_one_out(random_interactions([6] * 30, 60))
    popularity = fit_counted("popularity", split.train, tiny_catalogue(60))
    rows = evaluate_methods({"popularity": popularity}, split.test, 60)
    assert [key for key in rows[0] if key.startswith("R@")] == ["R@5", "R@10", "R@50"]
    assert [COLUMNS[-1].cell(row) for row in rows] == ["-", "-"]
