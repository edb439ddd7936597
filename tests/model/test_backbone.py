import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_backbone, tiny_catalogue, tiny_config, tiny_ids

from redraft.model.backbone import Backbone

shapes = st.fixed_dictionaries(
    {
        "n_levels": st.integers(1, 4),
        "n_attributes": st.integers(0, 2),
        "positions": st.sampled_from(["item", "code"]),
        "encoder": st.sampled_from(["causal", "bidirectional"]),
        "encoder_layers": st.integers(1, 2),
        "seed": st.integers(0, 99),
    }
)
quick = settings(max_examples=25, deadline=None)


def make(n_levels, n_attributes, seed, codebook_size=3, **changes):
    """A model over the full catalogue, so that every prefix belongs to some item."""
    n_items = codebook_size**n_levels
    ids, catalogue = tiny_ids(n_items, n_levels, codebook_size, seed), tiny_catalogue(n_items, n_attributes, seed)
    return tiny_backbone(tiny_config(**changes), ids, catalogue, seed), ids


def random_items(model, *shape: int) -> torch.Tensor:
    return torch.randint(len(model.codes), shape, generator=torch.Generator().manual_seed(1))


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@given(shapes, st.integers(1, 4), st.integers(1, 8), st.integers(1, 3))
@quick
@torch.no_grad()
def test_teacher_forcing_equals_step_by_step_decoding(shape, n_beams: int, length: int, n_users: int) -> None:
    model, ids = make(**shape)
    history = random_items(model, n_users, length)
    history[0, : length // 2] = -1
    generator = torch.Generator().manual_seed(2)
    memory = model.remember(history)
    written = torch.zeros((n_users, 1, 0), dtype=torch.int64)
    tokens = parents = cache = None
    for level in range(model.n_levels):
        if level > 0:
            parents = torch.randint(written.shape[1], (n_users, n_beams), generator=generator)
            tokens = torch.randint(model.codebook_size, (n_users, n_beams), generator=generator)
            kept = written[torch.arange(n_users)[:, None], parents]
            written = torch.cat([kept, tokens[..., None]], dim=-1)
        logits, cache = model.decode_step(tokens, parents, cache, memory)
        assert logits.shape == (*written.shape[:2], model.codebook_size)
        prefix = torch.nn.functional.pad(written, (0, model.n_levels - level))
        items = torch.from_numpy(ids.lookup(prefix.numpy()))
        for beam in range(written.shape[1]):
            close(logits[:, beam], model(history, items[:, beam : beam + 1])[:, 0, level])


@given(shapes, st.integers(1, 6))
@quick
@torch.no_grad()
def test_padding_and_company_never_change_a_result(shape, n_padding: int) -> None:
    model, _ = make(**shape)
    lengths = (1, 2, 5, 8, 3, 4, 6, 7)
    history, targets = random_items(model, 8, 8), random_items(model, 8, 1)
    for user, length in enumerate(lengths):
        history[user, : 8 - length] = -1
    together = model(history, targets)
    for user, length in enumerate(lengths):
        padded = history[user : user + 1, max(0, 8 - length - n_padding) :]
        close(model(padded, targets[user : user + 1])[0], together[user])


@torch.no_grad()
def test_a_user_without_history_gets_the_same_finite_answer_in_any_company() -> None:
    model, _ = make(2, 1, 0)
    nobody = torch.full((1, 3), -1)
    alone = model(nobody, torch.tensor([[0]]))
    assert alone.isfinite().all()
    history = torch.cat([torch.full((1, 8), -1), random_items(model, 1, 8)])
    close(model(history, torch.zeros((2, 1), dtype=torch.int64))[:1], alone)


@given(shapes, st.integers(1, 8))
@quick
@torch.no_grad()
def test_a_prefix_gives_the_same_logits_in_a_shared_pass_as_alone(shape, length: int) -> None:
    model, _ = make(**{**shape, "encoder": "causal"})
    history, target = random_items(model, 2, length), random_items(model, 2, 1)
    targets = torch.cat([history[:, 1:], target], dim=1)
    shared = model(history, targets)
    for row in range(length):
        close(shared[:, row], model(history[:, : row + 1], targets[:, row : row + 1])[:, 0])


@given(shapes, st.integers(1, 7))
@quick
@torch.no_grad()
def test_no_logit_sees_a_later_item_or_its_own_target(shape, place: int) -> None:
    model, _ = make(**{**shape, "encoder": "causal"})
    history, targets = random_items(model, 2, 8), random_items(model, 2, 8)
    before = model(history, targets)
    later = history.clone()
    later[:, place:] = (later[:, place:] + 1) % len(model.codes)
    assert torch.equal(model(later, targets)[:, :place], before[:, :place])
    for level in range(model.n_levels):
        other = targets.clone()
        step = model.codes[targets]
        step[..., level] = (step[..., level] + 1) % model.codebook_size
        keys = (model.codes[:, None] == step.flatten(0, 1)[None]).all(-1).float().argmax(0)
        other[:] = keys.view_as(targets)
        after = model(history, other)
        assert torch.equal(after[:, :, : level + 1], before[:, :, : level + 1])
        if level + 1 < model.n_levels:
            assert not torch.allclose(after[:, :, level + 1], before[:, :, level + 1])


@pytest.mark.parametrize("positions", ["item", "code"])
@torch.no_grad()
def test_order_content_and_attributes_of_a_history_matter(positions: str) -> None:
    model, _ = make(2, 1, 0, positions=positions)
    history, target = torch.tensor([[0, 3, 5]]), torch.tensor([[1]])
    before = model(history, target)
    assert not torch.allclose(model(torch.tensor([[3, 0, 5]]), target), before)
    assert not torch.allclose(model(torch.tensor([[0, 4, 5]]), target), before)
    model.attributes[3] = (model.attributes[3] + 2) % 4 - 1
    assert not torch.allclose(model(history, target), before)


@pytest.mark.parametrize("n_attributes", [0, 2])
@pytest.mark.parametrize("positions", ["item", "code"])
def test_every_parameter_learns(positions: str, n_attributes: int) -> None:
    model, _ = make(3, n_attributes, 0, positions=positions)
    model(random_items(model, 4, 8), random_items(model, 4, 8)).square().sum().backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name


def test_a_fresh_model_is_close_to_no_opinion() -> None:
    ids, catalogue = tiny_ids(200, 2, 20), tiny_catalogue(200)
    torch.manual_seed(0)
    config = tiny_config(width=32)
    model = Backbone(config, torch.from_numpy(ids.codes), 20, torch.from_numpy(catalogue.attributes)).eval()
    with torch.no_grad():
        log_probs = model(random_items(model, 50, 8), random_items(model, 50, 1)).log_softmax(-1)
    nll = -log_probs.gather(-1, model.codes[random_items(model, 50, 1)][..., None]).mean()
    assert abs(float(nll) - torch.tensor(20.0).log()) < 1.0
