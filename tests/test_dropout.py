import pytest
import torch

from redraft.dropout import Dropout


@pytest.mark.parametrize("shape", [(64, 33, 7), (5,), (0, 3)])
def test_dropout_keeps_the_mean_and_its_mask_in_the_gradient(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer, x = Dropout(0.2), torch.ones(shape, requires_grad=True)
    out = layer(x)
    out.sum().backward()
    assert torch.equal(out.detach(), x.grad)
    assert ((out == 0) | ((out - 256 / 205).abs() < 1e-6)).all()
    if out.numel() > 1000:
        assert float((out == 0).float().mean()) == pytest.approx(51 / 256, abs=0.01)
        by_place = (out == 0).flatten()[: out.numel() // 8 * 8].view(-1, 8).float().mean(0)
        assert by_place.sub(51 / 256).abs().max() < 0.03, "all eight bytes of a draw decide alike"


def test_dropout_follows_the_seed_and_leaves_evaluation_alone() -> None:
    layer, x = Dropout(0.5), torch.randn(100, 3)
    masks = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        masks.append(layer(x) != 0)
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert layer.eval()(x) is x
    assert Dropout(0.0)(x) is x
