from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from redraft import cli, recipes
from redraft.bench.tables.published import ABLATION, PUBLISHED, REFLECTION
from redraft.eval.metrics import check_identity
from redraft.files import read_json
from redraft.methods.registry import ABLATIONS, COEFFICIENTS, FIGURE, METHODS
from redraft.methods.task import SCALES, Scale
from redraft.train.pretrain import PretrainConfig

OWN = Path(__file__).parents[3] / "examples" / "own_method.py"


def run(shop: Path, out: Path, *words: str) -> int:
    return cli.main(["bench", "tables", "--data", str(shop / "data"), "--out", str(out), *words])


def test_table_1_from_one_command(shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--methods", "popularity", "itemknn", f"{OWN}:LastSeen", "--seeds", "0", "1", "--scale", "tiny"]
    assert run(shop, tmp_path, *words) == 0
    rows = read_json(tmp_path / "table1.json")["metrics"]
    assert [(row["name"].split(":")[-1], row["seen"]) for row in rows] == [
        (name, seen) for seen in ("kept", "filtered") for name in ("popularity", "itemknn", "LastSeen")
    ]
    for row in rows:
        check_identity(row)
        assert row["std R@10"] == 0, "counting knows no seed"
    best = max((row for row in rows if row["seen"] == "kept"), key=lambda row: row["N@10"])
    assert "p_value" not in best, "nobody is compared with itself"
    for row in rows[:3]:
        if row is not best:
            assert row["gain"] == pytest.approx(row["N@10"] - best["N@10"])
    assert (tmp_path / "table1.md").read_text().count("\n") == len(rows) + 2
    assert r"\bottomrule" in (tmp_path / "table1.tex").read_text()
    assert "LastSeen" in capsys.readouterr().out


def test_every_published_row_has_a_method_and_can_be() -> None:
    for rows in PUBLISHED.values():
        assert rows.keys() <= METHODS.keys()
    assert [name for name in ABLATIONS if name in ABLATION] == list(ABLATION)
    assert REFLECTION.keys() <= METHODS.keys()
    for numbers in ABLATION.values():
        assert all(low < high for low, high in pairwise(numbers))


def test_figure_3_has_five_values_of_each_coefficient_around_the_default() -> None:
    for coefficient, values in COEFFICIENTS.items():
        points = FIGURE[coefficient]
        assert list(points) == list(values)
        assert points[values[2]] == "grc-rl"
        assert len(set(points.values())) == 5
        assert set(points.values()) <= METHODS.keys()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--methods", "sasrek"), "no method 'sasrek'; there are popularity"),
        (("--coefficients", "gamma"), "no coefficient 'gamma'; there are lambda_rc"),
        (("--methods", "drafts"), "drafts is only trained for other methods and has no lists; leave it out"),
        (("--methods", f"{OWN}:LastSeen", f"{OWN.parent}/./{OWN.name}:LastSeen"), "two methods are called LastSeen"),
        (("--seeds", "1", "0", "1"), "seeds are 1, 0, 1: one comes twice; give each once"),
        (("--processes", "0"), "processes is 0; it must be >= 1"),
        (("--device", "nonsense"), "device 'nonsense': not available on this machine"),
    ],
)
def test_bad_input_is_refused_before_any_work(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    assert run(shop, tmp_path / "out", *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_whole_chain_of_a_corrected_model(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TIGER, its folds, GRC_SFT, GRC_RL and its ablations; Tables 2 and 3 and a coefficient of Figure 3."""

    def recipe(data: Path, out: Path) -> PretrainConfig:
        return replace(recipes.tiny(data, out), epochs=1, evaluate_beams=5)

    monkeypatch.setitem(SCALES, "tiny", Scale(recipe, recipe, 1, 1, 1, rl_steps=1, width=16))
    assert run(shop, tmp_path, "--scale", "tiny", "--tables", "2", "3", "figure3", "--coefficients", "alpha_e") == 0
    reflection, ablation, figure = (
        read_json(tmp_path / f"{name}.json")["metrics"] for name in ("table2", "table3", "figure3")
    )
    assert [row["label"] for row in reflection] == ["location", "attribute0"] * 2
    assert [row["name"] for row in ablation] == list(ABLATIONS)
    assert [row["value"] for row in figure] == list(COEFFICIENTS["alpha_e"])
    whole = ablation[0]
    assert whole["R@10"] == next(row for row in figure if row["value"] == 0.2)["R@10"]
    assert not (tmp_path / "grc-rl-no-egrs-0" / "model.safetensors").exists(), "the schedule needs no weights"
