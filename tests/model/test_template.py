import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_catalogue, tiny_config, tiny_ids, with_random_weights

from redraft.model.slots import KINDS, Case, label_drafts
from redraft.model.template import GRC
from redraft.records import Labels

quick = settings(max_examples=25, deadline=None)
shapes = st.fixed_dictionaries(
    {
        "n_levels": st.integers(1, 4),
        "n_attributes": st.integers(0, 3),
        "reflection": st.booleans(),
        "seed": st.integers(0, 99),
    }
)


def make(n_levels: int, n_attributes: int, reflection: bool, seed: int) -> GRC:
    """A model over the full catalogue of 3 codes a level."""
    n_items = 3**n_levels
    ids, catalogue = tiny_ids(n_items, n_levels, 3, seed), tiny_catalogue(n_items, n_attributes, seed)
    codes, attributes = torch.from_numpy(ids.codes), torch.from_numpy(catalogue.attributes)
    return with_random_weights(GRC(tiny_config(), codes, 3, attributes, reflection=reflection), seed)


def random_labels(model: GRC, *shape: int, generator: torch.Generator) -> Labels:
    location = torch.randint(model.n_levels + 1, (*shape, 1), generator=generator)
    match = torch.randint(2, (*shape, model.attributes.shape[1]), generator=generator)
    return torch.cat([location, match], dim=-1)


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


def test_labels_by_hand() -> None:
    """Eq. 4 and 5 with L = 3 and K = 2, target (5, 1, 2) with attributes (0, 3).

    (5, 1, 2) is right: r_loc = 4, three codes stand before the first wrong one. (5, 1, 0) fails at its last code:
    r_loc = 3. (5, 0, 2) fails at 2, however right the rest: r_loc = 2. (4, 1, 2) fails at once: r_loc = 1.
    Attributes (0, 3), (0, 1), (2, 3), (-1, -1) match in both, the first, the second, none.
    """
    codes = torch.tensor([[5, 1, 2], [5, 1, 0], [5, 0, 2], [4, 1, 2]])
    attributes = torch.tensor([[0, 3], [0, 1], [2, 3], [-1, -1]])
    case = Case(torch.arange(4), torch.tensor([0]), torch.tensor([[]]), codes, attributes)
    labels = label_drafts(tuple(KINDS.values()), case)
    assert (labels[:, 0] + 1).tolist() == [4, 3, 2, 1]
    assert labels[:, 1:].tolist() == [[1, 1], [1, 0], [0, 1], [0, 0]]
    unknown = label_drafts(tuple(KINDS.values()), case._replace(targets=torch.tensor([3])))
    assert not unknown[:, 1:].any(), "an unknown attribute matches nothing, not even another unknown one"


@given(shapes, st.integers(1, 3), st.integers(1, 4))
@quick
@torch.no_grad()
def test_one_masked_pass_equals_step_by_step_decoding(shape, n_users: int, n_drafts: int) -> None:
    model = make(**shape)
    generator = torch.Generator().manual_seed(1)

    def items(*size: int) -> torch.Tensor:
        return torch.randint(len(model.codes), size, generator=generator)

    history = items(n_users, 5)
    history[0, :2] = -1
    drafts, targets = items(n_users, n_drafts), items(n_users, n_drafts)
    labels = random_labels(model, n_users, n_drafts, generator=generator)
    memory = model.remember(history)
    rows = torch.arange(n_drafts).expand(n_users, -1)
    tokens, parents, cache = None, None, None
    drafted = []
    for level in range(model.n_levels):
        logits, cache = model.decode_step(tokens, parents, cache, memory)
        drafted.append(logits.expand(-1, n_drafts, -1))
        tokens, parents = model.codes[drafts][..., level], rows if level else torch.zeros_like(rows)
    reflection, cache = model.reflect(tokens, parents, cache, memory)
    tokens, corrected = None, []
    for level in range(model.n_levels):
        logits, cache = model.correct_step(labels, tokens, rows, cache, memory)
        corrected.append(logits)
        tokens = model.codes[targets][..., level]
    for row in range(n_drafts):
        one = slice(row, row + 1)
        mine = labels[:, one]
        whole = model.template(history, targets[:, one], drafts[:, one], mine)
        close(torch.stack(corrected, dim=2)[:, one], whole.correction)
        close(whole.target, model(history, targets[:, one]))
        own = model.template(history, drafts[:, one], drafts[:, one], mine).target
        close(torch.stack(drafted, dim=2)[:, one], own)
        assert (reflection is None) == (whole.reflection is None) == (not model.reflection)
        if reflection is not None:
            for stepwise, at_once in zip(reflection.kinds, whole.reflection.kinds, strict=True):
                close(stepwise[:, one], at_once)


@given(shapes)
@quick
@torch.no_grad()
def test_nothing_reaches_what_must_not_see_it(shape) -> None:
    """Another target, label or draft changes only what comes after it, and a slot's head only that slot."""
    model = make(**shape)
    history, target, draft = torch.tensor([[0, 1, 2]]), torch.tensor([[0]]), torch.tensor([[1]])
    other = torch.tensor([[len(model.codes) - 1]])
    generator = torch.Generator().manual_seed(3)
    labels = random_labels(model, 1, 1, generator=generator)
    before = model.template(history, target, draft, labels)

    another_target = model.template(history, other, draft, labels)
    same = int((model.codes[0] == model.codes[-1]).long().cumprod(0).sum())
    close(another_target.correction[:, :, : same + 1], before.correction[:, :, : same + 1])
    another_draft = model.template(history, target, other, labels)
    close(another_draft.target, before.target)
    if not model.reflection:
        return
    for mine, yours in zip(another_target.reflection.kinds, before.reflection.kinds, strict=True):
        close(mine, yours)
    other_labels = torch.cat([(labels[..., :1] + 1) % (model.n_levels + 1), 1 - labels[..., 1:]], dim=-1)
    relabelled = model.template(history, target, draft, other_labels)
    close(relabelled.target, before.target)
    for mine, yours in zip(relabelled.reflection.kinds, before.reflection.kinds, strict=True):
        close(mine, yours)
    assert not torch.allclose(relabelled.correction, before.correction), "the correction sees the labels"

    for slot, head in enumerate([model.location_head, *model.match_head]):
        before = model.template(history, target, draft, labels)
        head.add_(torch.randn(head.shape, generator=generator))
        after = model.template(history, target, draft, labels)
        assert torch.equal(after.target, before.target)
        assert torch.equal(after.correction, before.correction)
        slots = [found.slots() for found in (before.reflection, after.reflection)]
        assert [torch.equal(x, y) for x, y in zip(*slots)] == [place != slot for place in range(len(slots[0]))]


@torch.no_grad()
def test_without_reflection_labels_change_nothing() -> None:
    model = make(2, 2, False, 0)
    assert not any("location" in name or "match" in name for name, _ in model.named_parameters())
    history, items, generator = torch.tensor([[0, 1, 2]]), torch.tensor([[1]]), torch.Generator().manual_seed(0)
    first, second = (
        model.template(history, items, items, random_labels(model, 1, 1, generator=generator)) for _ in range(2)
    )
    assert torch.equal(first.correction, second.correction)
