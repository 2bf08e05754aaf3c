"""What a pass of the host's model is told beside the noisy latent: a timestep for each frame, channels beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import cast

import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...headforcing_core.rollout.told import NOTHING, Told

_TELLING = "head_forcing_telling"


@contextmanager
def telling(options: dict[str, object], told: Told) -> Iterator[None]:
    """While this lasts, passes under these transformer options are told. A wrapper closest to the model does it, after
    whatever other nodes wrap around; where nothing is told there is none, so that nothing is compiled anew for it."""
    if told is NOTHING:
        yield
        return
    before = cast("Mapping[str, Mapping[str, list[Callable[..., Tensor]]]]", options.get("wrappers", {}))
    around = before.get(WrappersMP.DIFFUSION_MODEL, {})
    options["wrappers"] = {**before, WrappersMP.DIFFUSION_MODEL: {**around, _TELLING: [_teller(told)]}}
    try:
        yield
    finally:
        options["wrappers"] = before


def _teller(told: Told) -> Callable[..., Tensor]:
    timesteps, concat = told.timesteps, told.concat

    def tell(executor: Callable[..., Tensor], x: Tensor, timestep: Tensor, *args: object, **kwargs: object) -> Tensor:
        """Both for every part of a batch; `x` has come with all channels, of which the host filled the last."""
        if timesteps is not None:
            timestep = timesteps.to(timestep).expand(x.shape[0], -1)
        if concat is not None:
            beside = concat.to(x).expand(x.shape[0], -1, -1, -1, -1)
            x = torch.cat([x[:, : -beside.shape[1]], beside], dim=1)
        return executor(x, timestep, *args, **kwargs)

    return tell
