"""Reflection with evidence in planted worlds, through files, and with what cannot be used."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from reflecting import N_ITEMS, QUICK, a_world
from safetensors.torch import load_file, save_file
from tiny import random_interactions, tiny_catalogue, tiny_generator, tiny_generator_config, tiny_ids

from redraft import runs
from redraft.baselines.fitted import BaselineRecommender
from redraft.baselines.hstu import HSTU, HSTUSettings
from redraft.baselines.itemknn import ItemKNN
from redraft.baselines.neural import Training
from redraft.data.split import leave_one_out
from redraft.eval.metrics import ndcg
from redraft.evidence.drafting import Drafting, Rewriting, check_rewriting
from redraft.evidence.fit import FitSettings, Sheet, best_mixture, draft_ranks, fit, list_nll
from redraft.evidence.kinds import KINDS, Case, Known, check_kinds, columns_of, read_kinds
from redraft.evidence.memory import Memory
from redraft.evidence.reflection import mixed
from redraft.folders import safetensors_metadata
from redraft.recommender import GenerativeRecommender
from redraft.records import InputError, Interactions
from redraft.serve import explain
from redraft.serve.explain import ExplainConfig
from redraft.train import reflect as training

N_DRAFTS = 12


def known_world(train: Interactions | None = None) -> Known:
    ids, catalogue = tiny_ids(N_ITEMS, 3, 8), tiny_catalogue(N_ITEMS)
    memory = Memory.of(train or random_interactions([6] * 40, N_ITEMS), catalogue)
    codes, attributes = torch.from_numpy(ids.codes).long(), torch.from_numpy(catalogue.attributes).long()
    return Known(codes, attributes, tuple(catalogue.attribute_names), torch.ones(N_ITEMS, dtype=torch.int64), memory)


def planted(n_users: int, *, informative: bool, seed: int = 0) -> tuple[Case, np.ndarray, torch.Tensor]:
    """Targets drawn from softmax(a + b); the generator says a, the tower b or noise. Also the ideal scores."""
    rng = torch.Generator().manual_seed(seed)
    items = torch.stack([torch.randperm(N_ITEMS, generator=rng)[:N_DRAFTS] for _ in range(n_users)])
    a = torch.randn(n_users, N_DRAFTS, generator=rng).sort(dim=1, descending=True).values
    b = 1.5 * torch.randn(n_users, N_DRAFTS, generator=rng)
    ideal = a + b if informative else a
    right = ideal.softmax(dim=1).multinomial(1, generator=rng)
    history = torch.randint(0, N_ITEMS, (n_users, 5), generator=rng)
    noise = torch.randn(a.shape, generator=rng)
    case = Case(history, torch.full((n_users,), 5), items, a.log_softmax(dim=1), noise, b, torch.zeros_like(items))
    return case, items.gather(1, right)[:, 0].numpy(), ideal


def gain(scores: torch.Tensor, sheet: Sheet) -> float:
    return float(ndcg(draft_ranks(scores, sheet.position), 10).mean())


@torch.inference_mode()
def listed(model, sheet: Sheet) -> torch.Tensor:
    return model(sheet.columns, mixed(sheet.parts, model.weights), sheet.items >= 0)[0][:, :-1]


def test_independent_evidence_is_used_almost_as_well_as_it_can_be() -> None:
    known, kinds = known_world(), ("generator", "tower")
    case, targets, _ = planted(3000, informative=True)
    sheet = Sheet.of(kinds, case, targets, known)
    model = fit(sheet, known, dataclasses.replace(QUICK, epochs=12))
    case, targets, ideal = planted(2000, informative=True, seed=1)
    asked = Sheet.of(kinds, case, targets, known)
    drafts, best, found = (gain(x, asked) for x in (case.log_probs, ideal, listed(model, asked)))
    assert drafts < best - 0.1
    assert found > best - 0.02
    bayes = -ideal.log_softmax(dim=1).gather(1, asked.position[:, None]).mean()
    assert float(list_nll(model, asked).mean()) < float(bayes) + 0.06


def test_noise_leaves_the_list_as_the_drafts_are() -> None:
    known = known_world()
    case, targets, _ = planted(1500, informative=False)
    sheet = Sheet.of(("tower", "head"), case, targets, known)
    model = fit(sheet, known, QUICK)
    assert model.weights.tolist() == [1, 0, 0, 0]
    ranks, drafts = (draft_ranks(scores, sheet.position) for scores in (listed(model, sheet), case.log_probs))
    np.testing.assert_array_equal(ranks, drafts)


def test_shuffled_targets_give_no_gain() -> None:
    known, kinds = known_world(), ("generator", "tower")
    case, targets, _ = planted(1500, informative=True)
    true = Sheet.of(kinds, case, targets, known)
    shuffled = true._replace(targets=torch.from_numpy(np.random.default_rng(0).permutation(targets)))
    assert gain(listed(fit(shuffled, known, QUICK), true), true) <= gain(case.log_probs, true) + 0.01


def test_a_mixture_takes_only_what_is_allowed() -> None:
    known = known_world()
    case, targets, _ = planted(1500, informative=True)
    sheet = Sheet.of((), case, targets, known)
    assert best_mixture(sheet)[2] > 0.2
    assert best_mixture(sheet, ("generator", "memory"))[2] == 0


FIT = {"hidden": 8, "dropout": 0.5, "epochs": 2, "patience": 1, "batch_size": 100, "learning_rate": 3e-2}
FIT |= {"weight_decay": 1.0, "labelled": 2, "label_weight": 1.0, "chosen_on": 0.4, "seed": 1}
ELSEWHERE = {"data", "out", "fit", "replace"}


@pytest.fixture(scope="module")
def fits():
    """What is logged and learnt with some settings, where the last epochs are no better."""
    known = known_world()
    case, targets, _ = planted(600, informative=True)
    sheet = Sheet.of(("generator", "tower"), case, targets, known)
    usual = dataclasses.replace(QUICK, epochs=4, patience=3, learning_rate=0.1)

    def fitted(**changes):
        lines: list[dict[str, float]] = []
        model = fit(sheet, known, dataclasses.replace(usual, **changes), log=lines.append)
        return lines, {name: weight.tolist() for name, weight in model.state_dict().items()}

    return fitted, fitted()


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(FitSettings)])
def test_changing_a_setting_of_the_fit_changes_what_is_learnt(name: str, fits) -> None:
    fitted, usual = fits
    assert fitted(**{name: FIT[name]}) != usual


def test_memory_says_what_item_knn_says() -> None:
    train, catalogue = random_interactions([7] * 50, N_ITEMS), tiny_catalogue(N_ITEMS)
    whole = Memory.of(train, catalogue, most=N_ITEMS)
    items = torch.arange(N_ITEMS).expand(50, -1)
    said, total = whole.read(torch.from_numpy(train.padded(12)), items)
    scores = ItemKNN.fit(train, catalogue)._scores(train)
    np.testing.assert_allclose(said.numpy(), scores, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(total[:, 0].numpy(), scores.sum(axis=1), rtol=1e-4)
    assert Memory.of(train, catalogue, most=3).offsets.diff().max() <= 3


def test_shares_of_all_items_are_what_memory_says_of_each() -> None:
    train = random_interactions([7] * 50, N_ITEMS)
    memory = Memory.of(train, tiny_catalogue(N_ITEMS), most=5)
    history = torch.from_numpy(train.padded(12))
    said, total = memory.read(history, torch.arange(N_ITEMS).expand(50, -1))
    torch.testing.assert_close(memory.shares(history, N_ITEMS), said / total)
    assert not memory.shares(torch.full((2, 3), -1), N_ITEMS).any()


@pytest.mark.parametrize("filter_seen", [True, False])
def test_corrections_extend_the_drafts_by_what_others_find_likely(filter_seen: bool) -> None:
    ids, catalogue = tiny_ids(N_ITEMS, 3, 8), tiny_catalogue(N_ITEMS)
    train = random_interactions([6] * 40, N_ITEMS)
    writer = GenerativeRecommender(tiny_generator(tiny_generator_config(), ids, catalogue), ids, catalogue)
    tower = HSTU.fit(train, catalogue, HSTUSettings(history=8, width=8, heads=2, layers=1, training=Training(epochs=1)))
    memory = Memory.of(train, catalogue)
    plain = Drafting(writer, tower, memory, 8, Rewriting(budget=0))(train, filter_seen=filter_seen)
    found = Drafting(writer, tower, memory, 8, Rewriting(5, tower=1.0))(train, filter_seen=filter_seen)
    assert found.items.shape == (40, 13)
    for mine, theirs in zip(found[2:], plain[2:]):
        torch.testing.assert_close(mine[:, :8], theirs)
    every = writer.recommend(train, N_ITEMS, filter_seen=False)
    reached = []
    for user, scores in enumerate(torch.from_numpy(tower.scores(train)).softmax(dim=1)):
        hidden = set(found.items[user, :8].tolist()) | (set(train.history(user).tolist()) if filter_seen else set())
        left = [item for item in scores.argsort(descending=True).tolist() if item not in hidden]
        written = found.items[user, 8:].tolist()
        assert len(set(written) & set(left)) == 5
        reached.append(float(scores[written].sum() / scores[left[:5]].sum()))
        for item, log_prob in zip(found.items[user, 8:].tolist(), found.log_probs[user, 8:]):
            at = every.items[user].tolist().index(item)
            assert abs(float(log_prob) - every.scores[user, at]) < 1e-4
    assert np.mean(reached) > 0.9


def test_corrections_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="less than nothing"):
        check_rewriting(Rewriting(tower=0.8, memory=0.3))
    ids, catalogue = tiny_ids(N_ITEMS, 3, 8), tiny_catalogue(N_ITEMS)
    model = tiny_generator(tiny_generator_config(pooling="mean"), ids, catalogue)
    writer = GenerativeRecommender(model, ids, catalogue)
    with pytest.raises(InputError, match="does not score all items"):
        Drafting(writer, None, known_world().memory, 8, Rewriting(budget=5))


def test_every_kind_gives_as_many_columns_as_it_names() -> None:
    known = known_world()
    case, _, _ = planted(5, informative=True)
    missing = case.items.clone()
    missing[:, -2:] = -1
    case = case._replace(items=missing, log_probs=case.log_probs.masked_fill(missing < 0, -torch.inf))
    for kind in KINDS:
        assert read_kinds([kind], case, known).shape == (5, N_DRAFTS, len(columns_of([kind], known.attribute_names)))
        assert not read_kinds([kind], case, known)[:, -2:].any()


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_counts_that_cannot_be_are_refused(value: float) -> None:
    memory = known_world().memory
    bad = memory.similarity.clone()
    bad[3] = value
    with pytest.raises(InputError, match="negative or not finite"):
        memory._replace(similarity=bad).check(N_ITEMS)
    with pytest.raises(InputError, match=r"not of 31 items"):
        memory.check(N_ITEMS + 1)


def test_unknown_kinds_and_opinions_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="no kind is called 'stars'"):
        check_kinds(["stars"])
    with pytest.raises(InputError, match="each kind once"):
        check_kinds(["tower", "tower"])
    case, _, _ = planted(5, informative=True)
    with pytest.raises(InputError, match="tower gives numbers that are not finite"):
        read_kinds(["tower"], case._replace(tower=case.tower * float("nan")), known_world())


def test_changing_a_setting_of_the_run_changes_the_reflection(tmp_path: Path) -> None:
    usual = a_world(tmp_path, random_interactions([6] * 60, N_ITEMS))
    ids, catalogue = tiny_ids(N_ITEMS, 3, 8), tiny_catalogue(N_ITEMS)
    other = GenerativeRecommender(tiny_generator(tiny_generator_config(), ids, catalogue, seed=1), ids, catalogue)
    other.save(tmp_path / "other")
    shutil.copy(usual.run / "config.json", tmp_path / "other")
    hstu = HSTUSettings(history=8, width=8, heads=2, layers=1, training=Training(epochs=2))
    split = leave_one_out(random_interactions([6] * 60, N_ITEMS))
    BaselineRecommender(HSTU.fit(split.train, catalogue, hstu), catalogue).save(tmp_path / "longer")
    shutil.copy(usual.tower / "config.json", tmp_path / "longer")
    changes = {"run": tmp_path / "other", "tower": tmp_path / "longer", "evidence": ("generator",)}
    changes |= {"beams": 12, "users": 50, "rewriting": Rewriting(budget=3)}
    assert {field.name for field in dataclasses.fields(usual)} - ELSEWHERE == set(changes)
    learnt = []
    for change in [{}, *({name: value} for name, value in changes.items())]:
        out = tmp_path / f"out-{len(learnt)}"
        training.main(dataclasses.replace(usual, out=out, **change))
        weights = load_file(out / "reflection.safetensors")
        learnt.append({key: weight.tolist() for key, weight in weights.items()})
    assert not [name for name, weights in zip(changes, learnt[1:], strict=True) if weights == learnt[0]]


def test_replacing_a_run_mixes_no_users_and_loses_nothing_before_all_is_checked(tmp_path: Path) -> None:
    config = a_world(tmp_path, random_interactions([6] * 60, N_ITEMS))
    training.main(config)
    before = (config.out / "reflection.safetensors").read_bytes()
    with pytest.raises(InputError, match="not a trained run"):
        training.main(dataclasses.replace(config, replace=True, run=tmp_path / "nothing"))
    assert (config.out / "reflection.safetensors").read_bytes() == before
    seeded = dataclasses.replace(config, replace=True, fit=dataclasses.replace(config.fit, seed=1))
    with pytest.raises(InputError, match="its drafts are of other users; remove the folder drafts"):
        training.main(seeded)
    shutil.rmtree(config.out / "drafts")
    training.main(seeded)
    training.main(dataclasses.replace(seeded, out=tmp_path / "fresh"))
    mine, theirs = (load_file(out / "reflection.safetensors") for out in (config.out, tmp_path / "fresh"))
    assert all(torch.equal(weights, theirs[name]) for name, weights in mine.items())


def test_a_run_reads_back_bit_for_bit_and_never_reads_the_test_events(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = random_interactions([6] * 60, N_ITEMS)
    config = a_world(tmp_path / "one", events)
    training.main(config)
    found = runs.load(config.out)
    lists = found.recommend(leave_one_out(events).test.histories, 10)
    again = runs.load(config.out).recommend(leave_one_out(events).test.histories, 10)
    np.testing.assert_array_equal(lists.items, again.items)
    np.testing.assert_array_equal(lists.scores, again.scores)
    explain.main(ExplainConfig(config.out, history=("item-1", "item-4"), k=3))
    said = capsys.readouterr().out
    assert not [word for word in ("was draft", "tower", "memory", "doubts", "p(right)") if word not in said]
    others = events.items.copy()
    others[events.offsets[1:] - 1] = (others[events.offsets[1:] - 1] + 1) % N_ITEMS
    changed = a_world(tmp_path / "two", Interactions(others, events.offsets))
    training.main(changed)
    mine, theirs = (load_file(c.out / "reflection.safetensors") for c in (config, changed))
    assert mine.keys() == theirs.keys()
    for name, weights in mine.items():
        assert torch.equal(weights, theirs[name]), name
    with pytest.raises(InputError, match="learnt from other events"):
        training.main(dataclasses.replace(config, out=tmp_path / "three", tower=changed.tower))
    with pytest.raises(InputError, match="holds a reflection"):
        training.main(config)
    bad = mine | {"memory.similarity": -mine["memory.similarity"]}
    metadata = {}
    metadata = safetensors_metadata(config.out / "reflection.safetensors")
    save_file(bad, config.out / "reflection.safetensors", metadata)
    with pytest.raises(InputError, match="negative or not finite"):
        runs.load(config.out)
