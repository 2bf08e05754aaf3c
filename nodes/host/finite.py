"""Numbers that are none, found where they come in: later they would be taken for a fault of the model."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def check_finite(pieces: Iterable[Tensor], name: str, remedy: str) -> None:
    """ValueError when one of the tensors that make up an input holds NaN or infinity."""
    if not all(bool(torch.isfinite(piece.float()).all()) for piece in pieces):
        raise ValueError(
            f"{name} holds NaN or infinity. What made it computes in a type that is too narrow, and all that is made "
            f"from it would be spoiled. {remedy}"
        )
