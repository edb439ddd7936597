from pathlib import Path

import pytest
import torch
from torch import nn

from redraft.records import InputError
from redraft.train.progress import keep_epochs, log_metrics
from redraft.train.state import load_state, save_state


def fresh(width: int = 3) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(nn.Linear(width, 4), nn.Dropout(0.5), nn.Linear(4, 1))
    return model, torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        model(torch.randn(8, 3)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_training_goes_on_bit_for_bit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, optimizer = fresh()
    train(model, optimizer, 3)
    progress = {"step": 3, "loss": 0.1 + 0.2, "best": float("-inf")}
    save_state(tmp_path / "state", {"model": model}, optimizer, progress)
    train(model, optimizer, 5)

    torch.manual_seed(1)
    other, other_optimizer = fresh()
    assert load_state(tmp_path / "state", {"model": other}, other_optimizer) == progress
    train(other, other_optimizer, 5)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name]), name


def test_several_modules_share_a_file(tmp_path: Path) -> None:
    policy, optimizer = fresh()
    reference, _ = fresh()
    save_state(tmp_path / "state", {"policy": policy, "reference": reference}, optimizer, {})
    again, again_optimizer = fresh()
    reference_again, _ = fresh()
    load_state(tmp_path / "state", {"policy": again, "reference": reference_again}, again_optimizer)
    assert torch.equal(again[0].weight, policy[0].weight)
    assert torch.equal(reference_again[0].weight, reference[0].weight)


def test_a_state_of_another_shape_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    model, optimizer = fresh()
    path = tmp_path / "state"
    save_state(path, {"model": model}, optimizer, {})
    wide, wide_optimizer = fresh(width=5)
    with pytest.raises(InputError, match=r"cannot resume from it; start again"):
        load_state(path, {"model": wide}, wide_optimizer)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"cannot resume from it; start again"):
        load_state(path, {"model": model}, optimizer)


def test_a_resumed_log_keeps_the_finished_epochs_only(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    for epoch in (1, 2, 3):
        log_metrics(log, {"epoch": epoch, "step": 10 * epoch, "loss": 0.5})
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines) + '{"epoch": 4, "st')
    keep_epochs(log, 2)
    assert log.read_text() == "".join(lines[:2])
