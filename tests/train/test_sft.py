from dataclasses import replace
from pathlib import Path

import pytest
import torch
from loops import DRAFTS, SPLIT, plain, sft_run
from stopping import metrics, stops_and_resumes
from tiny import tiny_backbone, tiny_catalogue, tiny_config, tiny_ids, with_random_weights

import redraft.train.sft as tuning
from redraft.checkpoint import build_grc
from redraft.data.loader import batches, every_prefix, shared_prefixes
from redraft.model.template import GRC
from redraft.recommender import GenerativeRecommender, SelfCorrectingRecommender, load
from redraft.records import InputError
from redraft.train.losses import reflection_nll
from redraft.train.sft import SFTConfig, draw_drafts, supervised_losses, template_losses


@pytest.fixture(autouse=True)
def one_thread():
    """Sums are taken in one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_a_run_stopped_after_any_write_resumes_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert stops_and_resumes(sft_run, tmp_path, monkeypatch) >= 8


@pytest.mark.parametrize("reflection", [True, False])
def test_a_run_loads_as_what_it_is(tmp_path: Path, reflection: bool) -> None:
    sft_run(tmp_path, reflection=reflection)
    found = load(tmp_path, beams=10)
    assert isinstance(found, SelfCorrectingRecommender)
    assert found.model.reflection == reflection
    losses = metrics(tmp_path)
    assert {"likelihood", "reflection", "correction", "R@10", "draft R@10"} <= losses[0].keys()
    assert losses[1]["correction"] < losses[0]["correction"]
    assert (losses[0]["reflection"] > 0) == reflection


def test_it_starts_from_the_backbone_and_its_corrections_from_its_drafts() -> None:
    given = plain()
    model = build_grc(given.model.config, given.ids, given.catalogue, reflection=True, backbone=given.model).eval()
    history, targets = torch.tensor([[1, 2, 3]]), torch.tensor([[4]])
    assert torch.equal(model(history, targets), given.model(history, targets))
    for name, weight in given.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight)
    assert not model.correction_embedding.any()


@pytest.mark.parametrize("reflection", [True, False])
@torch.no_grad()
def test_the_losses_are_those_of_the_equation(reflection: bool) -> None:
    """Eq. 10, term by term, against one template at a time."""
    given = plain()
    parts = torch.from_numpy(given.ids.codes), given.ids.codebook_size, torch.from_numpy(given.catalogue.attributes)
    model = with_random_weights(GRC(tiny_config(), *parts, reflection=reflection), 0)
    batch = next(iter(batches(SPLIT.train, shared_prefixes(SPLIT.train, 8), 20, seed=0, epoch=0)))
    [drafts] = draw_drafts(DRAFTS, batch, 1)
    likelihood, reflected, corrected, asked = template_losses(model, batch, drafts)
    assert asked.sum() == batch.n_targets.sum()
    total, parts = supervised_losses(model, batch, drafts[None], 1.5)
    sums = {"likelihood": likelihood.sum(), "reflection": reflected.sum(), "correction": corrected.sum()}
    assert parts == sums
    torch.testing.assert_close(total, sums["likelihood"] + 1.5 * (sums["reflection"] + sums["correction"]))
    assert not any(part[~asked].any() for part in (likelihood, reflected, corrected))
    places = torch.cat([batch.history[:, 1:], batch.target[:, None]], dim=1)
    n_rows = asked.shape[1]
    for user, row in asked.nonzero().tolist():
        target, draft = places[user, row - n_rows], drafts[user, row]
        before = batch.history[user : user + 1, : batch.history.shape[1] - (n_rows - 1 - row)]
        codes = model.codes
        labels = model.labels(draft[None, None], target[None, None], before[:, None])
        logits = model.template(before, target[None, None], draft[None, None], labels)
        for loss, given_logits in ((likelihood, logits.target), (corrected, logits.correction)):
            written = given_logits[0, 0].log_softmax(-1).gather(-1, codes[target][:, None])
            torch.testing.assert_close(loss[user, row], -written.sum(), atol=1e-4, rtol=1e-4)
        expected = 0.0 if logits.reflection is None else float(reflection_nll(logits.reflection, labels))
        assert float(reflected[user, row]) == pytest.approx(expected, abs=1e-4)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "next_item_nll", lambda logits, codes: logits.sum((-1, -2)) * torch.nan)
    with pytest.raises(InputError, match="not finite at step 0"):
        sft_run(tmp_path)
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize("name", ["epochs", "batch_size", "draft_beams", "evaluate_beams", "save_every"])
def test_settings_that_cannot_work_are_named(name: str, tmp_path: Path) -> None:
    config = SFTConfig(tmp_path / "data", tmp_path / "run", backbone=tmp_path / "backbone")
    with pytest.raises(InputError, match=f"{name} is 0; it must be >= 1"):
        tuning.main(replace(config, **{name: 0}))


def test_a_bidirectional_encoder_never_reads_its_target(tmp_path: Path) -> None:
    ids, catalogue = tiny_ids(30, 3, 5), tiny_catalogue(30, 2)
    shape = tiny_config(encoder="bidirectional")
    sft_run(tmp_path, epochs=1, start=GenerativeRecommender(tiny_backbone(shape, ids, catalogue), ids, catalogue))
    assert metrics(tmp_path)[0]["step"] == -(-len(every_prefix(SPLIT.train, 8)) // 32)
