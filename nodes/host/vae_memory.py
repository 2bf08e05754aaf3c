"""What a video VAE remembers of the past between two calls, layer by layer."""

from __future__ import annotations

import torch
from torch import Tensor

Memory = list[Tensor | str | None]
"""By layer: the last frames that it saw, or a mark of the host; at first empty."""


def held_bytes(memory: Memory) -> int:
    """Bytes of all that is remembered."""
    return sum(entry.untyped_storage().nbytes() for entry in memory if isinstance(entry, Tensor))


def moved(memory: Memory, device: torch.device) -> Memory:
    """The same on a device, in a list of its own."""
    return [entry.to(device) if isinstance(entry, Tensor) else entry for entry in memory]


def cut_out(memory: Memory, height: int, rows: slice, columns: slice) -> Memory:
    """What lies in a part of a picture, which is `height` pixels high as a whole; each layer has pixels of its size."""

    def part(entry: Tensor) -> Tensor:
        side = height // entry.shape[-2]
        y, x = (slice(each.start // side, each.stop // side) for each in (rows, columns))
        return entry[..., y, x].clone()

    return [part(entry) if isinstance(entry, Tensor) else entry for entry in memory]
