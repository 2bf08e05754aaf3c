"""The memory of the device, and what is said when it runs out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, cast

import comfy.cli_args
import comfy.model_management
import torch

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


Result = TypeVar("Result")
_LEFT_BYTES = 2**30


def explaining_out_of_memory(work: Callable[[], Result], explanation: Callable[[], str]) -> Result:
    """What the work gives. When the memory runs out, that is said in our words, in the host's kind of error, on which
    it unloads its models; `explanation` is asked when all that the work held is gone."""
    try:
        return work()
    except Exception as error:
        comfy.model_management.raise_non_oom(error)
    # Only now is the error gone, and with it every tensor of the failed pass. A context manager could not do this.
    comfy.model_management.soft_empty_cache()
    raise comfy.model_management.OOM_EXCEPTION(explanation())


def pins_memory() -> bool:
    """Whether main memory may be pinned, which ComfyUI can be told not to do."""
    return not comfy.cli_args.args.disable_pinned_memory


def free_bytes(model: ModelPatcher | None = None) -> int:
    """Memory that is free on the device that the model computes on; without one, on which the host puts models."""
    return cast("int", comfy.model_management.get_free_memory(model.load_device if model else None))


def free_main_memory() -> int:
    """Main memory that can be taken for good: what the host and other programs need meanwhile is left."""
    free = cast("int", comfy.model_management.get_free_memory(torch.device("cpu")))
    return max(0, free - _LEFT_BYTES)


def total_bytes(model: ModelPatcher | None = None) -> int:
    """All memory of the device that the model computes on; without one, on which the host puts models."""
    return cast("int", comfy.model_management.get_total_memory(model.load_device if model else None))
