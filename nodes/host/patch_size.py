"""What is to be added to the weights of a MODEL, and whether it changes them: the host leaves out what does not fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias, cast

import comfy.utils
from comfy.weight_adapter import BOFTAdapter, LoHaAdapter, LoKrAdapter, LoRAAdapter, OFTAdapter
from torch import Tensor

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    Patch: TypeAlias = tuple[float, object, float, tuple[int, int, int] | None, Callable[[Tensor], Tensor] | None]
    """Strength, what is added, strength of the weight itself, which part of it, and what is made of what is added."""

_OF_NOTHING = (0,)
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
    if offset is not None:
        return True
    wanted = tuple(comfy.utils.get_attr(model.model, name).shape)  # a weight may be stored otherwise, as GGUF's are
    if isinstance(change, OFTAdapter | BOFTAdapter):
        return _turns_rows(change, wanted[0])
    if shape is None:
        return True
    if isinstance(change, tuple):
        return wanted == shape
    scale = _row_scale(change)
    if scale is not None and not _spreads_over(tuple(scale.shape), wanted):
        return False
    return math.prod(wanted) == math.prod(shape)


def _turns_rows(change: OFTAdapter | BOFTAdapter, rows: int) -> bool:
    blocks, _, limit, _ = cast("tuple[Tensor, object, object, object]", change.weights)
    if isinstance(change, BOFTAdapter) and limit is None:
        return False  # which the host cannot do without
    return math.prod(blocks.shape[-3:-1]) == rows and blocks.shape[-2] == blocks.shape[-1]


def _spreads_over(shape: tuple[int, ...], weight: tuple[int, ...]) -> bool:
    one_each = all(size in (1, whole) for size, whole in zip(reversed(shape), reversed(weight), strict=False))
    return 0 < len(shape) <= len(weight) and one_each


def _row_scale(change: object) -> Tensor | None:
    """What DoRA scales the rows of a weight with."""
    if not isinstance(change, LoRAAdapter | LoHaAdapter | LoKrAdapter):
        return None
    return cast("Tensor | None", change.weights[_ROW_SCALE[type(change)]])


def _change_shape(change: object) -> tuple[int, ...] | None:
    if isinstance(change, LoRAAdapter):
        up, down, _, middle, _, whole = change.weights
        inner = () if middle is None else tuple(middle.shape[2:])
        shape = (*_product_shape(up, down), *inner)
        return shape if whole is None or math.prod(whole) == math.prod(shape) else _OF_NOTHING
    if isinstance(change, LoHaAdapter):
        up, down, _, other_up, other_down, middle, *_ = change.weights
        shape = _product_shape(up, down)
        if middle is not None:
            return None
        return shape if shape == _product_shape(other_up, other_down) else _OF_NOTHING
    if isinstance(change, LoKrAdapter):
        first, second, _, first_up, first_down, second_up, second_down, middle, _ = change.weights
        if middle is not None:
            return None
        sizes = [
            whole.shape if whole is not None else _product_shape(up, down)
            for whole, up, down in ((first, first_up, first_down), (second, second_up, second_down))
        ]
        if _OF_NOTHING in sizes:
            return _OF_NOTHING
        return tuple(one * other for one, other in zip(*sizes, strict=True)) if len(sizes[0]) == len(sizes[1]) else None
    if isinstance(change, tuple) and (len(change) == 1 or change[0] in ("diff", "set")):
        values = cast("tuple[Tensor]", change if len(change) == 1 else change[1])
        return tuple(values[0].shape)
    return None


def _product_shape(up: Tensor | None, down: Tensor | None) -> tuple[int, ...]:
    """The shape of two factors' product; of nothing for what cannot be multiplied."""
    if up is None or down is None or up.ndim < 2 or down.ndim < 2 or not math.prod(up.shape[1:]) == down.shape[0] > 0:
        return _OF_NOTHING
    return (up.shape[0], *down.shape[1:])
