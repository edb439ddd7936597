"""Named configurations: functions that return a full config and derive from one another."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from redraft.model.backbone import ModelConfig
from redraft.train.pretrain import PretrainConfig

__all__ = ["RECIPES", "paper", "small", "tiny"]


def small(data: Path, out: Path) -> PretrainConfig:
    """Width 128, feed-forward 640, one position an item: minutes on a laptop."""
    return PretrainConfig(data=data, out=out)


def paper(data: Path, out: Path) -> PretrainConfig:
    """The paper's hidden size of 640 (section 5.1): for a GPU."""
    model = ModelConfig(width=640, feed_forward=2560, heads=10)
    return replace(small(data, out), model=model, precision="bfloat16")


def tiny(data: Path, out: Path) -> PretrainConfig:
    """For the generated shop: two minutes on a laptop."""
    return replace(small(data, out), model=ModelConfig(width=64, embedding=64, feed_forward=256), epochs=30)


RECIPES: dict[str, Callable[[Path, Path], PretrainConfig]] = {"paper": paper, "small": small, "tiny": tiny}
