"""A baseline as a run folder: the fitted model in RUN/fitted, and the catalogue that its item numbers mean."""

import importlib.util
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from redraft.baselines.cobra import COBRA
from redraft.baselines.dssm import DSSM
from redraft.baselines.hstu import HSTU
from redraft.baselines.itemknn import ItemKNN
from redraft.baselines.markov import Markov
from redraft.baselines.neural import NeuralRecommender
from redraft.baselines.popularity import Popularity
from redraft.baselines.rearec import ReaRec
from redraft.baselines.sasrec import SASRec
from redraft.baselines.storage import kind_of
from redraft.data.store import catalogue_to_frame
from redraft.device import configure_attention, find_device
from redraft.files import atomic_file
from redraft.folders import BASELINE_RUN, new_folder
from redraft.records import BoolArray, Catalogue, InputError, Interactions, Recommendations, Recommender
from redraft.stored import read_settings

__all__ = ["FITTED", "PRESETS", "BaselineRecommender", "Preset", "find_class", "is_baseline_run", "read_fitted"]


class Preset(NamedTuple):
    """A baseline by name. label: its name in tables. changes: of its class's default settings."""

    label: str
    cls: Any
    changes: Mapping[str, object] = MappingProxyType({})


PRESETS = {
    "popularity": Preset("Popularity", Popularity),
    "markov": Preset("Last-item Markov", Markov),
    "itemknn": Preset("item-kNN", ItemKNN),
    "dssm": Preset("DSSM", DSSM),
    "sasrec": Preset("SASRec", SASRec),
    "sasrec-sampled": Preset("SASRec, sampled softmax", SASRec, {"loss": "sampled"}),
    "sasrec-bce": Preset("SASRec, binary loss", SASRec, {"loss": "bce"}),
    "hstu": Preset("HSTU", HSTU),
    "rearec-erl": Preset("ReaRec, ERL", ReaRec, {"learning": "erl"}),
    "rearec-prl": Preset("ReaRec, PRL", ReaRec, {"learning": "prl"}),
    "cobra": Preset("COBRA", COBRA),
}
FITTED = "fitted"


class BaselineRecommender:
    """A fitted baseline that knows its items; keeps the Recommender protocol.

    fitted: the recommender itself.
    """

    def __init__(self, fitted: Recommender, catalogue: Catalogue):
        self.fitted = fitted
        self.catalogue = catalogue

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self.fitted).__name__}, {self.catalogue!r})"

    def recommend(
        self, histories: Interactions, k: int, *, filter_seen: bool = True, allow: BoolArray | None = None
    ) -> Recommendations:
        """See `redraft.records.Recommender`."""
        return self.fitted.recommend(histories, k, filter_seen=filter_seen, allow=allow)

    def save(self, path: Path, *, replace: bool = False) -> None:
        """Write the fitted model and the catalogue to a folder, whole or not at all.

        replace: lose the run that is there. Raises InputError as `redraft.folders.check_replace`.
        """
        with new_folder(path, BASELINE_RUN, replace=replace) as folder:
            self.save_parts(folder)

    def save_parts(self, folder: Path) -> None:
        """Write the fitted model and the catalogue into a run folder that stands already."""
        with atomic_file(folder / "catalogue.parquet") as partial:
            catalogue_to_frame(self.catalogue).write_parquet(partial)
        self.fitted.save(folder / FITTED)


def is_baseline_run(run: Path) -> bool:
    """Whether a folder holds the run of a baseline."""
    return (run / FITTED).is_dir()


def read_fitted(run: Path, method: str = "", *, device: str = "cpu") -> Recommender:
    """What was fitted into a run folder, without its catalogue.

    method: its class, see `find_class` [the one that config.json names, or the one that the weights belong to].
    """
    if not method and (run / "config.json").exists():
        method = read_settings(run).config.get("method", "")
    if not method:
        method = kind_of(run / FITTED)
    fitted: Recommender = find_class(method).load(run / FITTED)
    if isinstance(fitted, NeuralRecommender):
        fitted.network.to(configure_attention(find_device(device)))
    return fitted


@cache
def find_class(name: str) -> Any:
    """A baseline's class by the name of a preset, by the kind that its file names, or by FILE.py:CLASS.

    A class of one's own keeps the contract of this package. Raises InputError for any other name.
    """
    path, colon, cls = name.rpartition(":")
    if not colon:
        known = next((preset.cls for each, preset in PRESETS.items() if name in (each, each.split("-")[0])), None)
        if known is None:
            raise InputError(f"no baseline {name!r}; there are {', '.join(PRESETS)}, and FILE.py:CLASS for your own")
        return known
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None or not Path(path).is_file():
        raise InputError(f"{path}: no such Python file; give FILE.py:CLASS")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, cls):
        raise InputError(f"{path}: has no class {cls}; give FILE.py:CLASS")
    return getattr(module, cls)
