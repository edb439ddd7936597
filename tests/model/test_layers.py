import pytest
import torch

from redraft.model.layers import Attention, DecoderBlock, Dropout


@torch.no_grad()
def test_attention_equals_the_textbook() -> None:
    torch.manual_seed(0)
    attention, x, source = Attention(8, 2), torch.randn(3, 4, 8), torch.randn(3, 5, 8)
    bias = torch.randn(3, 2, 4, 5)
    keys, values = attention.key_value(source).chunk(2, dim=-1)
    queries = attention.query(x)
    heads = []
    for head, part in enumerate((slice(0, 4), slice(4, 8))):
        scores = queries[..., part] @ keys[..., part].transpose(1, 2) / 4**0.5 + bias[:, head]
        heads.append(scores.softmax(-1) @ values[..., part])
    expected = attention.out(torch.cat(heads, dim=-1))
    torch.testing.assert_close(attention(x, attention.project(source), bias), expected)


@torch.no_grad()
def test_a_decoder_block_fed_in_parts_equals_all_at_once() -> None:
    torch.manual_seed(0)
    block = DecoderBlock(8, 2, 16, 0.0).eval()
    x = torch.randn(2, 3, 4, 8)
    memory, cross_bias = torch.randn(2, 5, 8), torch.randn(2, 2, 1, 5)
    whole = block(x, memory, torch.full((4, 4), -1e9).triu(1), cross_bias)
    recall, past, parts = block.cross_attention.recall(memory), [], []
    for place in range(4):
        part, own = block.step(x[:, :, place : place + 1], past, recall, cross_bias.flatten(1)[:, None])
        past.append(own)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, dim=2), whole)


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
