"""Recognise an autoregressive Wan 2.1 checkpoint: unwrap its keys, refuse what cannot be used, say family, chunk and
steps (method.md section 2; layouts of the families as their authors publish them)."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..geometry import LATENT_CHANNELS, TRAINED_FRAMES

HEAD_DIM = 128
AUTO = "auto"
MOST_STEPS = 63  # noise of a chunk is numbered up to 64

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
class Family:
    """What a family of checkpoints was trained for: frames a chunk and noise levels, down to 0."""

    chunk_frames: int
    sigmas: tuple[float, ...]


FOUR_STEPS = (1.0, 0.9375, 0.8333333134651184, 0.625, 0.0)  # 1000, 750, 500, 250 warped by shift 5
FAMILIES: Mapping[str, Family] = {
    "self_forcing": Family(3, FOUR_STEPS),
    "causal_forcing": Family(3, FOUR_STEPS),
    "causal_forcing_framewise": Family(1, FOUR_STEPS),
    "longlive": Family(3, FOUR_STEPS),
    "reward_forcing": Family(3, FOUR_STEPS),
    "krea_realtime": Family(3, (1.0, 0.937, 0.833, 0.625, 0.0)),
    "custom": Family(3, FOUR_STEPS),
}
# Told by file name; the first pattern that occurs wins, so the more special ones come first.
_NAME_PATTERNS = (
    ("framewise", "causal_forcing_framewise"),
    ("causal_forcing", "causal_forcing"),
    ("causalforcing", "causal_forcing"),
    ("longlive", "longlive"),
    ("reward", "reward_forcing"),
    ("krea", "krea_realtime"),
    ("self_forcing", "self_forcing"),
    ("selfforcing", "self_forcing"),
)


@dataclass(frozen=True)
class ARFacts:
    """What is known of an AR model. `ar_trained` is false when nothing says that the weights are AR-trained.

    `fingerprint` names the weights: `weights:` and a SHA-256 over all of them, or `shapes:` when only names and shapes
    were at hand.
    """

    family: str
    chunk_frames: int
    sigmas: tuple[float, ...]
    trained_frames: int
    fingerprint: str
    ar_trained: bool


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


def facts_for(file_name: str, family: str, chunk_frames: int, fingerprint: str) -> tuple[ARFacts, str]:
    """AR facts of a checkpoint and one sentence on how they were found. `chunk_frames` 0 takes the family's own.

    ValueError for an unknown family or a chunk that does not fit the trained range.
    """
    if family == AUTO:
        name = file_name.lower().replace("-", "_")
        family = next((known for pattern, known in _NAME_PATTERNS if pattern in name), "")
        told = (
            f"Family {family}, told by the file name."
            if family
            else (
                "Family self_forcing: neither file name nor layout tells, so the usual one was taken. "
                "Choose the family if the picture falls apart."
            )
        )
        family = family or "self_forcing"
    else:
        told = f"Family {family}, as chosen."
    if family not in FAMILIES:
        raise ValueError(f"family is {family!r}. Known families are {', '.join(FAMILIES)}. Choose one of them or auto.")
    chunk = chunk_frames or FAMILIES[family].chunk_frames
    if not 1 <= chunk < TRAINED_FRAMES:
        raise ValueError(
            f"chunk_frames is {chunk}. A chunk and its history share the {TRAINED_FRAMES} frames that the "
            f"model was trained on. Use 1 to {TRAINED_FRAMES - 1}; Self-Forcing uses 3."
        )
    return ARFacts(family, chunk, FAMILIES[family].sigmas, TRAINED_FRAMES, fingerprint, ar_trained=True), told


def assumed_facts(fingerprint: str) -> ARFacts:
    """Facts taken for a model that Load AR Model did not mark: self_forcing, and no knowledge of its training."""
    family = FAMILIES["self_forcing"]
    return ARFacts("self_forcing", family.chunk_frames, family.sigmas, TRAINED_FRAMES, fingerprint, ar_trained=False)


def weights_fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of all tensors."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        for part in hashed_parts(name, tensors[name]):
            digest.update(part)
    return f"weights:{digest.hexdigest()}"


def hashed_parts(name: str, tensor: Tensor) -> tuple[bytes, memoryview]:
    """What a hash takes of a tensor: its name, dtype and shape, and its bytes."""
    tensor = tensor.detach().cpu().contiguous()
    described = f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode()
    return described, tensor.reshape(-1).view(torch.uint8).numpy().data


def shapes_fingerprint(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """SHA-256 over names and shapes alone, for a model whose file is not at hand."""
    digest = hashlib.sha256("".join(f"{name} {shapes[name]}\n" for name in sorted(shapes)).encode())
    return f"shapes:{digest.hexdigest()}"


def check_sigmas(sigmas: tuple[float, ...]) -> None:
    """ValueError unless the noise levels fall strictly from at most 1 to exactly 0."""
    falling = all(a > b for a, b in zip(sigmas, sigmas[1:], strict=False))
    if not 2 <= len(sigmas) <= MOST_STEPS + 1 or sigmas[-1] != 0 or not falling or not 0 < sigmas[0] <= 1:
        shown = ", ".join(f"{sigma:g}" for sigma in sigmas[:8])
        raise ValueError(
            f"sigmas are ({shown}). Every chunk is denoised along them, so they must fall from at most 1 "
            f"to exactly 0, in up to {MOST_STEPS} steps. Use Basic Scheduler (simple, 4 steps, denoise 1), or leave "
            "sigmas unconnected."
        )


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
