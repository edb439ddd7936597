import signal
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loops import supervised
from safetensors.torch import load_file
from separate import separate
from stopping import Killed, assert_same_run, metrics, stops_and_resumes
from tiny import (
    random_interactions,
    tiny_backbone,
    tiny_catalogue,
    tiny_config,
    tiny_generator_config,
    tiny_ids,
    tiny_run,
    tiny_train,
)

import redraft.train.pretrain as pretraining
from redraft.checkpoint import build_backbone
from redraft.data.loader import Windows, batches, every_prefix, shared_prefixes
from redraft.data.store import make_dataset, save_dataset
from redraft.model.backbone import Backbone, ModelConfig
from redraft.records import InputError, Interactions
from redraft.tokenizer import save_semantic_ids
from redraft.train.pretrain import PretrainConfig, take_weights, teacher_forced


@pytest.fixture(autouse=True)
def one_thread():
    """Sums are taken in one order in every process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def losses_by_item(model: Backbone, train: Interactions, windows: Windows) -> dict[int, float]:
    """The loss of each event; every event is an item of its own."""
    losses = {}
    for batch in batches(train, windows, 4, seed=0, epoch=0):
        loss, asked = teacher_forced(model, batch, model.codes, 0.0)
        targets = torch.cat([batch.history[:, 1:], batch.target[:, None]], dim=1)[:, -loss.shape[1] :]
        assert (loss[~asked] == 0).all()
        losses |= dict(zip(targets[asked].tolist(), loss[asked].tolist(), strict=True))
    return losses


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(lambda lengths: max(lengths) > 1),
    st.integers(1, 4),
    st.integers(0, 2),
    st.sampled_from(["item", "code"]),
    st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
@torch.no_grad()
def test_shared_prefixes_have_the_losses_of_single_prefixes(lengths, n_levels, n_attributes, positions, seed) -> None:
    n_events = sum(lengths)
    ids = tiny_ids(n_events, n_levels, n_events, seed)
    model = tiny_backbone(tiny_config(positions=positions), ids, tiny_catalogue(n_events, n_attributes), seed)
    train = Interactions(
        np.random.default_rng(seed).permutation(n_events).astype(np.int32),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )
    shared = losses_by_item(model, train, shared_prefixes(train, 8))
    single = losses_by_item(model, train, every_prefix(train, 8))
    assert shared.keys() == single.keys()
    assert shared == pytest.approx(single, rel=1e-5, abs=1e-5)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        tiny_run(tmp_path / name, seed=seed)
    assert_same_run(tmp_path / "a", tmp_path / "b")
    assert metrics(tmp_path / "a")[0]["loss"] != metrics(tmp_path / "c")[0]["loss"]
    lines = metrics(tmp_path / "a")
    windows, train = shared_prefixes(tiny_train(40), 8), tiny_train(40)
    steps = [len(list(batches(train, windows, 48, seed=0, epoch=epoch))) for epoch in range(2)]
    assert [(line["epoch"], line["step"]) for line in lines] == [(1, steps[0]), (2, sum(steps))]
    assert all({"loss", "R@10", "N@10"} <= line.keys() for line in lines)


def test_looking_at_validation_does_not_change_training(tmp_path: Path) -> None:
    tiny_run(tmp_path / "often", evaluate_every=1)
    tiny_run(tmp_path / "once", evaluate_every=2)
    assert [m["loss"] for m in metrics(tmp_path / "often")] == [m["loss"] for m in metrics(tmp_path / "once")]
    assert "N@10" not in metrics(tmp_path / "once")[0]


@pytest.mark.parametrize("model", [tiny_config(dropout=0.1), tiny_generator_config(dropout=0.1, number_dropout=0.1)])
def test_a_run_stopped_after_any_write_resumes_bit_for_bit(
    model: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(out: Path, **options: bool) -> None:
        tiny_run(out, model=model, users=24, save_every=2, **options)

    assert stops_and_resumes(run, tmp_path, monkeypatch) >= 8


def test_a_finished_run_resumes_to_itself(tmp_path: Path) -> None:
    tiny_run(tmp_path / "a")
    tiny_run(tmp_path / "b")
    tiny_run(tmp_path / "b", resume=True)
    assert_same_run(tmp_path / "a", tmp_path / "b")


def test_a_finished_run_goes_on_for_longer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_run(tmp_path)
    first = metrics(tmp_path)
    capsys.readouterr()
    tiny_run(tmp_path, epochs=4, resume=True)
    best = max(line["N@10"] for line in metrics(tmp_path)[:3])
    assert f"train epoch 4/4 loss {metrics(tmp_path)[3]['loss']:.3f} best N@10 {best:.4f}: " in capsys.readouterr().out
    assert metrics(tmp_path)[:2] == first
    assert [(line["epoch"], "N@10" in line) for line in metrics(tmp_path)] == [(n, True) for n in (1, 2, 3, 4)]
    assert metrics(tmp_path)[3]["loss"] < first[-1]["loss"]


def test_a_fresh_run_forgets_the_state_of_an_older_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_run(tmp_path, seed=1)

    def stop(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(pretraining, "teacher_forced", stop)
        with pytest.raises(Killed):
            tiny_run(tmp_path)
    tiny_run(tmp_path, resume=True)
    tiny_run(tmp_path / "expected")
    assert metrics(tmp_path) == metrics(tmp_path / "expected")


def test_resuming_with_other_semantic_ids_is_refused(tmp_path: Path) -> None:
    tiny_run(tmp_path)
    with pytest.raises(InputError, match="other semantic IDs; start again in another folder"):
        tiny_run(tmp_path, resume=True, ids=tiny_ids(30, 3, 5, seed=1))


def test_a_deeper_decoder_starts_as_the_one_it_grew_from() -> None:
    ids, catalogue = tiny_ids(30, 3, 5), tiny_catalogue(30)
    shallow = tiny_backbone(tiny_config(decoder_layers=1), ids, catalogue)
    deep = build_backbone(tiny_config(decoder_layers=3), ids, catalogue).eval()
    take_weights(deep, shallow)
    history, targets = torch.randint(30, (2, 8)), torch.randint(30, (2, 8))
    torch.testing.assert_close(deep(history, targets), shallow(history, targets))
    with pytest.raises(InputError, match="shallower decoder"):
        take_weights(shallow, deep)


def test_what_a_backbone_has_no_use_for_stays_behind() -> None:
    """From a run that reflects and has a verifier."""
    start = supervised(dropout=0.0)
    start.model.add_verifier()
    fresh = build_backbone(tiny_config(), start.ids, start.catalogue).eval()
    take_weights(fresh, start.model)
    assert fresh.verifier is None
    for name, weight in fresh.state_dict().items():
        assert torch.equal(weight, start.model.state_dict()[name])
    history, targets = torch.randint(30, (2, 8)), torch.randint(30, (2, 8))
    assert torch.equal(fresh(history, targets), start.model.eval()(history, targets))


def test_a_run_can_start_from_another_and_from_none_of_another_shape(tmp_path: Path) -> None:
    start = tiny_backbone(tiny_config(dropout=0.1), tiny_ids(30, 3, 5), tiny_catalogue(30))
    tiny_run(tmp_path / "still", epochs=1, learning_rate=0.0, init=start)
    for name, weight in load_file(tmp_path / "still" / "model.safetensors").items():
        assert torch.equal(weight, start.state_dict()[name])
    for other in (
        tiny_backbone(tiny_config(), tiny_ids(30, 3, 5), tiny_catalogue(30)),
        tiny_backbone(tiny_config(dropout=0.1), tiny_ids(30, 3, 5, seed=1), tiny_catalogue(30)),
    ):
        with pytest.raises(InputError, match=r"another shape .* or other semantic IDs"):
            tiny_run(tmp_path / "other", init=other)


def test_too_little_to_learn_from_is_named(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "run"
    interactions = random_interactions([3, 3], 30)
    save_dataset(make_dataset("short", interactions, tiny_catalogue(30), pl.Series(["u", "v"])), data, source="test")
    save_semantic_ids(tiny_ids(30, 3, 5), data / "semantic_ids.safetensors", source={})
    with pytest.raises(InputError, match="no user has two training events"):
        pretraining.main(PretrainConfig(data, out))
    assert not out.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0; it must be >= 1"),
        ({"learning_rate": float("nan")}, "learning_rate is nan; it must be >= 0"),
        ({"model": tiny_config(heads=3)}, "width is 16, which 3 heads cannot share equally"),
        ({"model": tiny_config(history=0)}, "history is 0; it must be >= 1"),
        ({"model": tiny_config(dropout=1.0)}, "dropout is 1.0; it must be >= 0 and <= 0.99"),
        ({"model": tiny_config(dropout=0.998)}, "dropout is 0.998; it must be >= 0 and <= 0.99"),
        ({"label_smoothing": -0.1}, "label_smoothing is -0.1; it must be >= 0"),
    ],
)
def test_settings_that_cannot_work_are_named_before_anything_is_read(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pretraining.main(PretrainConfig(Path("no data"), Path("no run"), **changes))


@pytest.mark.skipif(torch.cuda.is_available(), reason="the run to compare with must be on the CPU too")
def test_a_run_killed_at_any_moment_resumes_bit_for_bit(tmp_path: Path) -> None:
    longer = {"users": 300, "epochs": 4, "save_every": 3}
    log = tmp_path / "killed" / "metrics.jsonl"
    code = f"from tiny import tiny_run\ntiny_run(Path({str(tmp_path / 'killed')!r}), **{longer!r})"
    with separate(tmp_path / "killed.py", code) as process:
        while process.poll() is None and not (log.exists() and log.read_text()):
            time.sleep(0.01)
        time.sleep(0.05)
        process.kill()
        _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors.decode()
    assert len(metrics(tmp_path / "killed")) < 4
    tiny_run(tmp_path / "whole", **longer)
    tiny_run(tmp_path / "killed", **longer, resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_best_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge_in_the_second_epoch(*arguments, **options):
        losses, asked = teacher_forced(*arguments, **options)
        return losses * (float("nan") if metrics(tmp_path) else 1.0), asked

    monkeypatch.setattr(pretraining, "teacher_forced", diverge_in_the_second_epoch)
    with pytest.raises(InputError, match=r"not finite at step \d+; train again with a lower learning rate") as error:
        tiny_run(tmp_path)
    assert [line["epoch"] for line in metrics(tmp_path)] == [1]
    assert f"step {metrics(tmp_path)[0]['step']};" in str(error.value)
    for file in ("model.safetensors", "state.safetensors"):
        weights = {k: v for k, v in load_file(tmp_path / file).items() if not k.startswith("random.")}
        assert all(weight.isfinite().all() for weight in weights.values())


def test_an_infinite_learning_rate_is_caught(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not finite at step 1"):
        tiny_run(tmp_path, learning_rate=float("inf"))


def test_a_bidirectional_model_trains_on_single_prefixes(tmp_path: Path) -> None:
    tiny_run(tmp_path, model=tiny_config(encoder="bidirectional", positions="code"), epochs=1, batch_size=64)
    train = tiny_train(40)
    assert metrics(tmp_path)[0]["step"] == -(-len(every_prefix(train, 8)) // 64)


@pytest.mark.parametrize("model", [tiny_config(dropout=0.1), tiny_generator_config(dropout=0.1)])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_learns(tmp_path: Path, precision: str, model: ModelConfig) -> None:
    """One after the other in one process, whatever the precision of the run before."""
    tiny_run(tmp_path / "other", users=4, epochs=1, precision="bfloat16" if precision == "float32" else "float32")
    tiny_run(tmp_path / "run", model=model, epochs=12, precision=precision, learning_rate=1e-2, evaluate_every=12)
    losses = [line["loss"] for line in metrics(tmp_path / "run")]
    assert losses[-1] < 0.8 * losses[0]
    weights = load_file(tmp_path / "run" / "model.safetensors").values()
    assert {weight.dtype for weight in weights if weight.is_floating_point()} == {torch.float32}


def test_metrics_also_go_to_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    tiny_run(tmp_path, users=4, epochs=1, tensorboard=True)
    assert list(tmp_path.glob("events.out.tfevents.*"))
