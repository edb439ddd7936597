import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from redraft.train.losses import next_item_nll

small = st.integers(1, 3)


@given(small, small, small, st.integers(2, 6), st.floats(0, 0.5), st.integers(0, 99))
def test_the_loss_is_equation_1_written_out(users, rows, levels, size, smoothing: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(users, rows, levels, size, generator=generator)
    codes = torch.randint(size, (users, rows, levels), generator=generator)
    loss = next_item_nll(logits, codes, smoothing)
    assert loss.shape == (users, rows)
    for u in range(users):
        for r in range(rows):
            expected = 0.0
            for level in range(levels):
                values = [math.exp(x) for x in logits[u, r, level].tolist()]
                for code, value in enumerate(values):
                    share = smoothing / size + (1 - smoothing) * (code == int(codes[u, r, level]))
                    expected -= share * math.log(value / sum(values))
            assert float(loss[u, r]) == pytest.approx(expected, rel=1e-4)


def test_the_loss_is_summed_in_float32() -> None:
    logits = torch.randn(2, 1, 3, 50, generator=torch.Generator().manual_seed(0)).bfloat16()
    codes = torch.zeros((2, 1, 3), dtype=torch.int64)
    torch.testing.assert_close(next_item_nll(logits, codes), next_item_nll(logits.float(), codes))
