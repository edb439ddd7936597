from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from redraft.data.sequences import open_interactions, save_interactions
from redraft.records import Interactions

histories = st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=5), min_size=1, max_size=8).filter(any)


@given(histories=histories, with_times=st.booleans())
def test_round_trip(tmp_path_factory, histories: list[list[int]], with_times: bool):
    events = Interactions.from_lists(histories)
    if with_times:
        events = Interactions(events.items, events.offsets, np.arange(len(events.items), dtype=np.int64) * 2**33)
    folder: Path = tmp_path_factory.mktemp("csr")
    save_interactions(events, folder)
    opened = open_interactions(folder)
    assert isinstance(opened.items, np.memmap)
    assert (opened.items.dtype, opened.offsets.dtype) == (np.int32, np.int64)
    np.testing.assert_array_equal(opened.items, events.items)
    np.testing.assert_array_equal(opened.offsets, events.offsets)
    if with_times:
        np.testing.assert_array_equal(opened.times, events.times)
    else:
        assert opened.times is None
