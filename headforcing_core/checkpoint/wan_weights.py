"""The model in a checkpoint file: its keys unwrapped, and refused what cannot be used (layouts as the authors publish
them)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from ..families.table import FAMILIES, Channels, usual_family
from ..geometry import PATCH
from . import quantization
from .file_keys import Found, Held, below_keys, holds_tensors, keys_in_words, plainly_named
from .fingerprint import weights_fingerprints
from .refusals import WANTED, refuse_channels, refuse_others, refuse_part
from .tensor_names import (
    CAMERA,
    beside_a_model,
    block_of,
    grouped,
    is_known_key,
    is_weight,
    named_together,
    needed_names,
)

HEAD_DIM = 128

_TOP_LEVEL_KEYS = ("generator_ema", "generator", "model", "state_dict")
_EMA_LAST = ("generator", "generator_ema", "model", "state_dict")
_OF_TRAINING = re.compile(r"(.*\.)?model\.(_\w+\.)*patch_embedding\.weight")  # a host unwraps a key that stands alone
_LAYERS_OF_WIDTH = {family.size.heads * HEAD_DIM: family.size.layers for family in FAMILIES.values()}


@dataclass(frozen=True)
class Weights:
    """Unwrapped tensors under plain Wan names, how they were found, and sentences on what else is in the file.

    `full_layers` are stored small in a way that the host does not compute with (`quantization.in_full`); `left_out` are
    tensors that are no weights of the model; `header` is what stood at the head of the file; `is_of_training` says that
    it has keys or names that AR training writes, and plain Wan has not.
    """

    tensors: dict[str, Tensor]
    source: str
    layers: int
    dim: int
    text_dim: int
    channels: Channels
    full_layers: tuple[str, ...] = ()
    left_out: Mapping[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    header: Mapping[str, str] = field(default_factory=dict)
    is_of_training: bool = False

    @property
    def heads(self) -> int:
        """Attention heads a layer."""
        return self.dim // HEAD_DIM

    @property
    def has_camera(self) -> bool:
        """Whether the file holds what LingBot-World takes camera poses in by."""
        return any(beside_a_model(name) == CAMERA for name in self.left_out)

    def fingerprints(self) -> tuple[str, ...]:
        """What names the weights; then what older versions gave for the same, which took all tensors for weights."""
        return weights_fingerprints(self.tensors, self.left_out)


def unwrap(raw: object, file_name: str, header: Mapping[str, str] | None = None) -> Weights:
    """Find the model in what a checkpoint file holds; `header` is what stands at the head of a safetensors file.
    ValueError, with the reason, for what cannot be used."""
    if not isinstance(raw, Mapping):
        raise ValueError(
            f"{file_name} holds a {type(raw).__name__}, not named tensors. It is not a model file. {WANTED}"
        )
    refuse_part(file_name)
    found, named = _published(raw, file_name)
    refuse_others(named, file_name)
    quantization.refuse_packed(named, file_name)
    beside = _beside(named, found.aside, file_name)
    described = quantization.described_in_header(header or {}, file_name)
    weights = {name: tensor for name, tensor in named.items() if name not in beside}
    tensors, full_layers = quantization.marked(weights, described, file_name)
    channels = _channels(tensors)
    layers, dim, text_dim = _measured(tensors, channels, file_name)
    return Weights(
        tensors,
        found.source,
        layers,
        dim,
        text_dim,
        channels,
        full_layers,
        left_out={name: named[name] for name in beside},
        notes=(*keys_in_words(found.aside), *_told(beside), *_told_small(tensors, full_layers)),
        header=header or {},
        is_of_training="generator" in found.source or any(map(_OF_TRAINING.fullmatch, found.held)),
    )


def _published(raw: Mapping[object, object], file_name: str) -> tuple[Found, dict[str, Tensor]]:
    """What stands below the keys of a file, and its tensors under plain names: of two sets of weights the one that the
    authors publish, which the moving average is but in some families."""
    found = below_keys(raw, _TOP_LEVEL_KEYS)
    named = plainly_named(found.held, file_name)
    if not FAMILIES[usual_family(_channels(named))].ema_first:
        found = below_keys(raw, _EMA_LAST)
        named = plainly_named(found.held, file_name)
    return found, named


def _channels(tensors: Mapping[str, Tensor]) -> Channels:
    """Channels that a model is given and makes, by its shapes; 0 where these tell none."""
    first, last = tensors.get("patch_embedding.weight"), tensors.get("head.head.weight")
    return Channels(
        first.shape[1] if first is not None and first.ndim == 5 else 0,
        last.shape[0] // PATCH**2 if last is not None and last.ndim else 0,
    )


def _beside(named: Mapping[str, Tensor], aside: Held, file_name: str) -> dict[str, str]:
    """What the file holds that is no weight, by name. ValueError for what nothing is known of."""
    others = [name for name in named if not is_weight(name) and not quantization.belongs_to_a_scale(name)]
    beside = {name: what for name in others if (what := beside_a_model(name)) is not None}
    unknown = [name for name in others if name not in beside]
    unknown += [key for key, value in aside.items() if holds_tensors(value) and not is_known_key(key)]
    if unknown:
        raise ValueError(
            f"{file_name} holds tensors that Wan itself does not have ({named_together(unknown)}). Without "
            f"them it is another model than its authors made. {WANTED}"
        )
    return beside


def _told(beside: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"Not used: {what} ({named_together(names)})." for what, names in grouped(beside).items())


def _told_small(tensors: Mapping[str, Tensor], full_layers: tuple[str, ...]) -> tuple[str, ...]:
    kept = {layer: form for layer, form in quantization.formats(tensors).items() if layer not in full_layers}
    told = [f"Kept as {form} with their scales: {len(layers)} layers." for form, layers in grouped(kept).items()]
    if full_layers:
        small = sum(tensors[f"{layer}.weight"].numel() for layer in full_layers)
        told.append(
            f"Read as bf16, since ComfyUI does not compute with the way they are scaled: {len(full_layers)} layers, "
            f"{2 * small / 1e9:.1f} GB where the file has {small / 1e9:.1f}."
        )
    return tuple(told)


def _measured(tensors: Mapping[str, Tensor], channels: Channels, file_name: str) -> tuple[int, int, int]:
    """Layers, width and width of texts. ValueError for a model that is not whole."""
    layers = 1 + max((block_of(name) for name in tensors), default=-1)
    missing = [name for name in needed_names(layers) if name not in tensors]
    if missing or not layers:
        raise ValueError(
            f"{file_name} is incomplete. It lacks {len(missing) or 'all'} of its tensors, the first is "
            f"{missing[0] if missing else 'blocks.0'}. The download or conversion stopped early, or it is one of "
            "several files of one model. Download the file again, as one file."
        )
    refuse_channels(channels, file_name)
    dim, text_dim = (
        tensors[name].shape[-1] if tensors[name].ndim else 0 for name in ("head.modulation", "text_embedding.0.weight")
    )
    if not dim or not text_dim:
        raise ValueError(
            f"{file_name} has width {dim} and takes texts of width {text_dim}. A model has neither as 0. The file is "
            f"damaged. {WANTED}"
        )
    if dim % HEAD_DIM:
        raise ValueError(
            f"{file_name} has width {dim}, which is not a multiple of the {HEAD_DIM} values of a Wan head. "
            f"It is another architecture. {WANTED}"
        )
    whole = _LAYERS_OF_WIDTH.get(dim, layers)
    if layers < whole:
        models = FAMILIES[usual_family(channels)].space.models
        raise ValueError(
            f"{file_name} is incomplete. It has {layers} layers, and {models} of width {dim} has {whole}. It is one of "
            "several files of one model, or the conversion stopped early. Download the model as one file."
        )
    return layers, dim, text_dim
