"""More items without training: the old ones keep their scores, and tables of items keep their meaning."""

import numpy as np
import pytest
import torch
from tiny import tiny_backbone, tiny_catalogue, tiny_config, tiny_ids, with_random_weights

from redraft.checkpoint import build_backbone, build_grc
from redraft.model.backbone import Backbone
from redraft.model.generator import Generator, GeneratorConfig
from redraft.model.growing import grown
from redraft.recommender import GenerativeRecommender
from redraft.records import Interactions, SemanticIds
from redraft.tokenizer.trie import Trie


@pytest.fixture(params=["backbone", "grc", "verified", "generator"])
def model(request: pytest.FixtureRequest) -> Backbone:
    ids, catalogue = tiny_ids(30, 3, 5), tiny_catalogue(30)
    if request.param == "grc":
        return with_random_weights(build_grc(tiny_config(), ids, catalogue, reflection=True), 0)
    if request.param == "generator":
        shape = GeneratorConfig(**{**vars(tiny_config()), "history": 8, "encoder_layers": 1})
        return with_random_weights(build_backbone(shape, ids, catalogue), 0)
    made = tiny_backbone(tiny_config(), ids, catalogue)
    if request.param == "verified":
        made.add_verifier()
        with_random_weights(made, 1)
    return made


def larger(model: Backbone) -> tuple[Backbone, SemanticIds]:
    ids = SemanticIds(np.concatenate([model.codes.numpy(), [[4, 4, 4], [4, 4, 3]]]).astype(np.int32), 5)
    return grown(model, torch.from_numpy(ids.codes), torch.tensor([[-1], [2]]), Trie.build(ids)), ids


def test_old_items_are_written_and_judged_as_before(model: Backbone) -> None:
    more, _ = larger(model)
    history, targets = torch.tensor([[3, 4, 5], [-1, 6, 7]]), torch.arange(2)[:, None]
    if not isinstance(model, Generator):  # whose steps know what stands below a code, new items included
        assert torch.equal(model(history, targets), more(history, targets))
    assert torch.isfinite(more(torch.tensor([[30, 31, 3]]), torch.tensor([[31]])).float()).all()
    assert len(model.codes) == 30
    if model.verifier is not None:
        old, new = (m.judge(m.remember(history), torch.arange(30).expand(2, -1)) for m in (model, more))
        assert torch.equal(old, new)
        assert torch.equal(more.verifier.identity.weight[30:], torch.zeros(2, 16))
        mean = model.verifier.popularity.weight.mean().item()
        assert np.allclose(more.verifier.popularity.weight[30:].detach(), mean)


def test_every_item_can_be_found_by_a_search(model: Backbone) -> None:
    more, ids = larger(model)
    found = GenerativeRecommender(more, ids, tiny_catalogue(32)).recommend(Interactions.from_lists([[3, 31]]), 32)
    assert set(found.items[0].tolist()) == {*range(32)} - {3, 31} | {-1}
    assert np.isfinite(found.scores[0][:30]).all()


@pytest.mark.parametrize("model", ["generator"], indirect=True)
def test_nodes_of_a_tree_keep_what_was_learnt_of_them(model: Backbone) -> None:
    more, _ = larger(model)
    for level, (old, new) in enumerate(zip(model.child_bias, more.child_bias)):
        rows = {tuple(code[: level + 1]): place for place, code in enumerate(model.codes.unique(dim=0).tolist())}
        assert len(new) >= len(old) == len(rows)
        assert {round(x, 6) for x in old.tolist()} <= {round(x, 6) for x in new.tolist()}
