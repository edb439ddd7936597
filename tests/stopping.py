"""Runs that are stopped at any write and resumed must end bit for bit as one that was not."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

from redraft.train import run as training
from redraft.train import state


class Killed(BaseException):
    """Nothing in the program catches this, as nothing catches SIGKILL."""


def metrics(out: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def assert_same_run(first: Path, second: Path) -> None:
    assert metrics(first) == metrics(second)
    for file in ("model.safetensors", "state.safetensors"):
        weights, others = load_file(first / file), load_file(second / file)
        assert weights.keys() == others.keys()
        for name, weight in weights.items():
            assert torch.equal(weight, others[name]), f"{file}: {name}"


def stops_and_resumes(
    run: Callable[..., object],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    writes: Sequence[str] = ("save_items", "save_state", "save_backbone", "log_metrics"),
    loop: ModuleType = training,
) -> int:
    """Run once whole, then stop after each write of the loop in turn and resume; how many writes there are."""
    run(folder / "whole")
    writes_left = 0

    def stopping(write: Callable[..., None]) -> Callable[..., None]:
        def write_and_perhaps_stop(*arguments, **options) -> None:
            nonlocal writes_left
            write(*arguments, **options)
            writes_left -= 1
            if writes_left == 0:
                raise Killed

        return write_and_perhaps_stop

    for name in writes:
        module = loop if hasattr(loop, name) else state
        monkeypatch.setattr(module, name, stopping(getattr(module, name)))
    for stop_after in range(1, 99):
        out = folder / str(stop_after)
        writes_left = stop_after
        try:
            run(out)
        except Killed:
            run(out, resume=True)
            assert_same_run(folder / "whole", out)
        else:
            return stop_after - 1
    raise AssertionError("the run has no end")
