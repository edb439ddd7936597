import pytest
import torch

from redraft.bench.speed.t5 import FIRST_CODE, PADDING, build_t5, flat_tokens, prefix_function, t5_search, trie_mask
from redraft.bench.speed.trie import random_codes
from redraft.model.backbone import ModelConfig
from redraft.records import SemanticIds
from redraft.tokenizer.trie import Trie

IDS = SemanticIds(random_codes(60, 3, 6, seed=1), 6)
CODES = torch.from_numpy(IDS.codes)


def test_tokens_by_hand() -> None:
    codes = torch.tensor([[1, 0], [5, 2]])
    assert flat_tokens(torch.tensor([[1, -1, 0]]), codes, 6).tolist() == [[[7, 10], [PADDING] * 2, [3, 8]]]


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_both_constraints_allow_the_same_tokens(depth: int) -> None:
    allowed, process = prefix_function(IDS), trie_mask(Trie.build(IDS))
    written = torch.nn.functional.pad(flat_tokens(torch.arange(60), CODES, 6)[:, :depth], (1, 0), value=PADDING)
    masked = process(written, torch.zeros(60, FIRST_CODE + 18))
    for row in range(60):
        assert sorted(allowed(0, written[row])) == masked[row].isfinite().nonzero().flatten().tolist()


def test_searches_under_both_constraints_find_the_same_items() -> None:
    torch.manual_seed(0)
    shape = ModelConfig(width=16, feed_forward=16, heads=2)
    model = build_t5(shape, 3, 6, use_cache=True).eval()
    history = flat_tokens(torch.arange(8).view(2, 4), CODES, 6).flatten(1)
    by_prefix = t5_search(model, history, 3, 12, prefix=prefix_function(IDS))
    by_mask = t5_search(model, history, 3, 12, processors=[trie_mask(Trie.build(IDS))])
    assert torch.equal(by_prefix, by_mask)
    items = {tuple(tokens) for tokens in flat_tokens(torch.arange(60), CODES, 6).tolist()}
    for user in by_prefix[..., 1:].tolist():
        found = set(map(tuple, user))
        assert len(found) == 12
        assert found <= items
