"""Rotary embedding along time alone. Wan turns the first pairs of a head by time, the rest by height and width.

Angles are float64, cosines and sines float32 (method.md section 5). The multiplication itself is an argument
(`Rotate`), so that a host can give its own kernel; `rotate` is the plain form.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

THETA = 10000.0

Rotate = Callable[[Tensor, Tensor], Tensor]


def temporal_pairs(head_dim: int) -> int:
    """Adjacent pairs of one head that time turns: 22 of the 64 of a head of 128."""
    return head_dim // 2 - 2 * (head_dim // 6)


def temporal_rotation(positions: Sequence[float], head_dim: int) -> Tensor:
    """Rotation matrices of the temporal pairs of a head: float32 (positions, pairs, 2, 2), on the CPU."""
    pairs = temporal_pairs(head_dim)
    exponents = torch.linspace(0, (2 * pairs - 2) / (2 * pairs), steps=pairs, dtype=torch.float64)
    at = torch.tensor(positions, dtype=torch.float32).to(torch.float64)
    angles = at[:, None] * (1.0 / THETA**exponents)
    cos, sin = angles.cos(), angles.sin()
    return torch.stack((cos, -sin, sin, cos), dim=-1).unflatten(-1, (2, 2)).to(torch.float32)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn adjacent pairs of the last dimension: x (..., 2 * pairs), rotation (..., pairs, 2, 2), broadcast."""
    pairs = x.to(rotation.dtype).unflatten(-1, (-1, 1, 2))
    turned = rotation[..., 0] * pairs[..., 0] + rotation[..., 1] * pairs[..., 1]
    return turned.flatten(-2).to(x.dtype)


def rotate_in_place(x: Tensor, rotation: Tensor) -> None:
    """The same where it lies, in a third of the traffic. x: float32, contiguous."""
    turns = torch.complex(rotation[..., 0, 0], rotation[..., 1, 0])
    torch.view_as_complex(x.unflatten(-1, (-1, 2))).mul_(turns)
