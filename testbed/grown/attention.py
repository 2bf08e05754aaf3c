"""Attention of a whole window in one masked call: what `network.window_attention` does group by group."""

from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ..network import Attention, turned


@cache
def readable(chunks: int, tokens: int, device: torch.device) -> Tensor:
    """Which token reads which, (all, all): clean chunks the clean ones up to themselves, noisy ones the clean ones
    before and themselves."""
    group = torch.arange(2 * chunks, device=device).repeat_interleave(tokens)
    chunk, noisy = group % chunks, group >= chunks
    earlier = ~noisy & (chunk < chunk[:, None])
    return earlier | (group == group[:, None])


def masked_attention(turn: Tensor, part: Attention, x: Tensor) -> Tensor:
    """Like `window_attention`: x (batch, groups, tokens, width), turn (chunks, tokens, 64, 2)."""
    both = torch.view_as_complex(turn.repeat(2, 1, 1, 1)[:, None])
    q, k, v = turned(part.query(x), both), turned(part.key(x), both), part.value(x)
    q, k, v = (each.transpose(1, 2).flatten(2, 3).to(v.dtype) for each in (q, k, v))  # (batch, heads, all, head_dim)
    mask = readable(len(turn), x.shape[2], x.device)
    out = scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out.unflatten(2, (x.shape[1], -1)).movedim(1, 3).flatten(3)
