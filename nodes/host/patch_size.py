"""What is to be added to the weights of a MODEL, and whether it changes them: the host leaves out what does not fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias, cast

import comfy.utils
from comfy.weight_adapter import LoHaAdapter, LoKrAdapter, LoRAAdapter
from torch import Tensor

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    Patch: TypeAlias = tuple[float, object, float, tuple[int, int, int] | None, Callable[[Tensor], Tensor] | None]
    """Strength, what is added, strength of the weight itself, which part of it, and what is made of what is added."""

_BYPASS = "bypass_lora"
_ROW_SCALE = {LoRAAdapter: 4, LoHaAdapter: 7, LoKrAdapter: 8}  # its place among an adapter's weights


def patches_of(model: ModelPatcher) -> dict[str, list[Patch]]:
    """All that is to be added to each weight, be it to the weight itself or, as the host's bypass does, beside it."""
    patches = {name: list(each) for name, each in model.patches.items()}
    for injection in model.injections.get(_BYPASS, ()):
        for cell in getattr(injection.inject, "__closure__", None) or ():
            beside = getattr(cell.cell_contents, "adapters", {})  # by module: what is added, and its strength
            for module, (change, strength) in beside.items():
                patches.setdefault(f"{module}.weight", []).append((strength, change, 1.0, None, None))
    return patches


def changes_weight(patch: Patch) -> bool:
    """Whether anything is left of a weight's change at its strength."""
    strength, _, strength_of_weight, *_ = patch
    return strength != 0 or strength_of_weight != 1


def fits_weight(model: ModelPatcher, name: str, patch: Patch) -> bool:
    """Whether the host can add what is to be added, by its size and place; True where sizes alone do not tell."""
    _, change, _, offset, _ = patch
    shape = _change_shape(change)
    module_name = name.rpartition(".")[0]
    if any("." in inner for inner, _ in comfy.utils.get_attr(model.model, module_name).named_parameters()):
        return False  # of a module that has others in it, which the host passes over
    if offset is not None or shape is None:
        return True
    wanted = tuple(comfy.utils.get_attr(model.model, name).shape)  # a weight may be stored otherwise, as GGUF's are
    if isinstance(change, tuple):
        return wanted == shape
    scale = _row_scale(change)
    if scale is not None and scale.ndim == 1 and scale.numel() != wanted[-1]:
        return False
    return math.prod(wanted) == math.prod(shape)


def _row_scale(change: object) -> Tensor | None:
    """What DoRA scales the rows of a weight with."""
    if not isinstance(change, LoRAAdapter | LoHaAdapter | LoKrAdapter):
        return None
    return cast("Tensor | None", change.weights[_ROW_SCALE[type(change)]])


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
