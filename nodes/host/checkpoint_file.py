"""From a checkpoint file to the host's MODEL, through the host's own loader."""

from __future__ import annotations

import json
import re
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING

import comfy.sd
import comfy.utils
import torch
from safetensors import SafetensorError

from ...headforcing_core.checkpoint.wan_weights import Weights, unwrap
from .backbone import check_backbone

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

_DTYPES = {
    "default": {},
    "fp8_e4m3fn": {"dtype": torch.float8_e4m3fn},
    "fp8_e4m3fn_fast": {"dtype": torch.float8_e4m3fn, "fp8_optimizations": True},
    "fp8_e5m2": {"dtype": torch.float8_e5m2},
}
WEIGHT_DTYPES = tuple(_DTYPES)
_TERMINAL_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def read_checkpoint(path: str) -> Weights:
    """Read and recognise a checkpoint file, tensors only. ValueError, with the reason, for what cannot be used."""
    name = Path(path).name
    if not Path(path).stat().st_size:
        raise ValueError(f"{name} is empty (0 bytes). The download did not finish. Download the file again.")
    if _is_text(path):
        raise ValueError(
            f"{name} is a text file, not a checkpoint. It is what stands in for a large file until that is fetched (a "
            "Git LFS pointer), or a saved web page. Download the file itself."
        )
    try:
        raw = comfy.utils.load_torch_file(path, safe_load=True)
    except UnpicklingError as error:
        raise ValueError(
            f"{name} cannot be read as tensors alone. Files that need code to load are "
            "never opened. Use the authors' own file, or one converted to safetensors."
        ) from error
    except (MemoryError, PermissionError):
        raise  # nothing is wrong with the file
    except (
        SafetensorError,
        RuntimeError,
        ValueError,
        EOFError,
        LookupError,
        TypeError,
        AttributeError,
        OSError,
    ) as error:
        raise ValueError(
            f"{name} cannot be read ({_first_sentence(error)}). The file is cut short, damaged or of another "
            "kind. Download it again."
        ) from error
    return unwrap(raw, name)


def load_ar_patcher(path: str, weight_dtype: str, disable_dynamic: bool = False) -> ModelPatcher:
    """A checkpoint file as the host's MODEL. Also what the host calls when it needs the model anew."""
    return patcher_from(read_checkpoint(path), path, weight_dtype, disable_dynamic)


def patcher_from(weights: Weights, path: str, weight_dtype: str, disable_dynamic: bool = False) -> ModelPatcher:
    """Recognised weights as the host's MODEL of its causal class, which has shift 5. The tensors are handed over."""
    # the host reads neither of the two from the weights
    described = {"config": json.dumps({"transformer": {"causal_ar": True, "text_dim": weights.text_dim}})}
    patcher = comfy.sd.load_diffusion_model_state_dict(
        weights.tensors, model_options=dict(_DTYPES[weight_dtype]), metadata=described, disable_dynamic=disable_dynamic
    )
    if patcher is None:
        raise ValueError(
            f"{Path(path).name} was not recognised by ComfyUI. Its tensors have Wan names but another "
            "shape. Load a Wan 2.1 text-to-video checkpoint."
        )
    patcher.cached_patcher_init = (load_ar_patcher, (path, weight_dtype))
    check_backbone(patcher)
    return patcher


def _is_text(path: str) -> bool:
    with open(path, "rb") as file:
        beginning = file.read(256)
    return beginning.isascii() and all(byte >= 32 or byte in b"\t\r\n" for byte in beginning)


def _first_sentence(error: BaseException) -> str:
    plain = _TERMINAL_COLOUR.sub("", str(error)).strip()
    lines = plain.splitlines() or [type(error).__name__]
    return lines[0].split(". ")[0].rstrip(" .")
