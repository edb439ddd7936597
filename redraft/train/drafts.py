"""The drafts that a model learns to correct: constrained beams for every training event, cached on disk.

They are made once, part by part; a run that stopped goes on where it was, and each process takes its share of parts.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import torch

from redraft.checkpoint import weights_fingerprint
from redraft.data.loader import every_prefix
from redraft.files import atomic_file, read_json, write_json
from redraft.model.backbone import Backbone
from redraft.model.slots import Case, first_wrong_code, same_attributes
from redraft.recommender import GenerativeRecommender
from redraft.records import InputError, IntArray, Interactions

__all__ = ["check_drafts", "draft_labels", "drafts_fingerprint", "load_drafts", "make_drafts"]

PART = 4096
FIX = "remove the folder, drafts are made again"


def drafts_fingerprint(drafters: Sequence[GenerativeRecommender], data: str, n_beams: int) -> dict[str, object]:
    """What drafts depend on: the weights that made them, in order of folds, data, semantic IDs and beams."""
    return {
        "weights": [weights_fingerprint(drafter.model) for drafter in drafters],
        "data": data,
        "semantic_ids": drafters[0].ids.fingerprint,
        "beams": n_beams,
    }


def make_drafts(
    drafters: Sequence[GenerativeRecommender],
    train: Interactions,
    folder: Path,
    *,
    data: str,
    n_beams: int,
    rank: int = 0,
    world: int = 1,
    done: Callable[[int], None] | None = None,
) -> None:
    """Write the drafts of every training event but each user's first, from the events before it.

    drafters: one, or n of them of which drafter i did not learn from the users whose number is i modulo n and drafts
    for them. data: fingerprint of the data set. rank, world: this process and how many share the work. done: called
    with the number of events after each part.
    Raises InputError if the folder holds drafts of other weights, data, ids or beams.
    """
    about = drafts_fingerprint(drafters, data, n_beams)
    check_drafts(folder, about)
    if rank == 0:
        write_json(folder / "drafts.json", about)
    windows = every_prefix(train, drafters[0].model.config.history)
    user = np.searchsorted(train.offsets, windows.target, side="right") - 1
    for number, start in enumerate(range(0, len(windows), PART)):
        rows = np.arange(start, min(start + PART, len(windows)))
        path = folder / f"part-{number:05d}.npy"
        if number % world == rank and not path.exists():
            drafted = np.empty((len(rows), n_beams), dtype=np.int32)
            for fold, drafter in enumerate(drafters):
                mine = np.flatnonzero(user[rows] % len(drafters) == fold)
                histories = [train.items[windows.start[r] : windows.target[r]].tolist() for r in rows[mine]]
                lists = drafter.recommend(Interactions.from_lists(histories), n_beams, filter_seen=False)
                drafted[mine] = lists.items
            with atomic_file(path) as partial, partial.open("wb") as file:
                np.save(file, drafted)
        if done is not None:
            done(len(rows))


def check_drafts(folder: Path, about: dict[str, object]) -> None:
    """Raise InputError if a folder holds drafts that depend on anything else."""
    if not (folder / "drafts.json").exists():
        return
    content = read_json(folder / "drafts.json")
    if not isinstance(content, dict):
        raise InputError(f"{folder / 'drafts.json'}: does not say what the drafts are of; {FIX}")
    for name, value in about.items():
        if content.get(name) != value:
            raise InputError(f"{folder}: its drafts were made with other {name}; remove the folder or give another")


def load_drafts(folder: Path, train: Interactions, history: int) -> torch.Tensor:
    """int32 [nnz, B]: the drafts of each training event by its number among the events; -1 for a user's first."""
    windows = every_prefix(train, history)
    parts: list[IntArray] = []
    for number in range(-(-len(windows) // PART)):
        path = folder / f"part-{number:05d}.npy"
        if not path.exists():
            raise InputError(f"{path}: drafts are not complete; make them again, they go on where they stopped")
        parts.append(_part(path, min(PART, len(windows) - number * PART)))
    if len({part.shape[1] for part in parts}) > 1:
        raise InputError(f"{folder}: holds parts of different widths; {FIX}")
    drafted = np.concatenate(parts)
    drafts = np.full((len(train.items), drafted.shape[1]), -1, dtype=np.int32)
    drafts[windows.target] = drafted
    return torch.from_numpy(drafts)


def _part(path: Path, n: int) -> IntArray:
    """The drafts of n events. Raises InputError if a file holds anything else."""
    try:
        drafted: IntArray = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError, TokenError) as error:
        raise InputError(f"{path}: not readable ({str(error).splitlines()[0]}); {FIX}") from None
    if drafted.ndim != 2 or len(drafted) != n or drafted.dtype != np.int32 or not drafted.size:
        raise InputError(f"{path}: holds {drafted.dtype} {list(drafted.shape)}, not the drafts of {n} events; {FIX}")
    return drafted


def draft_labels(drafts: torch.Tensor, targets: torch.Tensor, model: Backbone, k: int = 10) -> dict[str, Any]:
    """What the labels of the first k drafts [n, B] for targets [n] look like.

    hits: share of targets among the drafts. location: share of each number of right codes, 0 to L. match: share of
    drafts with the target's value of each attribute.
    """
    drafts, targets = drafts[:, :k].long(), targets[:, None].long()
    case = Case(drafts, targets, targets[..., :0], model.codes, model.attributes)
    location, match = first_wrong_code(case), same_attributes(case)
    counts = torch.bincount(location.flatten(), minlength=model.n_levels + 1)
    return {
        "hits": float((drafts == targets).any(dim=1).float().mean()),
        "location": (counts / location.numel()).tolist(),
        "match": match.float().mean(dim=(0, 1)).tolist(),
    }
