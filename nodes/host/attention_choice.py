"""Which attention the host computes with: its own, another node's, or the one that a checkpoint asks for.

The host sets one order of PyTorch's kernels for every card, FlashAttention first. On Hopper and data-centre Blackwell
that is FlashAttention 2, which knows nothing of them; PyTorch by itself takes cuDNN there. So does this pack, where it
is the host's plain attention that would compute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from inspect import signature
from typing import TYPE_CHECKING, Any

import comfy.ldm.modules.attention as kernels
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...headforcing_core.kv_memory.attention import dense_attention

if TYPE_CHECKING:
    from comfy.ldm.wan.model import WanSelfAttention

_OVERRIDE, _PREFERRED = "optimized_attention_override", "preferred_attention"
_GENERATIONS = (9, 10)  # compute capabilities: Hopper, Blackwell in data centres
_UNSAFE_CUDNN = 91500  # the last that is wrong where a length is no multiple of 128, as PyTorch's own choice has it
_ORDER = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]
TAKES_ORDER = "set_priority" in signature(sdpa_kernel).parameters
"""Since PyTorch 2.6. An older one comes with an unsafe cuDNN, but a newer cuDNN may have been put in its place."""
CUDNN_FIRST = "attention_pytorch, cuDNN first"
EXACT = frozenset(
    (*(f"attention_{name}" for name in ("basic", "sub_quad", "split", "pytorch", "xformers", "flash")), CUDNN_FIRST)
)
"""The host's own, which compute what the formula says but for rounding."""


@dataclass(frozen=True)
class Card:
    """What of a device says which of PyTorch's attention kernels is the fastest there: the first number of its compute
    capability, or 0; its cuDNN, or 0; what was activated in place of FlashAttention 2, if anything; and whether PyTorch
    can be told an order of kernels."""

    generation: int
    cudnn: int
    other_flash: str | None
    takes_order: bool


def cudnn_is_first(card: Card, dtype: torch.dtype) -> bool:
    """Whether cuDNN's attention is the one to ask first, as PyTorch itself does."""
    narrow = dtype in (torch.float16, torch.bfloat16)
    safe = card.cudnn > _UNSAFE_CUDNN
    is_free = card.takes_order and card.other_flash is None
    return narrow and card.generation in _GENERATIONS and safe and is_free


def preferred_by(self_attn: WanSelfAttention) -> dict[str, Any]:
    """What the host's attention is to be given of the checkpoint's wish, as the host's own layers give it. Hosts that
    know no such wish would hand it on to other packs, which do not know it either."""
    known = hasattr(kernels, "ComfyAttention")
    return {_PREFERRED: getattr(self_attn, "comfy_attention", None)} if known else {}


def attention_for(
    q: Tensor, options: Mapping[str, object], preferred: Mapping[str, object]
) -> tuple[str, Callable[..., Tensor] | None]:
    """What computes under these transformer_options, by the name of its function - of another node's override also what
    that calls, as far as it can be seen - and the function to call in place of the host's, if any."""
    override = options.get(_OVERRIDE)
    if override is None:
        chosen = getattr(preferred.get(_PREFERRED), "function", None) or kernels.optimized_attention
        if chosen is kernels.attention_pytorch and q.is_cuda and _cudnn_is_first(q.device, q.dtype, _other_flash()):
            return CUDNN_FIRST, attention_cudnn_first
        return _name(chosen), None
    inside = sorted({_name(each) for each in _closed_over(override)})
    return f"override {_name(override)}" + (f" ({', '.join(inside)})" if inside else ""), None


def host_attention() -> str:
    """The name of what the host computes attention with, where nothing else was chosen."""
    return _name(kernels.optimized_attention)


def attention_cudnn_first(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """The host's plain attention in PyTorch's own order of kernels: what cuDNN cannot do, the next one does."""
    with sdpa_kernel(_ORDER, set_priority=True):
        return dense_attention(q, k, v, heads)


def _other_flash() -> str | None:
    return getattr(torch.nn.attention, "current_flash_attention_impl", lambda: None)()  # since PyTorch 2.11


@cache
def _cudnn_is_first(device: torch.device, dtype: torch.dtype, other_flash: str | None) -> bool:
    generation = 0 if torch.version.hip else torch.cuda.get_device_capability(device)[0]
    card = Card(generation, torch.backends.cudnn.version() or 0, other_flash, TAKES_ORDER)
    return cudnn_is_first(card, dtype)


def _name(function: object) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _closed_over(function: object) -> list[Callable[..., object]]:
    cells = getattr(function, "__closure__", None) or ()
    found = (getattr(cell, "cell_contents", None) for cell in cells)
    return [each for each in found if callable(each) and hasattr(each, "__name__")]
