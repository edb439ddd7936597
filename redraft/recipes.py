"""Named configurations: functions that return a full config and derive from one another."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from inspect import getmodule
from pathlib import Path

import tyro

from redraft.baselines.fitted import PRESETS, find_class
from redraft.baselines.neural import NeuralRecommender
from redraft.folders import BASELINE_RUN, RUN, alone_in, check_place
from redraft.model.backbone import ModelConfig
from redraft.model.generator import GeneratorConfig
from redraft.train import baseline as fitting
from redraft.train import grpo as rl
from redraft.train import pretrain, sft
from redraft.train import reflect as reflecting
from redraft.train import verifier as verifying
from redraft.train.baseline import BaselineConfig
from redraft.train.grpo import GRPOConfig
from redraft.train.pretrain import PretrainConfig
from redraft.train.processes import join_processes
from redraft.train.reflect import ReflectConfig
from redraft.train.sft import SFTConfig
from redraft.train.verifier import VerifierConfig

__all__ = [
    "RECIPES",
    "baseline",
    "gc",
    "grc",
    "grpo",
    "paper",
    "reflect",
    "small",
    "tiger",
    "tiny",
    "tiny_tiger",
    "train",
    "verifier",
]


def small(data: Path, out: Path) -> PretrainConfig:
    """The generator whose every step knows its items: minutes on a laptop."""
    schedule = PretrainConfig(data=data, out=out, epochs=20, head_share=0.6, batch_size=1024, weight_decay=0.0)
    return replace(schedule, model=GeneratorConfig(), evaluate_every=2)


def tiny(data: Path, out: Path) -> PretrainConfig:
    """The same for the generated shop: two minutes on a laptop."""
    model = GeneratorConfig(width=64, embedding=64, feed_forward=256, encoder_layers=2)
    return replace(small(data, out), model=model, epochs=14, batch_size=512)


def tiger(data: Path, out: Path) -> PretrainConfig:
    """The paper's plain backbone: width 128, feed-forward 640, one position per item (section 3.2)."""
    return PretrainConfig(data=data, out=out)


def paper(data: Path, out: Path) -> PretrainConfig:
    """The paper's hidden size of 640 (section 5.1): for a GPU."""
    model = ModelConfig(width=640, feed_forward=2560, heads=10)
    return replace(tiger(data, out), model=model, precision="bfloat16")


def tiny_tiger(data: Path, out: Path) -> PretrainConfig:
    """The plain backbone for the generated shop."""
    return replace(tiger(data, out), model=ModelConfig(width=64, embedding=64, feed_forward=256), epochs=30)


def grc(data: Path, out: Path) -> SFTConfig:
    """Teach a trained backbone to reflect and correct (section 4.1); needs --backbone RUN."""
    return SFTConfig(data=data, out=out, backbone=tyro.MISSING)


def gc(data: Path, out: Path) -> SFTConfig:
    """The ablation without reflection labels (section 5.2); needs --backbone RUN."""
    return replace(grc(data, out), reflection=False)


def grpo(data: Path, out: Path) -> GRPOConfig:
    """Train a model of recipe grc further by reward (section 4.2); needs --sft RUN."""
    return GRPOConfig(data=data, out=out, sft=tyro.MISSING)


def verifier(data: Path, out: Path) -> VerifierConfig:
    """Add a verifier to a run of any other recipe (not in the paper); needs --run RUN."""
    return VerifierConfig(data=data, out=out, run=tyro.MISSING)


def reflect(data: Path, out: Path) -> ReflectConfig:
    """Order a generator's drafts by evidence (not in the paper); needs --run RUN and --tower RUN."""
    return ReflectConfig(data, out, run=tyro.MISSING, tower=tyro.MISSING)


def baseline(name: str) -> Callable[[Path, Path], BaselineConfig]:
    """A recipe for a recommender over item numbers: a preset of `redraft.baselines.fitted`, or FILE.py:CLASS."""
    cls, changes = find_class(name), PRESETS[name].changes if name in PRESETS else {}

    def make(data: Path, out: Path) -> BaselineConfig:
        settings = replace(cls.Settings(), **changes) if issubclass(cls, NeuralRecommender) else None
        return BaselineConfig(data, out, name, settings)

    make.__doc__ = (getattr(getmodule(cls), "__doc__", None) or name).split("\n")[0]
    return make


TrainConfig = BaselineConfig | PretrainConfig | SFTConfig | GRPOConfig | VerifierConfig | ReflectConfig

RECIPES: dict[str, Callable[[Path, Path], TrainConfig]] = {
    **{name: baseline(name) for name in PRESETS},
    "gc": gc,
    "grc": grc,
    "grpo": grpo,
    "paper": paper,
    "reflect": reflect,
    "small": small,
    "tiger": tiger,
    "tiny": tiny,
    "tiny-tiger": tiny_tiger,
    "verifier": verifier,
}


def train(config: TrainConfig) -> None:
    """Run the loop that a recipe's config belongs to, with no other process in its run folder.

    Raises InputError if another process is in it, and as the loop.
    """
    check_place(config.out, BASELINE_RUN if isinstance(config, BaselineConfig) else RUN)
    with alone_in(config.out) if join_processes().is_main_process else nullcontext():
        _train(config)


def _train(config: TrainConfig) -> None:
    if isinstance(config, BaselineConfig):
        fitting.main(config)
    elif isinstance(config, GRPOConfig):
        rl.main(config)
    elif isinstance(config, SFTConfig):
        sft.main(config)
    elif isinstance(config, VerifierConfig):
        verifying.main(config)
    elif isinstance(config, ReflectConfig):
        reflecting.main(config)
    else:
        pretrain.main(config)
