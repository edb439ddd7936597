"""Two processes that share the batches learn as one does."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from loops import DRAFTS, SPLIT, grpo_run, plain, sft_run, supervised, verifier_run
from safetensors.torch import load_file
from separate import TWO, separate
from stopping import metrics
from tiny import tiny_config, tiny_generator_config, tiny_run, tiny_train

import redraft.decode.sample as sampling
import redraft.model.verifier as verifying
from redraft.data.loader import batches, every_prefix, shared_prefixes

LOOPS: dict[str, Callable[[Path], object]] = {
    "pretrain": lambda out: tiny_run(out, users=71, batch_size=128, model=tiny_config()),
    "generator": lambda out: tiny_run(out, users=71, batch_size=128, model=tiny_generator_config(negatives=0)),
    "sft": lambda out: sft_run(out, plain(dropout=0.0), DRAFTS[:, :1], batch_size=12),
    "sft without attributes": lambda out: sft_run(out, plain(0, 0.0), DRAFTS[:, :1], batch_size=12),
    "gc": lambda out: sft_run(out, plain(dropout=0.0), DRAFTS[:, :1], reflection=False),
    "grpo": lambda out: grpo_run(out, start=supervised(dropout=0.0), users=73, steps=3),
    "grpo without attributes": lambda out: grpo_run(out, start=supervised(0, 0.0), steps=2),
    "verifier": lambda out: verifier_run(out, start=plain(dropout=0.0), batch_size=12),
}


def run_all(folder: Path) -> None:
    """Every loop, without what would differ between one process and two: dropout, and a sampler's noise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verifying, "DROPOUT", 0.0)
        patch.setattr(sampling, "_gumbel", same_noise_for_every_user)
        for name, run in LOOPS.items():
            run(folder / name)


def same_noise_for_every_user(like: torch.Tensor) -> torch.Tensor:
    uniform = torch.rand(like.shape[1:], generator=torch.Generator().manual_seed(0))
    return -(-uniform.log()).log().expand_as(like)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of one process and of two."""
    found, here = tmp_path_factory.mktemp("processes"), Path(__file__)
    code = (
        f"import sys\nsys.path.append({str(here.parent)!r})\n"
        f"from {here.stem} import run_all\nrun_all(Path({str(found / 'two')!r}))"
    )
    with separate(found / "two.py", code, *TWO) as process:
        run_all(found / "one")
        _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors.decode()
    return found


@pytest.mark.skipif(torch.cuda.is_available(), reason="the runs to compare with must be on the CPU too")
@pytest.mark.parametrize("name", LOOPS)
def test_two_processes_learn_as_one(folder: Path, name: str) -> None:
    """Also from batches of a single row, where one of the two has nothing to do."""
    one, two = (folder / processes / name for processes in ("one", "two"))
    for ours, theirs in zip(metrics(one), metrics(two), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)
    state, other = (load_file(run / "state.safetensors") for run in (one, two))
    for key in state:
        if not key.startswith(("random.", "optimizer.")):
            torch.testing.assert_close(state[key], other[key], atol=1e-4, rtol=1e-4)


def test_some_batches_have_a_single_row() -> None:
    for train, windows, size in (
        (tiny_train(71), shared_prefixes, 128),
        (SPLIT.train, shared_prefixes, 12),
        (SPLIT.train, every_prefix, 73),
    ):
        epoch = batches(train, windows(train, 8), size, seed=0, epoch=0)
        assert min(len(batch.target) for batch in epoch) == 1
