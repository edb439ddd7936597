import json
from pathlib import Path

import pytest
from tiny import random_interactions

from redraft.records import InputError
from redraft.train.start import check_events, check_folds, only_fold, without_fold


def test_folds_part_the_users() -> None:
    train = random_interactions([2, 3, 4, 5, 6], 30)
    assert only_fold(train, None) is train
    assert without_fold(train, None) is train
    assert only_fold(train, (1, 2)).lengths.tolist() == [3, 5]
    assert without_fold(train, (1, 2)).lengths.tolist() == [2, 4, 6]
    with pytest.raises(InputError, match="fold 2 2: there are folds 0 to N - 1"):
        without_fold(train, (2, 2))


def test_there_must_be_a_history_and_what_came_next(tmp_path: Path) -> None:
    train = random_interactions([1, 4, 1], 30)
    check_events(train, tmp_path)
    with pytest.raises(InputError, match=r"no user has two training events .* import more .* or give another fold"):
        check_events(only_fold(train, (0, 2)), tmp_path)


def test_folds_must_be_complete_and_in_order(tmp_path: Path) -> None:
    for name, fold in (("a", [0, 2]), ("b", [1, 2]), ("whole", None)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"config": {"fold": fold}, "fingerprints": {}}))
    check_folds((tmp_path / "a", tmp_path / "b"))
    check_folds(())
    for runs in (("b", "a"), ("a", "whole"), ("a",), ("whole",)):
        with pytest.raises(InputError, match=r"trained with fold .* needs `--fold"):
            check_folds(tuple(tmp_path / run for run in runs))
