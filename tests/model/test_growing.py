"""More items without training: the old ones keep their scores, and tables of items keep their meaning."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import (
    tiny_backbone,
    tiny_catalogue,
    tiny_config,
    tiny_generator,
    tiny_generator_config,
    tiny_ids,
    with_random_weights,
)

from redraft.checkpoint import build_backbone, build_grc
from redraft.model.backbone import Backbone
from redraft.model.generator import Generator, GeneratorConfig
from redraft.model.growing import carried, grown
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


@pytest.mark.parametrize("pooling", ["exact", "mean"])
def test_a_model_over_items_in_another_order_recommends_what_the_grown_one_does(pooling: str) -> None:
    """Two items are new, attribute values have other numbers, and everything else is as it was."""
    ids, catalogue = tiny_ids(30, 3, 5), tiny_catalogue(30)
    known = tiny_generator(tiny_generator_config(pooling=pooling), ids, catalogue)
    known.counts.copy_(torch.arange(30))
    more = GenerativeRecommender(known, ids, catalogue)
    longer = SemanticIds(np.concatenate([ids.codes, [[4, 4, 4], [4, 4, 3]]]).astype(np.int32), 5)
    larger = replace(tiny_catalogue(32), attributes=np.concatenate([catalogue.attributes, [[-1], [1]]]))
    expected = more.with_items(longer, larger).recommend(Interactions.from_lists([[3, 31, 5], [7]]), 32)

    order = np.random.default_rng(1).permutation(32)
    renamed = np.array([2, 3, 0, -1])[larger.attributes[order]]  # a, b, c are 2, 3 and 0 now; 1 is a value nobody had
    shuffled = replace(tiny_catalogue(32), attributes=renamed.astype(np.int32))
    fresh = build_backbone(known.config, SemanticIds(longer.codes[order], 5), shuffled)
    model = carried(known, fresh, np.where(order < 30, order, -1), [np.array([2, -1, 0, 1])])
    place = np.argsort(order)
    found = GenerativeRecommender(model, SemanticIds(longer.codes[order], 5), shuffled).recommend(
        Interactions.from_lists([place[[3, 31, 5]].tolist(), [int(place[7])]]), 32
    )
    assert np.where(found.items >= 0, order[found.items], -1).tolist() == expected.items.tolist()
    assert np.allclose(found.scores, expected.scores, atol=1e-5)
    assert model.counts.tolist() == [n if n < 30 else 0 for n in order.tolist()]
