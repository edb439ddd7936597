"""More items without training: the old ones keep their scores, and tables of items keep their meaning."""

import numpy as np
import pytest
import torch
from tiny import tiny_backbone, tiny_catalogue, tiny_config, tiny_ids, with_random_weights

from redraft.checkpoint import build_grc
from redraft.model.backbone import Backbone
from redraft.model.growing import grown


@pytest.fixture(params=["backbone", "grc", "verified"])
def model(request: pytest.FixtureRequest) -> Backbone:
    ids, catalogue = tiny_ids(30, 3, 5), tiny_catalogue(30)
    if request.param == "grc":
        return with_random_weights(build_grc(tiny_config(), ids, catalogue, reflection=True), 0)
    made = tiny_backbone(tiny_config(), ids, catalogue)
    if request.param == "verified":
        made.add_verifier()
        with_random_weights(made, 1)
    return made


def test_old_items_are_written_and_judged_as_before(model: Backbone) -> None:
    codes = torch.cat([model.codes, torch.tensor([[4, 4, 4], [4, 4, 3]])])
    more = grown(model, codes, torch.tensor([[-1], [2]]))
    history, targets = torch.tensor([[3, 4, 5], [-1, 6, 7]]), torch.arange(2)[:, None]
    assert torch.equal(model(history, targets), more(history, targets))
    assert torch.isfinite(more(torch.tensor([[30, 31, 3]]), torch.tensor([[31]]))).all()
    assert len(model.codes) == 30
    if model.verifier is not None:
        old, new = (m.judge(m.remember(history), torch.arange(30).expand(2, -1)) for m in (model, more))
        assert torch.equal(old, new)
        assert torch.equal(more.verifier.identity.weight[30:], torch.zeros(2, 16))
        mean = model.verifier.popularity.weight.mean().item()
        assert np.allclose(more.verifier.popularity.weight[30:].detach(), mean)
