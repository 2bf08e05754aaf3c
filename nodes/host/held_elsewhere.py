"""Memory that other processes of ours hold on a device, as a model that the host can unload."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import CallbacksMP

if TYPE_CHECKING:
    from torch import Tensor


class HeldElsewhere:
    """Stands among the host's loaded models, without weights of its own, once it was shown. `let_go` is called when
    the host unloads it: when it needs memory for another model, or is told to unload all."""

    def __init__(self, let_go: Callable[[], None]) -> None:
        here, beside = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
        self._patcher = ModelPatcher(ModelOnOtherCards(), here, beside)

        def detached(patcher: ModelPatcher, is_unloaded: bool) -> None:
            if is_unloaded:
                let_go()

        self._patcher.add_callback(CallbacksMP.ON_DETACH, detached)

    def show(self) -> None:
        """From now on the host knows of it."""
        comfy.model_management.load_models_gpu([self._patcher])


class ModelOnOtherCards(torch.nn.Module):
    def forward(self) -> Tensor:
        raise NotImplementedError
