"""What a training run starts from: a trained run that fits, and the users that it may learn from."""

from pathlib import Path

import numpy as np

from redraft.recommender import GenerativeRecommender
from redraft.records import Dataset, InputError, Interactions
from redraft.stored import read_settings
from redraft.tokenizer.semantic_ids import load_semantic_ids

__all__ = ["check_backbone", "check_events", "check_folds", "only_fold", "without_fold"]


def check_backbone(
    run: Path, loaded: GenerativeRecommender, data: Path, dataset: Dataset, ids: Path | None = None
) -> None:
    """Raise InputError if a run belongs to other items, attributes or semantic IDs than a data set, or has a verifier.

    ids: the semantic IDs that it must have [semantic_ids.safetensors in the data-set folder].
    """
    theirs, ours = loaded.catalogue, dataset.catalogue
    if theirs.attribute_names != ours.attribute_names:
        raise InputError(
            f"{run}: knows the attributes {theirs.attribute_names}, {data} has "
            f"{ours.attribute_names}; train a backbone on this data set"
        )
    if not np.array_equal(theirs.attributes, ours.attributes):
        raise InputError(f"{run}: trained on another catalogue than {data}; train a backbone there")
    ids = ids or data / "semantic_ids.safetensors"
    if load_semantic_ids(ids).fingerprint != loaded.ids.fingerprint:
        raise InputError(f"{run}: trained with other semantic IDs than {ids}; train a backbone with these")
    if loaded.model.verifier is not None:
        raise InputError(f"{run}: has a verifier, which would no longer fit; give the run that it was added to")


def check_events(train: Interactions, data: Path) -> None:
    """Raise InputError if no user has two events, a history and what came next."""
    if train.lengths.max(initial=0) < 2:
        raise InputError(
            f"{data}: no user has two training events to learn from; "
            "import more with `--core 4` or higher, or give another fold"
        )


def check_folds(drafters: tuple[Path, ...]) -> None:
    """Raise InputError unless run i of n was trained without the users of fold i; nothing to check without runs."""
    for i, run in enumerate(drafters):
        fold = read_settings(run).config.get("fold")
        if fold != [i, len(drafters)]:
            wanted = f"--fold {i} {len(drafters)}"
            raise InputError(f"{run}: trained with fold {fold}, but drafter {i} of {len(drafters)} needs `{wanted}`")


def only_fold(train: Interactions, fold: tuple[int, int] | None) -> Interactions:
    """The events of the users whose number is i modulo n, for fold (i, n); everybody's for None."""
    return train if fold is None else train.take(np.arange(fold[0], train.n_users, fold[1]))


def without_fold(train: Interactions, fold: tuple[int, int] | None) -> Interactions:
    """The events of the users whose number is not i modulo n, for fold (i, n); everybody's for None."""
    if fold is None:
        return train
    i, n = fold
    if not 0 <= i < n or n < 2:
        raise InputError(f"fold {i} {n}: there are folds 0 to N - 1 of N >= 2; give for example `--fold 0 2`")
    return train.take(np.flatnonzero(np.arange(train.n_users) % n != i))
