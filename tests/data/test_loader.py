import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from redraft.data.loader import Windows, batches, count_batches, every_prefix, shared_prefixes
from redraft.records import Batch, Interactions

lengths_of_users = st.lists(st.integers(0, 30), min_size=1, max_size=12)
lengths_with_targets = lengths_of_users.filter(lambda lengths: max(lengths) > 1)
histories = st.integers(1, 9)


def numbered(lengths: list[int]) -> Interactions:
    """Every event is an item of its own, numbered in order, so that a batch tells which events it holds."""
    return Interactions(
        np.arange(sum(lengths), dtype=np.int32), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    )


def predicted(windows: Windows) -> list[int]:
    return [t - j for t, n in zip(windows.target.tolist(), windows.n_targets.tolist()) for j in range(n)]


def all_but_first(train: Interactions) -> list[int]:
    return [e for u in range(train.n_users) for e in range(train.offsets[u] + 1, train.offsets[u + 1])]


@pytest.mark.parametrize("rows_of", [every_prefix, shared_prefixes])
@given(lengths=lengths_of_users, history=histories)
def test_each_event_but_a_users_first_is_predicted_exactly_once(rows_of, lengths, history) -> None:
    train = numbered(lengths)
    assert sorted(predicted(rows_of(train, history))) == all_but_first(train)


@pytest.mark.parametrize("rows_of", [every_prefix, shared_prefixes])
@given(lengths=lengths_of_users, history=histories)
def test_a_history_is_not_empty_not_too_long_and_of_one_user(rows_of, lengths, history) -> None:
    train = numbered(lengths)
    windows = rows_of(train, history)
    length = windows.target - windows.start
    assert (length >= 1).all()
    assert (length <= history).all()
    assert (windows.n_targets >= 1).all()
    assert (windows.n_targets <= length).all()
    owner = np.repeat(np.arange(train.n_users), train.lengths)
    assert (owner[windows.start] == owner[windows.target]).all()


@given(lengths_of_users, histories)
def test_every_prefix_sees_all_that_fits(lengths, history: int) -> None:
    train = numbered(lengths)
    windows = every_prefix(train, history)
    first = np.repeat(train.offsets[:-1], train.lengths)[windows.target]
    assert (windows.start == np.maximum(first, windows.target - history)).all()


@given(lengths_of_users, histories)
def test_shared_prefixes_see_all_or_at_least_half_a_history(lengths, history: int) -> None:
    train = numbered(lengths)
    windows = shared_prefixes(train, history)
    first = np.repeat(train.offsets[:-1], train.lengths)
    for start, target, n in zip(windows.start, windows.target, windows.n_targets):
        for event in range(target - n + 1, target + 1):
            assert event - start >= min(event - first[event], -(-history // 2))


def rows(batch: Batch) -> list[tuple[tuple[int, ...], int, int]]:
    return [
        (tuple(i for i in history if i >= 0), target, n)
        for history, target, n in zip(batch.history.tolist(), batch.target.tolist(), batch.n_targets.tolist())
    ]


def epoch_of(train: Interactions, windows: Windows, size: int, **where: int) -> list[Batch]:
    return list(batches(train, windows, size, **{"seed": 0, "epoch": 0, **where}))


@given(lengths_with_targets, histories, st.integers(1, 30), st.integers(0, 3))
def test_an_epoch_is_a_permutation_of_the_rows_in_batches_of_about_equal_weight(lengths, history, size, seed) -> None:
    train = numbered(lengths)
    windows = shared_prefixes(train, history)
    epoch = epoch_of(train, windows, size, seed=seed)
    n_targets = [int(batch.n_targets.sum()) for batch in epoch]
    assert max(n_targets) < size + history
    expected = [
        (tuple(range(start, target)), target, n)
        for start, target, n in zip(windows.start.tolist(), windows.target.tolist(), windows.n_targets.tolist())
    ]
    assert sorted(row for batch in epoch for row in rows(batch)) == sorted(expected)


@pytest.mark.parametrize("rows_of", [every_prefix, shared_prefixes])
@given(lengths=lengths_with_targets, history=histories, size=st.integers(1, 30), seed=st.integers(0, 3))
def test_the_schedule_ends_at_the_last_step_of_a_run(rows_of, lengths, history, size, seed) -> None:
    train = numbered(lengths)
    windows = rows_of(train, history)
    n_steps = count_batches(windows, size, seed=seed, epochs=3)
    steps = sum(len(epoch_of(train, windows, size, seed=seed, epoch=epoch)) for epoch in range(3))
    assert steps == n_steps


@given(lengths_with_targets, st.integers(1, 7), st.integers(0, 9), st.integers(1, 3))
def test_skip_goes_on_where_it_stopped_and_shards_partition_each_batch(lengths, size, skip, world) -> None:
    train = numbered(lengths)
    windows = every_prefix(train, 4)
    whole = epoch_of(train, windows, size)
    shards = [epoch_of(train, windows, size, skip=skip, rank=rank, world=world) for rank in range(world)]
    for parts, batch in zip(zip(*shards, strict=True), whole[skip:], strict=True):
        shares = [[row for row in rows(part) if row[-1] > 0] for part in parts]
        assert sorted(row for share in shares for row in share) == sorted(rows(batch))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        assert {part.history.shape[1] for part in parts} == {batch.history.shape[1]}
        assert all(len(part.target) == max(1, len(share)) for part, share in zip(parts, shares))


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    train = numbered([9] * 20)
    windows = every_prefix(train, 4)

    def order(**where: int) -> list[int]:
        return [target for batch in epoch_of(train, windows, 8, **where) for target in batch.target.tolist()]

    assert order() == order()
    assert order() != order(epoch=1)
    assert order() != order(seed=1)


@given(lengths_with_targets)
def test_padding_stands_on_the_left_and_no_batch_is_wider_than_its_longest_history(lengths) -> None:
    train = numbered(lengths)
    for batch in epoch_of(train, every_prefix(train, 5), 4):
        real = batch.history >= 0
        assert torch.equal(real, real.sort(dim=1).values)
        assert real.any(dim=0).all()
        assert (batch.history[~real] == -1).all()
        assert {batch.history.dtype, batch.target.dtype, batch.n_targets.dtype} == {torch.int64}


def test_batches_hold_rows_of_like_length() -> None:
    train = numbered([2] * 64 + [9] * 64)
    widths = {batch.history.shape[1] for batch in epoch_of(train, shared_prefixes(train, 8), 64)}
    assert widths == {1, 8}
