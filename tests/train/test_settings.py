from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from redraft.folders import MODEL
from redraft.recipes import RECIPES
from redraft.records import InputError
from redraft.train import grpo, pretrain, sft, verifier
from redraft.train.settings import FREE, PATHS, check_folder, keep_settings

CHECKS = {"small": pretrain, "gc": sft, "grc": sft, "grpo": grpo, "verifier": verifier}


def config(recipe: str, out: Path) -> Any:
    made = RECIPES[recipe](Path("data"), out)
    return replace(made, **{name: Path("run") for name in {"backbone", "sft", "run"} & vars(made).keys()})


def changed(made: Any) -> dict[str, Any]:
    """Each setting by its flag, with a config in which it alone is another."""
    found = {}
    for name, value in vars(made).items():
        if is_dataclass(value):
            found |= {f"{name}.{key}": replace(made, **{name: other}) for key, other in changed(value).items()}
        else:
            found[name] = replace(made, **{name: "other"})
    return found


@pytest.mark.parametrize("recipe", sorted(CHECKS))
def test_a_run_goes_on_with_its_own_settings_alone(recipe: str, tmp_path: Path) -> None:
    made, prints = replace(config(recipe, tmp_path), resume=True), {"data": "1", "backbone": None}
    keep_settings(asdict(made), prints)
    (tmp_path / "state.safetensors").touch()
    check_folder(asdict(made), prints)
    for flag, other in changed(made).items():
        if flag in FREE | PATHS:
            check_folder(asdict(replace(other, out=tmp_path, resume=True, replace=False)), prints)
        else:
            with pytest.raises(InputError, match=f"cannot resume with {flag} = other, its run has .*; give that again"):
                check_folder(asdict(other), prints)
    for name in prints:
        with pytest.raises(InputError, match=f"cannot resume, its run has other {name}; start again"):
            check_folder(asdict(made), {**prints, name: "2"})


@pytest.mark.parametrize(("recipe", "length"), [("small", "epochs"), ("grc", "epochs"), ("grpo", "steps")])
def test_a_run_goes_on_for_longer_and_never_for_less(recipe: str, length: str, tmp_path: Path) -> None:
    made = asdict(replace(config(recipe, tmp_path), resume=True))
    keep_settings(made, {})
    (tmp_path / "state.safetensors").touch()
    check_folder(made | {length: made[length] + 1}, {})
    with pytest.raises(InputError, match=f"cannot resume with {length} = {made[length] - 1}, its run has"):
        check_folder(made | {length: made[length] - 1}, {})


def test_what_a_run_has_learned_is_not_lost(tmp_path: Path) -> None:
    fresh = asdict(config("small", tmp_path))
    check_folder(fresh, {})
    keep_settings(fresh, {})
    check_folder(
        asdict(replace(config("small", tmp_path), epochs=99, resume=True)), {}
    )  # it has no state to go on from
    for name in ("state.safetensors", "model.safetensors"):
        (tmp_path / name).touch()
        message = f"holds a trained run; pass --resume to go on with it, --replace to lose its .*{name}.*, or give"
        with pytest.raises(InputError, match=message):
            check_folder(fresh, {})


def test_a_run_is_replaced_when_asked_and_what_is_not_of_it_stays(tmp_path: Path) -> None:
    keep_settings(asdict(config("small", tmp_path)), {})
    for name in ("state.safetensors", "model.safetensors", "metrics.jsonl", "ranks-run-kept.parquet", "notes.txt"):
        (tmp_path / name).touch()
    again = asdict(replace(config("small", tmp_path), replace=True))
    check_folder(again, {"data": "2"})
    keep_settings(again, {"data": "2"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "notes.txt"]
    with pytest.raises(InputError, match="--resume goes on with a run and --replace loses it"):
        check_folder(again | {"resume": True}, {"data": "2"})


@pytest.mark.parametrize("name", ["init", "backbone", "drafters", "sft", "run"])
@pytest.mark.parametrize("how", [{}, {"replace": True}, {"resume": True}])
def test_a_run_is_not_written_over_what_it_starts_from(name: str, how: dict[str, bool], tmp_path: Path) -> None:
    made = next(c for c in (config(recipe, tmp_path / "run") for recipe in CHECKS) if name in vars(c))
    keep_settings(asdict(made), {})
    (tmp_path / "link").symlink_to("run")
    start = (tmp_path / "link",) if name == "drafters" else tmp_path / "link"
    with pytest.raises(InputError, match=rf"run: is what the run starts from \({name}\)"):
        check_folder(asdict(replace(made, **how)) | {name: start}, {})


def test_a_saved_model_is_not_gone_on_with(tmp_path: Path) -> None:
    for name in MODEL.files:
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"holds a trained run; .*--replace to lose its model"):
        check_folder(asdict(replace(config("small", tmp_path), resume=True)), {})


@pytest.mark.parametrize("recipe", sorted(CHECKS))
@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("clip", 0.0, "it must be > 0"),
        ("clip", float("nan"), "it must be > 0"),
        ("learning_rate", -1.0, "it must be"),
        ("save_every", 0, "it must be >= 1"),
        ("evaluate_every", 0, "it must be >= 1"),
        ("evaluate_beams", 0, "it must be >= 1"),
        ("seed", -1, "it must be >= 0"),
    ],
)
def test_no_loop_can_have_these(recipe: str, name: str, value: float, fix: str, tmp_path: Path) -> None:
    made = config(recipe, tmp_path)
    CHECKS[recipe].check_settings(made)
    with pytest.raises(InputError, match=f"{name} is {value}; {fix}"):
        CHECKS[recipe].check_settings(replace(made, **{name: value}))
