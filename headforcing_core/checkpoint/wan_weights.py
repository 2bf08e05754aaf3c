"""The model in a checkpoint file: its keys unwrapped, and refused what cannot be used (layouts as the authors publish
them)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ..geometry import LATENT_CHANNELS

HEAD_DIM = 128

# generator_ema before generator: where both are there, the moving average is the published model
_TOP_LEVEL_KEYS = ("generator_ema", "generator", "model", "state_dict")
_LORA_KEY = re.compile(r"lora_(A|B|up|down)\b|\.lora\.|_lora$")
_BLOCK_KEY = re.compile(r"blocks\.([0-9]{1,3})\.(.+)")
_OUTER_TENSORS = (
    "patch_embedding.weight",
    "text_embedding.0.weight",
    "text_embedding.2.weight",
    "time_embedding.0.weight",
    "time_embedding.2.weight",
    "time_projection.1.weight",
    "head.head.weight",
    "head.modulation",
)
_BLOCK_TENSORS = tuple(
    f"{part}.{name}.weight" for part in ("self_attn", "cross_attn") for name in ("q", "k", "v", "o", "norm_q", "norm_k")
) + ("ffn.0.weight", "ffn.2.weight", "modulation")
_OTHER_MODELS = {
    "vace_": "a VACE model, which wants control videos",
    "img_emb.": "an image-to-video model, which wants CLIP-vision features",
    "face_adapter": "an animation model",
    "audio_": "an audio-driven model",
    "casual_audio": "an audio-driven model",
    "control_adapter": "a camera-control model",
    "motion_encoder": "an animation model",
    "ref_conv": "a reference-image model",
}
_WANTED = "Load a Wan 2.1 text-to-video checkpoint of the Self-Forcing kind, for example self_forcing_dmd.pt."


@dataclass(frozen=True)
class Weights:
    """Unwrapped tensors under plain Wan names, and how they were found."""

    tensors: dict[str, Tensor]
    source: str
    layers: int
    dim: int
    text_dim: int

    @property
    def heads(self) -> int:
        """Attention heads a layer."""
        return self.dim // HEAD_DIM


def unwrap(raw: object, file_name: str) -> Weights:
    """Find the model in what a checkpoint file holds. ValueError, with the reason, for what cannot be used."""
    if not isinstance(raw, Mapping):
        raise ValueError(
            f"{file_name} holds a {type(raw).__name__}, not named tensors. It is not a model file. {_WANTED}"
        )
    source, found = _pick(raw)
    tensors = {_plain_name(name): value for name, value in found.items() if isinstance(value, Tensor)}
    _refuse_others(tensors, file_name)
    return _measured(tensors, source, file_name)


def _pick(raw: Mapping[object, object]) -> tuple[str, dict[str, object]]:
    for key in _TOP_LEVEL_KEYS:
        nested = raw.get(key)
        if isinstance(nested, Mapping):
            return f"key {key}", {str(name): value for name, value in nested.items()}
    nested = [
        (str(key), value)
        for key, value in raw.items()
        if isinstance(value, Mapping) and any(isinstance(item, Tensor) for item in value.values())
    ]
    if nested and not any(isinstance(value, Tensor) for value in raw.values()):
        key, value = nested[0]
        return f"key {key}", {str(name): item for name, item in value.items()}
    return "no outer key", {str(name): value for name, value in raw.items()}


def _plain_name(name: str) -> str:
    name = name.replace("_fsdp_wrapped_module.", "")
    return name.removeprefix("model.").removeprefix("diffusion_model.")


def _refuse_others(tensors: Mapping[str, Tensor], file_name: str) -> None:
    if not tensors:
        raise ValueError(f"{file_name} holds no tensors. It is empty or not a model file. Download it again. {_WANTED}")
    if "patch_embedding.weight" not in tensors and any(_LORA_KEY.search(name) for name in tensors):
        raise ValueError(
            f"{file_name} is a LoRA: it changes a model but is not one. Load the base checkpoint here and "
            "put a LoRA loader node with this file after it."
        )
    if "patch_embedding.weight" not in tensors or "head.modulation" not in tensors:
        example = next(iter(sorted(tensors)))
        raise ValueError(
            f"{file_name} is not a Wan model. It lacks patch_embedding.weight or head.modulation (its "
            f"tensors have names like {example}). {_WANTED}"
        )
    for start, what in _OTHER_MODELS.items():
        if any(name.startswith(start) for name in tensors):
            raise ValueError(f"{file_name} is {what}. The chunk loop feeds a text-to-video model only. {_WANTED}")
    channels = tensors["patch_embedding.weight"].shape[1] if tensors["patch_embedding.weight"].ndim == 5 else 0
    if channels != LATENT_CHANNELS:
        kind = {36: "an image-to-video model", 48: "a Wan 2.2 5B model"}.get(channels, "another architecture")
        raise ValueError(
            f"{file_name} takes {channels} latent channels: {kind}. Wan 2.1 text-to-video takes "
            f"{LATENT_CHANNELS}. {_WANTED}"
        )


def _measured(tensors: dict[str, Tensor], source: str, file_name: str) -> Weights:
    blocks = {int(match.group(1)) for name in tensors if (match := _BLOCK_KEY.fullmatch(name))}
    layers = max(blocks, default=-1) + 1
    needed = [*_OUTER_TENSORS, *(f"blocks.{block}.{name}" for block in range(layers) for name in _BLOCK_TENSORS)]
    missing = [name for name in needed if name not in tensors]
    if missing or not layers:
        raise ValueError(
            f"{file_name} is incomplete. It lacks {len(missing) or 'all'} of its tensors, the first is "
            f"{missing[0] if missing else 'blocks.0'}. The download or conversion stopped early. "
            "Download the file again."
        )
    dim, text_dim = (
        tensors[name].shape[-1] if tensors[name].ndim else 0 for name in ("head.modulation", "text_embedding.0.weight")
    )
    if not dim or not text_dim:
        raise ValueError(
            f"{file_name} has width {dim} and takes texts of width {text_dim}. A model has neither as 0. The file is "
            f"damaged. {_WANTED}"
        )
    if dim % HEAD_DIM:
        raise ValueError(
            f"{file_name} has width {dim}, which is not a multiple of the {HEAD_DIM} values of a Wan head. "
            f"It is another architecture. {_WANTED}"
        )
    return Weights(tensors, source, layers, dim, text_dim)
