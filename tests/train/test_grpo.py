import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from loops import SPLIT, grpo_run, supervised
from safetensors.torch import load_file
from stopping import metrics, stops_and_resumes
from tiny import random_interactions, tiny_catalogue, tiny_ids

import redraft.train.grpo as learning
import redraft.train.rollout as rolling
from redraft.checkpoint import weights_fingerprint
from redraft.data.store import make_dataset, save_dataset
from redraft.recipes import RECIPES
from redraft.recommender import GenerativeRecommender, SelfCorrectingRecommender, load
from redraft.records import InputError, Interactions
from redraft.tokenizer.semantic_ids import save_semantic_ids
from redraft.train.grpo import GRPOConfig, check_settings, check_start, collapse, main
from redraft.train.rewards import RewardWeights


def test_a_run_stopped_after_any_write_resumes_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert stops_and_resumes(grpo_run, tmp_path, monkeypatch) >= 10


def test_the_log_has_everything_one_must_watch(tmp_path: Path) -> None:
    grpo_run(tmp_path)
    first, *lines = metrics(tmp_path)
    assert (first["epoch"], first["step"]) == (0, 0)
    assert [(line["epoch"], line["step"]) for line in lines] == [(1, 4), (2, 6)]
    validated = {"R@10", "N@10", "draft R@10", "draft N@10"}
    rewards = {"reward", "draft_hits", "correction_hits", "location_right", "location_fixed", "match_right"}
    policy = {"kl", "clipped", "entropy draft", "entropy reflection", "entropy correction", "no signal"}
    for line in lines:
        assert line.keys() >= validated | rewards | policy | {
            "match_fixed",
            "improvement",
            "unique drafts",
            "supervised",
        }
    assert all(np.isfinite(list(line.values())).all() for line in lines)
    assert lines[-1]["kl"] > 0


def test_the_policy_learns_what_is_rewarded(tmp_path: Path) -> None:
    """Every history asks for the same item."""
    items = np.full(len(SPLIT.train.items), 7, dtype=np.int32)
    grpo_run(
        tmp_path,
        Interactions(items, SPLIT.train.offsets),
        steps=60,
        evaluate_every=20,
        learning_rate=1e-2,
        kl_weight=0.0,
        sft_weight=0.0,
        group=16,
    )
    _, early, *_, late = metrics(tmp_path)
    assert late["reward"] > early["reward"] + 1
    assert late["correction_hits"] > 2.5
    assert early["clipped"] > 0


@pytest.mark.parametrize(
    ("found", "keep_start", "kept"),
    [
        ({"R@10": 0.5, "N@10": 0.2}, True, "new"),
        ({"R@10": 0.5, "N@10": 0.1}, True, "start"),
        ({"R@10": 0.4, "N@10": 0.2}, True, "start"),
        ({"R@10": 0.5, "N@10": 0.0}, False, "new"),
        ({"R@10": 0.4, "N@10": 0.2}, False, "start"),
    ],
    ids=["better", "no better", "better, but its tail is lost", "worse, but trained", "trained, but its tail is lost"],
)
def test_the_start_is_the_first_candidate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: dict[str, float], keep_start: bool, kept: str
) -> None:
    answers = iter([{"R@10": 0.5, "N@10": 0.1}, found])
    monkeypatch.setattr(learning, "validate", lambda *_: next(answers))
    grpo_run(tmp_path, steps=4, keep_tail=1.0, keep_start=keep_start)
    same = weights_fingerprint(load(tmp_path, beams=10).model) == weights_fingerprint(supervised().model)
    assert same == (kept == "start")


def test_a_collapse_stops_the_run_and_says_so(tmp_path: Path) -> None:
    said = grpo_run(tmp_path, learning_rate=0.1, max_kl=0.5, steps=50, evaluate_every=50)
    assert said is not None
    assert "KL divergence from the start" in said
    assert metrics(tmp_path)[-1]["step"] < 50
    assert (tmp_path / "model.safetensors").exists()


def test_what_counts_as_collapse() -> None:
    means = {"kl": 1.0}
    for segment in ("draft", "correction"):
        means |= {f"entropy {segment}": 1.0, f"reference entropy {segment}": 2.0}
    assert collapse(means, 3, max_kl=2.0, min_entropy=0.3) is None
    assert collapse(means, 3, max_kl=0.5, min_entropy=0.3).startswith("at step 3 the KL divergence")
    said = collapse(means | {"entropy correction": 0.5}, 3, max_kl=2.0, min_entropy=0.3)
    assert said == "at step 3 the correction's entropy is 0.50, below 0.3 of 2.00"


def test_a_loss_that_is_not_finite_names_the_step_and_leaves_the_last_good_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(99))
    advantages = rolling.group_advantages
    monkeypatch.setattr(rolling, "group_advantages", lambda r: advantages(r) * (torch.nan if next(calls) == 5 else 1))
    with pytest.raises(InputError, match="not finite at step 5"):
        grpo_run(tmp_path)
    assert torch.isfinite(load_file(tmp_path / "model.safetensors")["head"]).all()
    assert metrics(tmp_path)[-1]["step"] == 4


def test_the_reference_stays_as_it_was(tmp_path: Path) -> None:
    start = supervised()
    before = weights_fingerprint(start.model)
    grpo_run(tmp_path, start=start, learning_rate=1e-2)
    assert weights_fingerprint(start.model) == before
    assert not torch.equal(load_file(tmp_path / "state.safetensors")["model.head"], start.model.head)


def test_a_start_must_reflect_and_know_nothing_of_the_fold(tmp_path: Path) -> None:
    start = supervised()
    assert check_start(tmp_path, start) is start
    backbone = GenerativeRecommender(start.model, start.ids, start.catalogue)
    for without in (backbone, supervised(reflection=False)):
        with pytest.raises(InputError, match="no reflection to learn from; train one with `redraft train grc`"):
            check_start(tmp_path, without)
    (tmp_path / "config.json").write_text(json.dumps({"config": {"fold": [0, 4]}, "fingerprints": {}}))
    assert check_start(tmp_path, start, (0, 4)) is start
    with pytest.raises(InputError, match=r"trained with fold \[0, 4\].*`--fold 1 4`"):
        check_start(tmp_path, start, (1, 4))


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A data set with ids and a supervised run on it."""
    users = pl.Series("id", [f"user-{u}" for u in range(30)])
    interactions = random_interactions([3 + u % 12 for u in range(30)], 30)
    dataset = make_dataset("tiny", interactions, tiny_catalogue(30, 2), users)
    save_dataset(dataset, tmp_path / "data", source="test")
    save_semantic_ids(tiny_ids(30, 3, 5), tmp_path / "data" / "semantic_ids.safetensors", source={})
    supervised().save(tmp_path / "sft")
    supervised(reflection=False).save(tmp_path / "gc")
    (tmp_path / "sft" / "config.json").write_text(json.dumps({"config": {"fold": None}, "fingerprints": {}}))
    return tmp_path


def config_for(shop: Path) -> GRPOConfig:
    quick = {"group": 3, "users": 6, "steps": 2, "evaluate_users": 10, "evaluate_beams": 10, "evaluate_budget": 5}
    return GRPOConfig(shop / "data", shop / "rl", sft=shop / "sft", **quick)


def test_a_run_says_what_is_next_and_loads(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(config_for(shop))
    assert f"next: redraft evaluate {shop / 'data'} --runs {shop / 'sft'} {shop / 'rl'}" in capsys.readouterr().out
    written = json.loads((shop / "rl" / "config.json").read_text())["config"]
    assert (written["group"], written["reward"]["last"]) == (3, 2.0)
    assert isinstance(load(shop / "rl", beams=10), SelfCorrectingRecommender)
    with pytest.raises(InputError, match="holds a trained run"):
        main(config_for(shop))
    with pytest.raises(InputError, match="cannot resume with evaluate_beams = 20, its run has 10; give that again"):
        main(replace(config_for(shop), evaluate_beams=20, resume=True))
    main(replace(config_for(shop), save_every=7, resume=True))
    assert json.loads((shop / "rl" / "config.json").read_text())["config"]["save_every"] == 7


BAD = {
    "a group of one": ({"group": 1}, "group is 1: a group of one"),
    "a negative weight": ({"reward": RewardWeights(last=-1.0)}, "reward weight last = -1.0"),
    "a reward that is no number": ({"reward": RewardWeights(task=float("nan"))}, "reward weight task = nan"),
    "no reflection heads": ({"sft": "gc"}, "no reflection to learn from"),
    "no run": ({"sft": "none"}, "not a trained run"),
    "a model that knows the fold": ({"fold": (0, 2)}, "trained with fold None"),
    "more distinct drafts than items": ({"distinct": True, "group": 31}, "only 30 distinct drafts"),
    "more beams than items": ({"evaluate_beams": 31}, "--evaluate-beams 31: there are only 30 items; it must be <= 30"),
    "near misses of more codes than there are": ({"near_miss": 4}, "near_miss is 4, but an item has 3 codes; lower it"),
    "more corrections than drafts": (
        {"evaluate_budget": 11},
        "--evaluate-budget 11: there are only 10 beams",
    ),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_what_cannot_be_used_is_said_before_any_work(shop: Path, case: str) -> None:
    changes, message = BAD[case]
    if "sft" in changes:
        changes = {"sft": shop / changes["sft"]}
    before = sorted(shop.rglob("*"))
    with pytest.raises(InputError, match=message):
        main(replace(config_for(shop), **changes))
    assert sorted(shop.rglob("*")) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group": 1}, "group is 1: a group of one has no one to be compared with; it must be >= 2"),
        ({"inner_steps": 0}, "inner_steps is 0; it must be >= 1"),
        ({"temperature": 0.0}, "temperature is 0.0; it must be > 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; it must be > 0"),
        ({"near_miss": -1}, "near_miss is -1; it must be >= 0"),
        ({"kl_weight": -0.1}, "kl_weight is -0.1; it must be >= 0"),
    ],
)
def test_knobs_that_cannot_be_used(changes: dict, message: str) -> None:
    config = RECIPES["grpo"](Path("data"), Path("run"))
    check_settings(config)
    with pytest.raises(InputError, match=message):
        check_settings(replace(config, **changes))
