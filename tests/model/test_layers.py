import torch

from redraft.model.layers import Attention, DecoderBlock


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
