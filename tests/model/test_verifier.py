import pytest
import torch
from tiny import tiny_backbone, tiny_catalogue, tiny_config, tiny_ids, with_random_weights

from redraft.model.backbone import Backbone

N = 20


def model(positions: str = "item") -> Backbone:
    backbone = tiny_backbone(tiny_config(positions=positions), tiny_ids(N, 3, 4), tiny_catalogue(N, 2))
    backbone.add_verifier()
    return with_random_weights(backbone, 0)


@pytest.mark.parametrize("positions", ["item", "code"])
def test_some_items_are_judged_as_among_all(positions: str) -> None:
    judge, history = model(positions), torch.randint(N, (3, 8))
    some = torch.randint(N, (3, 5))
    logits = judge.judge_all(judge.queries(judge.encode(history))[:, -1])
    torch.testing.assert_close(judge.judge(judge.remember(history), some), logits.gather(1, some))


@pytest.mark.parametrize("positions", ["item", "code"])
def test_a_place_asks_by_what_came_up_to_it(positions: str) -> None:
    judge, history = model(positions), torch.randint(N, (2, 8))
    queries = judge.queries(judge.encode(history))
    changed = history.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % N
    others = judge.queries(judge.encode(changed))
    torch.testing.assert_close(queries[:, :5], others[:, :5])
    assert not torch.allclose(queries[:, 5:], others[:, 5:])


def test_padding_changes_nothing() -> None:
    judge, history = model(), torch.randint(N, (2, 5))
    padded = torch.nn.functional.pad(history, (3, 0), value=-1)
    queries = judge.queries(judge.encode(history))
    torch.testing.assert_close(queries, judge.queries(judge.encode(padded))[:, 3:])


def test_a_verifier_changes_nothing_else() -> None:
    ids, catalogue = tiny_ids(N, 3, 4), tiny_catalogue(N, 2)
    plain, judge = tiny_backbone(tiny_config(), ids, catalogue), tiny_backbone(tiny_config(), ids, catalogue)
    judge.add_verifier()
    history, targets = torch.randint(N, (2, 8)), torch.randint(N, (2, 8))
    assert torch.equal(plain(history, targets), judge(history, targets))
