"""Checkpoint files that are told apart from AR models on Wan by their names, and refused for what they are."""

import re
from collections.abc import Mapping

from torch import Tensor

from ..families.table import FAMILIES, Channels, fitting_families

WANTED = "Load a Wan 2.1 text-to-video checkpoint of the Self-Forcing kind, for example self_forcing_dmd.pt."

_LORA_KEY = re.compile(r"lora_(A|B|up|down)\b|\.lora\.|_lora$")
_DIFFUSERS_KEY = re.compile(r"condition_embedder\..*|scale_shift_table|blocks\.\d+\.attn[12]\..*|proj_out\..*")
_UNMERGED_KEY = re.compile(r".*\.base_layer\.(weight|bias)")
_SHARD = re.compile(r"(\d{4,5})-of-(\d{4,5})\b")
_SECOND_KEY = re.compile(
    r"(.*\.)?memory_(weight|bias|modulation|patch_embedding|text_embedding|time_embedding|time_projection|head)(\..*)?"
)
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


def refuse_part(file_name: str) -> None:
    """ValueError for a file that is one of several parts of a model, by its name."""
    part = _SHARD.search(file_name)
    if part and int(part[2]) > 1:
        raise ValueError(
            f"{file_name} is part {int(part[1])} of the {int(part[2])} files of one model, and a part has not all "
            "of its tensors. Download the model as one file, or join the parts into one safetensors file first."
        )


def refuse_others(tensors: Mapping[str, Tensor], file_name: str) -> None:
    """ValueError, with what it is, for a file of plain names that is not an AR model on Wan."""
    if not tensors:
        raise ValueError(f"{file_name} holds no tensors. It is empty or not a model file. Download it again. {WANTED}")
    if any(_UNMERGED_KEY.fullmatch(name) for name in tensors):
        raise ValueError(
            f"{file_name} is a model with a LoRA beside it that is not merged into it. Download the merged "
            "model, or the base checkpoint for model_name and the LoRA file for lora."
        )
    if "patch_embedding.weight" not in tensors and any(_LORA_KEY.search(name) for name in tensors):
        raise ValueError(
            f"{file_name} is a LoRA: it changes a model but is not one. Choose the base checkpoint as model_name, put "
            "this file into models/loras, and choose it as lora."
        )
    if any(_DIFFUSERS_KEY.fullmatch(name) for name in tensors):
        raise ValueError(
            f"{file_name} has the names of the diffusers library (such as "
            f"{next(name for name in tensors if _DIFFUSERS_KEY.fullmatch(name))}), which ComfyUI does not read for "
            "Wan. Download the checkpoint in the original layout, with names such as blocks.0.self_attn.q.weight, or "
            "convert it."
        )
    if "patch_embedding.weight" not in tensors or "head.modulation" not in tensors:
        example = next(iter(sorted(tensors)))
        raise ValueError(
            f"{file_name} is not a Wan model. It lacks patch_embedding.weight or head.modulation (its "
            f"tensors have names like {example}). {WANTED}"
        )
    for start, what in _OTHER_MODELS.items():
        if any(name.startswith(start) for name in tensors):
            raise ValueError(f"{file_name} is {what}. The chunk loop feeds a text-to-video model only. {WANTED}")
    second = next((name for name in sorted(tensors) if _SECOND_KEY.fullmatch(name)), None)
    if second:
        raise ValueError(
            f"{file_name} has a second set of weights for commit passes (such as {second}), which this pack does not "
            "use, and without them it is another model. Download Self Gradient Forcing without the plus, or another "
            "checkpoint."
        )


def refuse_channels(channels: Channels, file_name: str) -> None:
    """ValueError for a model with channels that no family has."""
    if not fitting_families(channels):
        known = dict.fromkeys((family.in_channels, family.space.channels) for family in FAMILIES.values())
        raise ValueError(
            f"{file_name} takes {channels.given} latent channels and makes {channels.made}. AR models on Wan take and "
            f"make {', '.join(f'{given} and {made}' for given, made in known)}. {WANTED}"
        )
