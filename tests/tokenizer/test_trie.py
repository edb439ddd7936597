import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from redraft.records import SemanticIds
from redraft.tokenizer.trie import Trie


@st.composite
def semantic_ids(draw: st.DrawFn) -> SemanticIds:
    size, levels = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    code = st.lists(st.integers(0, size - 1), min_size=levels, max_size=levels).map(tuple)
    rows = draw(st.lists(code, min_size=1, max_size=40, unique=True))
    return SemanticIds(np.array(rows, dtype=np.int32), size)


def prefixes(ids: SemanticIds, depth: int) -> list[tuple[int, ...]]:
    return sorted({tuple(row[:depth]) for row in ids.codes.tolist()})


@given(semantic_ids())
def test_children_codes_and_items_are_those_of_the_prefixes(ids: SemanticIds) -> None:
    trie = Trie.build(ids)
    for depth in range(ids.n_levels):
        above, below = prefixes(ids, depth), prefixes(ids, depth + 1)
        nodes = torch.arange(len(above))
        codes, real = trie.choices(nodes, depth)
        mask = trie.mask(nodes, depth)
        assert real.shape == (len(above), trie.fan_out[depth])
        children, taken, _ = trie.expand(nodes, depth)
        every = torch.arange(trie.fan_out[depth]).expand_as(real)
        assert torch.equal(taken[real], (every if codes is None else codes)[real])
        for node, prefix in enumerate(above):
            found = [(int(c), int(k)) for c, k, r in zip(children[node], taken[node], real[node]) if r]
            wanted = [(below.index((*prefix, k)), k) for k in range(ids.codebook_size) if (*prefix, k) in below]
            assert found == wanted
            assert mask[node].nonzero().flatten().tolist() == [k for _, k in wanted]
            for child, _ in found:
                place = trie.slot(torch.tensor(child), torch.tensor(node), depth)
                assert children[node, place] == child
                assert real[node, place]
    in_order = [tuple(row) for row in ids.codes[trie.items.numpy()].tolist()]
    assert in_order == prefixes(ids, ids.n_levels)
    assert trie.leaves[trie.items.long()].tolist() == list(range(ids.n_items))


@given(semantic_ids())
def test_ancestors_and_counts(ids: SemanticIds) -> None:
    trie = Trie.build(ids)
    for depth in range(ids.n_levels + 1):
        nodes = prefixes(ids, depth)
        wanted = [nodes.index(tuple(row[:depth])) for row in ids.codes.tolist()]
        assert trie.ancestors(trie.leaves, depth).tolist() == wanted
        assert trie.n_below(torch.arange(len(nodes)), depth).tolist() == [wanted.count(n) for n in range(len(nodes))]


def test_well_filled_levels_are_dense_and_sparse_ones_are_not() -> None:
    every_pair = np.array([(a, b) for a in range(8) for b in range(8)])
    codes = np.concatenate([every_pair, np.arange(64)[:, None] % 8], axis=1)
    trie = Trie.build(SemanticIds(codes.astype(np.int32), 8))
    assert len(trie.dense) == 2
    assert trie.fan_out == (8, 8, 1)
