"""Which attention the host computes with: its own, another node's, or the one that a checkpoint asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import comfy.ldm.modules.attention as kernels

if TYPE_CHECKING:
    from comfy.ldm.wan.model import WanSelfAttention

_OVERRIDE, _PREFERRED = "optimized_attention_override", "preferred_attention"
EXACT = frozenset(f"attention_{name}" for name in ("basic", "sub_quad", "split", "pytorch", "xformers", "flash"))
"""The host's own, which compute what the formula says but for rounding."""


def preferred_by(self_attn: WanSelfAttention) -> dict[str, Any]:
    """What the host's attention is to be given of the checkpoint's wish, as the host's own layers give it. Hosts that
    know no such wish would hand it on to other packs, which do not know it either."""
    known = hasattr(kernels, "ComfyAttention")
    return {_PREFERRED: getattr(self_attn, "comfy_attention", None)} if known else {}


def attention_name(options: Mapping[str, object], preferred: Mapping[str, object]) -> str:
    """What computes under these transformer_options, by the name of its function; of another node's override also what
    that calls, as far as it can be seen."""
    override = options.get(_OVERRIDE)
    if override is None:
        wanted = getattr(preferred.get(_PREFERRED), "function", None)
        return _name(wanted or kernels.optimized_attention)
    inside = sorted({_name(each) for each in _closed_over(override)})
    return f"override {_name(override)}" + (f" ({', '.join(inside)})" if inside else "")


def _name(function: object) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _closed_over(function: object) -> list[Callable[..., object]]:
    cells = getattr(function, "__closure__", None) or ()
    found = (getattr(cell, "cell_contents", None) for cell in cells)
    return [each for each in found if callable(each) and hasattr(each, "__name__")]
