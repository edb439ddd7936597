"""Which runs may stand beside one another: what they learnt from, and which of them are seeds of one method."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redraft.records import Dataset, InputError
from redraft.stored import learnt, read_settings

__all__ = ["check_learnt", "ranks_file", "seeds_of_one_method"]

OWN = {"data", "out", "ids", "init", "backbone", "drafters", "drafts", "sft", "run", "seed"}
"""Settings in which seeds of one method may differ: where things lie, and the seed."""
FREE = {"resume", "replace", "save_every", "tensorboard"}
"""Settings on which nothing that is learnt depends; older runs lack some of them."""


def check_learnt(run: Path, data: Path, fingerprint: str, *, other_events: bool) -> str | None:
    """What must be said beside the numbers of a run on a data set of this fingerprint; None if there is nothing to say.

    A run that learnt from other events, in itself or in what it started from, may have learnt the targets: the same
    users cut shorter have their test items among the training events of the longer data set.
    Raises InputError for such a run unless `other_events`.
    """
    if not (run / "config.json").exists():
        return f"{run.name}: its folder does not say what it learnt from"
    if learnt(run) == [fingerprint]:
        return None
    if not other_events:
        raise InputError(
            f"{run}: learnt from other events than those of {data}, so it may know the answers; give the data set it "
            "was trained on, or pass --other-events to have its numbers marked"
        )
    return f"{run.name}: learnt from other events, may know the answers"


def seeds_of_one_method(runs: Sequence[Path]) -> list[list[Path]]:
    """Groups of two runs or more that were trained alike but for their seeds, which all differ."""
    groups: dict[str, dict[Any, list[Path]]] = {}
    for run in runs:
        if (run / "config.json").exists():
            config = read_settings(run).config
            alike = {name: None if name in OWN else config[name] for name in sorted(config.keys() - FREE)}
            groups.setdefault(repr(alike), {}).setdefault(config.get("seed"), []).append(run)
    return [[run for [run] in seeds.values()] for seeds in groups.values() if len(seeds) > 1 and _one_each(seeds)]


def _one_each(seeds: dict[Any, list[Path]]) -> bool:
    return all(len(runs) == 1 for runs in seeds.values())


def ranks_file(folder: Path, dataset: Dataset, split: str, method: str, seen: str) -> Path:
    """Where the ranks of a method under a protocol stand in a folder: those of other data sets and splits stay."""
    return folder / f"ranks-{dataset.name}-{dataset.fingerprint[:8]}-{split}-{method}-{seen}.parquet"
