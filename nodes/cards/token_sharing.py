"""The host's Wan on one of several ranks: each computes its own tokens of a chunk, and they meet in attention."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from ..host.backbone import HostBackbone, run_in
from ..host.model import wan_of

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from ...headforcing_core.cards.sharded_memory import ShardedMemory

_FORWARD = "diffusion_model.blocks.{}.forward"
_DIMENSIONS = 4  # of `e`; a host of one level for all frames has one less


class TokenSharing(HostBackbone):
    """A HostBackbone that reads a ShardedMemory which shares out tokens: the first block takes this rank's, the last
    one gives all back."""

    def __init__(self, model: ModelPatcher, seed: int) -> None:
        super().__init__(model, seed)
        blocks = list(wan_of(model).blocks)
        for number, block in enumerate(blocks):
            self.wrap(_FORWARD.format(number), block, partial(_shared, number == 0, block is blocks[-1]))


def _shared(is_first: bool, is_last: bool, original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def forward(
        x: Tensor,
        e: Tensor,
        freqs: Tensor,
        *args: object,
        transformer_options: dict[str, object] | None = None,
        **kwargs: object,
    ) -> Tensor:
        options = transformer_options or {}
        run = run_in(options)
        if run is None or run.memory is None:
            return original(x, e, freqs, *args, transformer_options=options, **kwargs)
        memory = cast("ShardedMemory", run.memory)
        e = _of_own_tokens(memory, e, freqs.shape[1])
        x = memory.own_tokens(x) if is_first else x
        x = original(x, e, freqs, *args, transformer_options=options, **kwargs)
        return memory.all_tokens(x) if is_last else x

    return forward


def _of_own_tokens(memory: ShardedMemory, e: Tensor, tokens: int) -> Tensor:
    """What the noise level makes of each token of this rank, where the frames of a pass have levels of their own: the
    host tells frames by how many tokens there are, of which it has a part here. `e` (batch, frames, 6, width)."""
    frames = e.shape[1]
    if e.ndim != _DIMENSIONS or frames == 1:
        return e
    frame_of_token = torch.arange(frames, device=e.device).repeat_interleave(tokens // frames)
    return e.index_select(1, memory.own_tokens(frame_of_token, dim=0))
