"""The attention call as an argument: one dense call per head group, whatever kernel the host chose."""

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

Attention = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""(q, k, v, heads) -> out, all (batch, tokens, heads * head_dim); the lengths of q and k may differ."""


def dense_attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Plain softmax attention without a mask, in the `Attention` layout."""
    q, k, v = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (q, k, v))  # (batch, heads, tokens, head_dim)
    return scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def attend_all(calls: Sequence[Callable[[], Tensor]]) -> list[Tensor]:
    """Attention of the groups of one layer, which do not depend on each other: one after the other."""
    return [call() for call in calls]
