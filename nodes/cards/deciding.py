"""What decides about the bits of a run in a process: a rank that differs from the page in it would make another video,
and nobody would see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import comfy.cli_args
import comfyui_version
import torch

from ..host.attention_choice import host_attention

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


def deciding_about_bits(model: ModelPatcher) -> dict[str, str]:
    """By name: versions, attention, how the model computes and is held, and the flags that the host was started with.
    Sets are told in order, since they have none of their own. Choices from a list, as that of previews, which the page
    makes anew for every run, and lists, as those of folders, decide about nothing."""
    flags = {
        f"--{name.replace('_', '-')}": str(sorted(map(str, value)) if isinstance(value, set) else value)
        for name, value in vars(comfy.cli_args.args).items()
        if value is None or isinstance(value, set | str | int | float)
    }
    inner = model.model
    return {
        "PyTorch": torch.__version__,
        "ComfyUI": comfyui_version.__version__,
        "attention": host_attention(),
        "types of the model": f"{inner.get_dtype()}, {inner.manual_cast_dtype}",
        "memory management": type(model).__name__,
        "threads of the processor": str(torch.get_num_threads()),
        **flags,
    }


def check_alike(page: Mapping[str, str], rank: Mapping[str, str], number: int) -> None:
    """RuntimeError, by name, for what differs in the process of a rank."""
    differing = [name for name in {**page, **rank} if page.get(name) != rank.get(name)]
    if differing:
        told = "; ".join(f"{name} is {rank.get(name)} there and {page.get(name)} here" for name in differing)
        raise RuntimeError(
            f"Card {number} computes otherwise than this ComfyUI ({told}), so another video would come out. Restart "
            "ComfyUI, and take out what changes these while it runs."
        )
