"""From a checkpoint file to the host's MODEL, through the host's own loader."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING

import comfy.ldm.modules.attention
import comfy.model_management
import comfy.sd
import comfy.utils
import torch
from comfy.quant_ops import QUANT_ALGOS
from safetensors import SafetensorError

from ...headforcing_core.checkpoint.quantization import HEADER, formats, in_full
from ...headforcing_core.checkpoint.refusals import WANTED, refuse_expert
from ...headforcing_core.checkpoint.tensor_names import ATTENTION_TAG
from ...headforcing_core.checkpoint.wan_weights import Weights, unwrap
from ...headforcing_core.geometry import WAN21
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
    refuse_expert(Path(path).name, Path(path).parent.name)
    raw, header = read_tensors(path)
    weights = unwrap(raw, Path(path).name, header)
    refuse_unusual({**weights.tensors, **weights.left_out}, Path(path).name)
    return weights


def read_tensors(path: str) -> tuple[object, Mapping[str, str]]:
    """What a file of tensors holds, and what stands at its head. ValueError, with the reason, for a file that cannot be
    read."""
    name = Path(path).name
    if not Path(path).stat().st_size:
        raise ValueError(f"{name} is empty (0 bytes). The download did not finish. Download the file again.")
    if _is_text(path):
        raise ValueError(
            f"{name} is a text file, not a checkpoint. It is the list of a model's parts (an index), what stands in "
            "for a large file until that is fetched (a Git LFS pointer), or a saved web page. Download the file itself."
        )
    try:
        raw, header = comfy.utils.load_torch_file(path, safe_load=True, return_metadata=True)
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
    return raw, header or {}


def refuse_unusual(tensors: Mapping[str, torch.Tensor], file_name: str) -> None:
    """ValueError for tensors whose numbers do not stand in a row in the file."""
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
            raise ValueError(
                f"{file_name} holds {name} as a tensor without numbers of its own, or in a form that ComfyUI does not "
                "load (sparse, or of torch's old quantization). Download a safetensors file of the same."
            )


def load_ar_patcher(path: str, weight_dtype: str, disable_dynamic: bool = False) -> ModelPatcher:
    """A checkpoint file as the host's MODEL. Also what the host calls when it needs the model anew."""
    return patcher_from(read_checkpoint(path), path, weight_dtype, disable_dynamic)


def patcher_from(weights: Weights, path: str, weight_dtype: str, disable_dynamic: bool = False) -> ModelPatcher:
    """Recognised weights as the host's MODEL, of its causal class where it has one of these channels. The tensors are
    handed over."""
    name = Path(path).name
    _check_formats(weights, name)
    tensors = in_full(weights.tensors, weights.full_layers)
    if hasattr(comfy.ldm.modules.attention, "ComfyAttention"):  # of hosts that read such tags
        tensors |= {tag: tensor for tag, tensor in weights.left_out.items() if tag.endswith(ATTENTION_TAG)}
    try:
        patcher = comfy.sd.load_diffusion_model_state_dict(
            tensors,
            model_options=dict(_DTYPES[weight_dtype]),
            metadata=_described(weights),
            disable_dynamic=disable_dynamic,
        )
    except comfy.model_management.OOM_EXCEPTION:
        raise  # nothing is wrong with the file
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{name} cannot be loaded by ComfyUI ({' '.join(str(error).split())[:300]}). Tensors are damaged or of "
            "another architecture. Download the file again, or another checkpoint."
        ) from error
    if patcher is None:
        raise ValueError(
            f"{name} was not recognised by ComfyUI. Its tensors have Wan names but another shape. {WANTED}"
        )
    patcher.cached_patcher_init = (load_ar_patcher, (path, weight_dtype))
    check_backbone(patcher)
    return patcher


LOADERS = {each.__name__: each for each in (load_ar_patcher, comfy.sd.load_diffusion_model)}
"""What loads a MODEL that runs can be made of, this pack's own and the host's, by name."""


def _described(weights: Weights) -> dict[str, str]:
    """The head of the file, with the two things that the host does not read from the weights for a config: it builds
    the model from whatever stands there."""
    described = {name: text for name, text in weights.header.items() if name != HEADER}  # marked on the layers by now
    told: dict[str, object] = {"text_dim": weights.text_dim}
    if weights.channels.made == WAN21.channels:  # the host has a causal class of no other
        told["causal_ar"] = True
    return {**described, "config": json.dumps({"transformer": told})}


def _check_formats(weights: Weights, name: str) -> None:
    for layer, form in formats(weights.tensors).items():
        if form not in QUANT_ALGOS and layer not in weights.full_layers:
            raise ValueError(
                f"{name} holds {layer}.weight as {form[:40]!r}, which this ComfyUI does not compute with; it knows "
                f"{', '.join(QUANT_ALGOS)}. Update ComfyUI, or download the bf16 file of the same model."
            )


def _is_text(path: str) -> bool:
    with open(path, "rb") as file:
        beginning = file.read(256)
    return beginning.isascii() and all(byte >= 32 or byte in b"\t\r\n" for byte in beginning)


def _first_sentence(error: BaseException) -> str:
    plain = _TERMINAL_COLOUR.sub("", str(error)).strip()
    lines = plain.splitlines() or [type(error).__name__]
    return lines[0].split(". ")[0].rstrip(" .")
