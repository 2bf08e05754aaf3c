"""Weights that are stored small, with scales beside them: which layers those are, and as full numbers.

A layer is described as the host's own files do: a tensor LAYER.comfy_quant with JSON in bytes, beside LAYER.weight and
LAYER.weight_scale. Files that say it in their header, or not at all, are brought to that form.
"""

import json
import re
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from .tensor_names import is_weight, named_together, plain_name

HEADER = "_quantization_metadata"
MARK = ".comfy_quant"
_OLD_MARK = "scaled_fp8"  # of a whole file; its scales have another name
_SCALES = (".weight_scale", ".scale_weight")
_BESIDE_A_WEIGHT = (*_SCALES, ".input_scale", ".scale_input", MARK)
_OF_FORMATS = (".weight_scale_2", ".pre_quant_scale")  # beside a weight that is marked
_FORMATS = {
    torch.float8_e4m3fn: "float8_e4m3fn",
    torch.float8_e5m2: "float8_e5m2",
    torch.int8: "int8",
}
_OF_ONE_NUMBER = ("float8_e4m3fn", "float8_e5m2")  # the host's forms in which one number scales a weight
_PACKED = re.compile(
    r".*(\.weight_global_scale|\.input_global_scale|\.qweight|\.qzeros|\.wscales|\.g_idx|\.absmax|\.quant_map"
    r"|\.quant_state\..*|(^|\.)quantized_weight.*)"
)


def belongs_to_a_scale(name: str) -> bool:
    """Whether a plain name is that of something beside a small weight, rather than of a weight."""
    if name == _OLD_MARK:
        return True
    stem = next((name.removesuffix(end) for end in (*_BESIDE_A_WEIGHT, *_OF_FORMATS) if name.endswith(end)), None)
    return stem is not None and is_weight(f"{stem}.weight")


def described_in_header(header: Mapping[str, str], file_name: str) -> dict[str, dict[str, object]]:
    """What the header of a file says of its small layers, under plain names. ValueError for a broken one."""
    if HEADER not in header:
        return {}
    try:
        layers = json.loads(header[HEADER])["layers"]
        return {plain_name(f"{name}.weight").removesuffix(".weight"): dict(each) for name, each in layers.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{file_name} has a header that does not say how its weights are stored ({HEADER} cannot be read: "
            f"{type(error).__name__}). Without it they are numbers of the wrong size. Download the file again."
        ) from error


def refuse_packed(tensors: Mapping[str, Tensor], file_name: str) -> None:
    """ValueError for weights that are packed, several to a byte, in a form that is not the host's own."""
    packed = [name for name in tensors if _PACKED.fullmatch(name)]
    packed += [
        name
        for name, tensor in tensors.items()
        if tensor.dtype == torch.uint8 and is_weight(name) and name.removesuffix(".weight") + MARK not in tensors
    ]
    if packed:
        raise ValueError(
            f"{file_name} holds weights packed in 4 bits ({named_together(packed)}), in a form that ComfyUI does not "
            "compute with. Download the bf16 or fp8 file of the same model; of LongLive-2.0 in NVFP4 that is "
            "model_te.pt."
        )


def marked(
    tensors: dict[str, Tensor], described: Mapping[str, Mapping[str, object]], file_name: str
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors with a mark on every layer that has a scale, and the layers that the host cannot keep small: those
    with a scale a row or a block, unmarked int8, and what is no Linear layer's. ValueError for a small weight without a
    scale among others that have one, and for a scale that fits no way of scaling its weight."""
    marks = {f"{layer}{MARK}": _mark(each) for layer, each in described.items() if f"{layer}.weight" in tensors}
    found = {**tensors, **marks}
    scaled = _scaled_layers(found)
    full: list[str] = []
    for layer in scaled:
        weight, scale, mark = found[f"{layer}.weight"], _scale(found, layer), found.get(f"{layer}{MARK}")
        is_old = _OLD_MARK in found and f"{layer}{_SCALES[0]}" not in found  # which the host marks by itself
        if mark is not None and _format(mark) not in _OF_ONE_NUMBER:
            continue  # in a form of the host's own, which has rules of its own
        if weight.dtype not in _FORMATS or any(f"{layer}{end}" in found for end in _OF_FORMATS):
            raise ValueError(
                f"{file_name} has a scale for {layer}.weight that ComfyUI would not use: the weight is stored in full, "
                "or scaled in a second way besides. Download the bf16 file of the same model."
            )
        if mark is None and not is_old:
            found[f"{layer}{MARK}"] = _mark({"format": _FORMATS[weight.dtype], "full_precision_matrix_mult": True})
        if scale.numel() != 1 or weight.dtype == torch.int8 or weight.ndim != 2:
            full.append(layer)  # the host scales the weights of Linear layers alone
        elif not is_old:
            found[f"{layer}{_SCALES[0]}"] = scale
            found.pop(f"{layer}{_SCALES[1]}", None)
        if _grid(scale, weight) is None:
            raise ValueError(
                f"{file_name} has a scale of shape {tuple(scale.shape)} for {layer}.weight, whose shape is "
                f"{tuple(weight.shape)}, as {_called(scale)}. It is neither one fractional number, nor one a row or "
                "block. Download the bf16 file of the same model."
            )
    _refuse_unscaled(found, set(scaled), file_name)
    return found, tuple(full)


def in_full(tensors: Mapping[str, Tensor], layers: Collection[str]) -> dict[str, Tensor]:
    """The tensors with these layers' weights in bfloat16, their scales multiplied in."""
    gone = {f"{layer}{end}" for layer in layers for end in _BESIDE_A_WEIGHT}
    full = {name: tensor for name, tensor in tensors.items() if name not in gone}
    for layer in layers:
        weight = tensors[f"{layer}.weight"]
        scale = _grid(_scale(tensors, layer), weight)
        assert scale is not None
        for dim in range(scale.ndim):
            if scale.shape[dim] > 1:  # a block
                scale = scale.repeat_interleave(weight.shape[dim] // scale.shape[dim], dim)
        full[f"{layer}.weight"] = (weight.float() * scale).to(torch.bfloat16)
    return full


def formats(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The format that each marked layer is said to be in."""
    return {name.removesuffix(MARK): _format(tensor) for name, tensor in tensors.items() if name.endswith(MARK)}


def _refuse_unscaled(tensors: Mapping[str, Tensor], scaled: Collection[str], file_name: str) -> None:
    alike = {_any_block(layer) for layer in scaled}
    for name, weight in tensors.items():
        layer = name.removesuffix(".weight")
        if layer == name or layer in scaled:
            continue
        is_small = weight.dtype in _FORMATS and (weight.dtype == torch.int8 or _any_block(layer) in alike)
        if is_small or f"{layer}{MARK}" in tensors:
            raise ValueError(
                f"{file_name} has no scale for {name}, which is stored as {_called(weight)}. "
                "Without it the numbers have the wrong size. The conversion was not whole. Download the file again."
            )


def _any_block(layer: str) -> str:
    return re.sub(r"^blocks\.\d+", "blocks", layer)


def _scaled_layers(tensors: Mapping[str, Tensor]) -> list[str]:
    found = (name.removesuffix(end) for name in tensors for end in _SCALES if name.endswith(end))
    return [layer for layer in found if f"{layer}.weight" in tensors]


def _scale(tensors: Mapping[str, Tensor], layer: str) -> Tensor:
    return next(tensors[f"{layer}{end}"] for end in _SCALES if f"{layer}{end}" in tensors)


def _grid(scale: Tensor, weight: Tensor) -> Tensor | None:
    """A scale of one number, or of one a row or block of its weight as a table of these; None for any other."""
    if not scale.is_floating_point():
        return None  # an exponent, such as mxfp8 has
    scale = scale.float()
    if scale.numel() == 1:
        return scale.reshape(())
    if scale.ndim == 1:
        scale = scale[:, None]
    if weight.ndim != 2 or scale.ndim != 2 or not scale.numel():
        return None
    rows, columns = weight.shape[0] // scale.shape[0], weight.shape[1] // scale.shape[1]
    if (rows * scale.shape[0], columns * scale.shape[1]) != tuple(weight.shape):
        return None
    return scale


def _mark(described: Mapping[str, object]) -> Tensor:
    return torch.tensor(list(json.dumps(dict(described)).encode()), dtype=torch.uint8)


def _called(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _format(mark: Tensor) -> str:
    if mark.dtype != torch.uint8:
        return "unreadable"
    try:
        return str(json.loads(bytes(mark.tolist())).get("format"))
    except (ValueError, AttributeError, TypeError, RecursionError):
        return "unreadable"
