"""ComfyUI's dynamic VRAM, which its main.py switches on by default on NVIDIA cards: weights are paged in and out."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.card.carry import unpack

if TYPE_CHECKING:
    import torch

DYNAMIC = "--dynamic-vram"


def start_paging() -> None:
    """What comes before PyTorch is imported, if the command line asks for it."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--carry", type=Path)
    early.add_argument(DYNAMIC, action="store_true")
    given = early.parse_known_args()[0]
    if not given.dynamic_vram:
        return
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "backend:cudaMallocAsync")
    if given.carry is not None:
        unpack(given.carry)
    import comfy_aimdo.control

    comfy_aimdo.control.init()


def page_weights(device: torch.device) -> None:
    """What comes after it. RuntimeError when weights cannot be paged here."""
    import comfy.memory_management
    import comfy.model_patcher
    import comfy_aimdo.control

    if device.type != "cuda" or not comfy_aimdo.control.init_devices([(device.index, 0)]):
        raise RuntimeError(
            f"comfy-aimdo does not start on {device}. Weights cannot be paged without it. Run without {DYNAMIC}."
        )
    comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
    comfy.memory_management.aimdo_enabled = True
