"""What is to be added to a weight of a MODEL: whether it changes the weight, and whether it has its size."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import comfy.utils
from comfy.weight_adapter import LoHaAdapter, LoKrAdapter, LoRAAdapter
from torch import Tensor

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    Patch: TypeAlias = tuple[float, object, float, tuple[int, int, int] | None, Callable[[Tensor], Tensor] | None]
    """Strength, what is added, strength of the weight itself, which part of it, and what is made of what is added."""


def changes_weight(patch: Patch) -> bool:
    """Whether anything is left of a weight's change at its strength."""
    strength, _, strength_of_weight, *_ = patch
    return strength != 0 or strength_of_weight != 1


def fits_weight(model: ModelPatcher, name: str, patch: Patch) -> bool:
    """Whether what is to be added has the size of its weight, as the host takes it; True where that cannot be told from
    sizes alone."""
    _, change, _, offset, _ = patch
    shape = _change_shape(change)
    if offset is not None or shape is None:
        return True
    weight = comfy.utils.get_attr(model.model, name)
    return tuple(weight.shape) == shape if isinstance(change, tuple) else weight.numel() == math.prod(shape)


def _change_shape(change: object) -> tuple[int, ...] | None:
    if isinstance(change, LoRAAdapter | LoHaAdapter):
        up, down, *_, last = change.weights
        reshaped = last is not None and isinstance(change, LoRAAdapter)
        return None if reshaped else (up.shape[0], *down.shape[1:])
    if isinstance(change, LoKrAdapter):
        first, second, _, first_up, first_down, second_up, second_down, *_ = change.weights
        sizes = [
            whole.shape if whole is not None else (up.shape[0], down.shape[1])
            for whole, up, down in ((first, first_up, first_down), (second, second_up, second_down))
        ]
        return tuple(one * other for one, other in zip(*sizes, strict=True)) if len(sizes[0]) == len(sizes[1]) else None
    if isinstance(change, tuple) and len(change) == 2 and change[0] in ("diff", "set"):
        return tuple(change[1][0].shape)
    return None
