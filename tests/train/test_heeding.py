import numpy as np
import pytest
import torch
from tiny import tiny_catalogue, tiny_config, tiny_ids, with_random_weights

from redraft.checkpoint import build_grc
from redraft.model.template import GRC
from redraft.train.heeding import heeding

N = 24
IDS, CATALOGUE = tiny_ids(N, 3, 4), tiny_catalogue(N, 1)
HISTORY = torch.tensor([[-1, 2, 5], [7, 1, 3]])
DRAFTS, TARGETS = torch.tensor([[4, 9, 11, 6], [0, 8, 15, 3]]), torch.tensor([9, 20])


def model(*, reflection: bool = True) -> GRC:
    return with_random_weights(build_grc(tiny_config(), IDS, CATALOGUE, reflection=reflection), 3).eval()


@torch.no_grad()
def test_labels_that_are_embedded_as_nothing_are_not_heeded() -> None:
    deaf = model()
    for kind in deaf.kinds:
        getattr(deaf, f"{kind.name}_embedding").zero_()
    found = heeding(deaf, HISTORY, DRAFTS, TARGETS)
    assert found["kept, told wrong"] == pytest.approx(found["kept, told right"])
    found = heeding(model(), HISTORY, DRAFTS, TARGETS)
    assert found["kept, told wrong"] != pytest.approx(found["kept, told right"])


@torch.no_grad()
def test_what_is_ideal_and_what_is_implied_are_the_generators_own_sums_over_paths() -> None:
    generator = model()
    codes, n_levels = generator.codes, generator.n_levels
    found = heeding(generator, HISTORY, DRAFTS, TARGETS)
    paths = torch.cartesian_prod(*[torch.arange(IDS.codebook_size)] * n_levels)
    ideal, implied = [], []
    for user in range(len(HISTORY)):
        steps = path_steps(generator, HISTORY[user], paths)
        for draft in DRAFTS[user].tolist():
            mine, target = codes[draft], codes[TARGETS[user]]
            shared = (paths == mine).long().cumprod(dim=1).sum(dim=1)
            location = int((target == mine).long().cumprod(dim=0).sum())
            left = steps.exp()[shared == location].sum().log()
            at = int((paths == target).all(dim=1).nonzero()[0, 0])
            ideal.append(float(left - steps[at]))
            implied.append(float(-left))
    assert found["ideal correction NLL"] == pytest.approx(np.mean(ideal), abs=1e-4)
    assert found["implied location NLL"] == pytest.approx(np.mean(implied), abs=1e-4)


def path_steps(generator: GRC, history: torch.Tensor, paths: torch.Tensor) -> torch.Tensor:
    """The log-probability of every path of codes, whether it is an item or not."""
    encoded, last = generator.encode(history[None]), torch.tensor([len(history) - 1])
    codes, generator.codes = generator.codes, paths
    x = generator.target_inputs(torch.arange(len(paths))[None], encoded, last)
    generator.codes = codes
    x = generator.run_decoder(x, generator.causal_mask(generator.n_levels), encoded, last)
    return generator.code_logits(x)[0].log_softmax(dim=-1).gather(-1, paths[..., None])[..., 0].sum(dim=-1)


def test_a_model_without_labels_has_its_correction_alone() -> None:
    assert heeding(model(reflection=False), HISTORY, DRAFTS, TARGETS).keys() == {"correction NLL"}


def test_shares_of_labels_are_the_least_that_guessing_costs() -> None:
    found = heeding(model(), HISTORY, DRAFTS, TARGETS)
    assert found["base location NLL"] <= found["location NLL"]
