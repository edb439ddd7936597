"""What a method is, and what one training of it is told."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from redraft import recipes
from redraft.device import Precision
from redraft.records import Dataset, Recommender
from redraft.train.pretrain import PretrainConfig

__all__ = ["SCALES", "Method", "Scale", "Task"]


@dataclass(frozen=True)
class Scale:
    """How much is trained. tiger, generator: recipes. The others: epochs, or steps of GRPO; width of the baselines."""

    tiger: Callable[[Path, Path], PretrainConfig]
    generator: Callable[[Path, Path], PretrainConfig]
    fold_epochs: int
    sft_epochs: int
    verifier_epochs: int
    rl_steps: int
    width: int


SCALES = {
    "small": Scale(recipes.tiger, recipes.small, 12, sft_epochs=6, verifier_epochs=8, rl_steps=100, width=128),
    "tiny": Scale(recipes.tiny_tiger, recipes.tiny, 12, sft_epochs=6, verifier_epochs=8, rl_steps=50, width=64),
}


@dataclass(frozen=True)
class Task:
    """One method with one seed on one data set. data: the folder of dataset. root: holds a folder METHOD-SEED each."""

    data: Path
    dataset: Dataset = field(compare=False, repr=False)
    root: Path
    name: str
    seed: int
    scale: Scale
    device: str
    half: bool

    @property
    def folder(self) -> Path:
        """Where this one is trained."""
        return self.root / f"{self.name.rpartition(':')[2]}-{self.seed}"

    def of(self, name: str) -> "Task":
        """Another method with the same seed on the same data."""
        return replace(self, name=name)

    def beams(self, wanted: int) -> int:
        """So many beams, or all items of a smaller catalogue."""
        return min(wanted, self.dataset.catalogue.n_items)

    @property
    def precision(self) -> Precision:
        """Of the matrix products while training."""
        return "bfloat16" if self.half else "float32"


@dataclass(frozen=True)
class Method:
    """One row of a table, or what rows need to be trained.

    train: writes task.folder, or goes on with what is there. load: reads it. needs: what must be trained before.
    ours: whether it corrects itself, so that the best of the others is what it is compared with. weights: the method
    whose weights it uses in another way, if it has none of its own. row: whether it may stand in a table.
    """

    label: str
    train: Callable[[Task], None]
    load: Callable[[Task], Recommender]
    needs: tuple[str, ...] = ()
    ours: bool = False
    weights: str = ""
    row: bool = True
