import json
from pathlib import Path

import pytest
from verbs import run

from redraft.bench.tables.comparable import check_learnt, ranks_file, seeds_of_one_method
from redraft.data.split import leave_one_out
from redraft.data.store import load_dataset, make_dataset, save_dataset
from redraft.records import InputError, Interactions
from redraft.stored import learnt_from


def begun(folder: Path, fingerprints: dict | None = None, **config: object) -> Path:
    """A folder with the settings of a run."""
    folder.mkdir(parents=True)
    about = {"config": config, "fingerprints": {"data": "ours"} if fingerprints is None else fingerprints}
    (folder / "config.json").write_text(json.dumps(about))
    return folder


def test_only_seeds_of_one_method_are_put_together(tmp_path: Path) -> None:
    tiger = [begun(tmp_path / f"tiger-{s}", model={"width": 8}, epochs=2, seed=s, out=f"tiger-{s}") for s in (0, 1, 2)]
    grc = [begun(tmp_path / f"grc-{s}", reflection=True, epochs=2, seed=s, backbone=f"tiger-{s}") for s in (0, 1)]
    wide = begun(tmp_path / "wide", model={"width": 16}, epochs=2, seed=3, out="wide")
    gc = begun(tmp_path / "gc", reflection=False, epochs=2, seed=2, backbone="tiger-0")
    (tmp_path / "nothing known").mkdir()
    runs = [tiger[0], grc[0], wide, tiger[1], gc, grc[1], tmp_path / "nothing known", tiger[2]]
    assert seeds_of_one_method(runs) == [tiger, grc]
    assert seeds_of_one_method([tiger[0], grc[0]]) == []


def test_the_same_seed_twice_has_no_spread(tmp_path: Path) -> None:
    assert seeds_of_one_method([begun(tmp_path / name, seed=0) for name in "ab"]) == []


def test_what_a_run_started_from_counts_as_learnt(tmp_path: Path) -> None:
    longer = begun(tmp_path / "backbone", {"data": "longer"})
    chained = begun(tmp_path / "grc", {"data": "ours", "learnt": learnt_from("ours", longer, None)})
    assert learnt_from("ours", chained) == ["longer", "ours"]
    with pytest.raises(InputError, match=r"grc: learnt from other events than those of data.*--other-events"):
        check_learnt(chained, Path("data"), "ours", other_events=False)
    assert check_learnt(chained, Path("data"), "ours", other_events=True) == (
        "grc: learnt from other events, may know the answers"
    )
    assert check_learnt(begun(tmp_path / "own"), Path("data"), "ours", other_events=False) is None


def test_a_run_on_the_same_users_cut_shorter_is_refused_or_marked(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = load_dataset(shop / "data")
    train = leave_one_out(dataset.interactions).train
    users = range(0, train.n_users)
    long = [train.history(u).tolist() for u in users if len(train.history(u)) >= 3]
    cut = make_dataset("tiny", Interactions.from_lists(long), dataset.catalogue, dataset.user_ids[: len(long)])
    save_dataset(cut, tmp_path / "cut", source="test")
    words = ["evaluate", tmp_path / "cut", "--runs", shop / "grc", "--baselines", "--beams", 10, "--ranks", tmp_path]
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "grc: learnt from other events than those of" in err
    code, out, _ = run(capsys, *words, "--other-events")
    assert code == 0
    assert "note: grc: learnt from other events, may know the answers" in out
    files = {ranks_file(tmp_path, d, "test", "grc", "kept") for d in (dataset, cut)}
    assert len(files) == 2
    assert sum(file.exists() for file in files) == 1
