import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from redraft.records import InputError
from redraft.tokenizer.kmeans import nearest_codes
from redraft.tokenizer.rqvae import RQVAE, sinkhorn


def make(vectors, *, codebook_size=8, seed=0):
    return RQVAE(
        vectors, hidden=(16,), latent=4, levels=3, codebook_size=codebook_size, sinkhorn_epsilon=0.05, seed=seed
    )


@pytest.fixture
def vectors():
    return torch.randn(64, 6, generator=torch.Generator().manual_seed(0)) * 0.1 + 3


def codes_of(model, vectors):
    return torch.from_numpy(nearest_codes(model.encode(vectors).detach().numpy(), model.codebooks.detach().numpy()))


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 30), st.integers(1, 8), st.integers(0, 99), st.sampled_from([0.1, 0.5]))
def test_sinkhorn_shares_rows_evenly(rows, codes, seed, epsilon):
    distances = torch.rand(rows, codes, generator=torch.Generator().manual_seed(seed))
    assignment = sinkhorn(distances, epsilon, iterations=200)
    torch.testing.assert_close(assignment.sum(dim=1), torch.ones(rows, dtype=torch.float64))
    even = torch.full((codes,), rows / codes, dtype=torch.float64)
    torch.testing.assert_close(assignment.sum(dim=0), even, atol=0.01 * rows, rtol=0)


def test_sinkhorn_spreads_what_the_nearest_code_would_pile_up():
    distances = torch.tensor([[0.0, 9.0], [0.1, 8.0], [0.2, 1.0], [0.3, 0.9]])
    assert distances.argmin(dim=1).tolist() == [0, 0, 0, 0]
    assert sinkhorn(distances, 0.05).argmax(dim=1).tolist() == [0, 0, 1, 1]


def test_sinkhorn_survives_equal_and_extreme_distances():
    for distances in (torch.zeros(5, 3), torch.tensor([[0.0, 1e12], [1e12, 0.0], [1e12, 1e12]])):
        assert sinkhorn(distances, 0.01).isfinite().all()


def test_initial_codes_are_the_centres_of_the_residuals(vectors):
    model = make(vectors)
    model.initialize_codebooks(vectors, seed=0)
    residual = model.encode(vectors).detach()
    codes = codes_of(model, vectors)
    for level, codebook in enumerate(model.codebooks.detach()):
        assert len(codes[:, level].unique()) == 8
        left = residual - codebook[codes[:, level]]
        assert left.square().sum() < residual.square().sum()
        residual = left


def test_too_few_rows_for_the_codebook_is_an_input_error(vectors):
    with pytest.raises(InputError, match="65 codes cannot be fitted to 64 items"):
        make(vectors, codebook_size=65).initialize_codebooks(vectors, seed=0)


def test_every_level_commits_and_gradients_pass_the_quantiser(vectors):
    model = make(vectors)
    model.initialize_codebooks(vectors, seed=0)
    losses = model(vectors)
    (from_reconstruction,) = torch.autograd.grad(losses.reconstruction, model.encoder[0].weight, retain_graph=True)
    (from_commitment,) = torch.autograd.grad(losses.commitment, model.encoder[0].weight, retain_graph=True)
    (to_codes,) = torch.autograd.grad(losses.codebook, model.codebooks, retain_graph=True)
    assert from_reconstruction.abs().sum() > 0
    assert from_commitment.abs().sum() > 0
    assert (to_codes.abs().sum(dim=(1, 2)) > 0).all()
    untouched = torch.autograd.grad(
        losses.reconstruction + losses.commitment, model.codebooks, retain_graph=True, allow_unused=True
    )
    assert untouched == (None,)
    assert torch.autograd.grad(losses.codebook, model.encoder[0].weight, allow_unused=True) == (None,)


def test_dead_codes_come_back_to_life(vectors):
    model = make(vectors)
    model.initialize_codebooks(vectors, seed=0)
    with torch.no_grad():
        model.codebooks[:, 5:] = 1e3
    revived = model.revive_dead_codes(vectors, generator=torch.Generator().manual_seed(0))
    assert all(count >= 3 for count in revived)
    codes = codes_of(model, vectors)
    assert len(codes[:, 0].unique()) == 8


def test_same_seed_same_weights_whatever_the_global_state(vectors):
    torch.manual_seed(1)
    once = make(vectors, seed=3)
    torch.manual_seed(2)
    again = make(vectors, seed=3)
    for a, b in zip(once.parameters(), again.parameters()):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
