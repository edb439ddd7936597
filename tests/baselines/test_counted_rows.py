"""The baselines give the numbers that were counted on Beauty: leave-one-out, fitted on the training part, seen items
left out."""

from pathlib import Path

import pytest
from imports import imported

from redraft.baselines import ItemKNN, Markov, Popularity
from redraft.data.split import leave_one_out
from redraft.eval import evaluate
from redraft.records import Dataset

BEAUTY = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "Beauty"

pytestmark = pytest.mark.skipif(not BEAUTY.exists(), reason="needs the benchmark data in ../shared/data")


@pytest.fixture(scope="module")
def beauty(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return imported("lcrec", BEAUTY, tmp_path_factory.mktemp("data") / "Beauty")[0]


@pytest.mark.parametrize(
    ("kind", "counted"),
    [
        (Popularity, [0.0075, 0.0041, 0.0115, 0.0055]),
        (Markov, [0.0491, 0.0378, 0.0628, 0.0422]),
        (ItemKNN, [0.0594, 0.0436, 0.0817, 0.0507]),
    ],
)
def test_counted_row(beauty: Dataset, kind: type[Popularity | Markov | ItemKNN], counted: list[float]) -> None:
    split = leave_one_out(beauty.interactions)
    model = kind.fit(split.train, beauty.catalogue)
    metrics = evaluate(model, split.test, ks=(5, 10), filter_seen=True).metrics
    assert [metrics[name] for name in ("R@5", "N@5", "R@10", "N@10")] == pytest.approx(counted, abs=0.001)
