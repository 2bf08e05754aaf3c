"""Checkpoint files that are told apart from AR models on Wan by their names, and refused for what they are."""

import re
from collections.abc import Mapping

from torch import Tensor

from ..families.table import FAMILIES, Channels, fitting_families

WANTED = "Load an AR checkpoint on Wan, for example self_forcing_dmd.pt."

_LORA_KEY = re.compile(r"lora_(A|B|up|down)\b|\.lora\.|_lora$")
_DIFFUSERS_KEY = re.compile(r"condition_embedder\..*|scale_shift_table|blocks\.\d+\.attn[12]\..*|proj_out\..*")
_UNMERGED_KEY = re.compile(r".*\.base_layer\.(weight|bias)")
_SHARD = re.compile(r"(\d{4,5})-of-(\d{4,5})\b")
_SECOND_KEY = re.compile(
    r"(.*\.)?memory_(weight|bias|modulation|patch_embedding|text_embedding|time_embedding|time_projection|head)(\..*)?"
)
_EXPERT = re.compile(r"(high|low)[-_ ]?noise|a14b.*[-_ ](high|low)(?![a-z])|^transformer_2/", re.IGNORECASE)
_FROM_A_PICTURE = "For a video that begins with a picture, start_image of the sampler takes one with any AR checkpoint."
_OTHER_MODELS = (  # how names begin, what has them, and what of this pack comes nearest
    (
        r"blocks\.\d+\.action_model\.",
        "Matrix-Game, which is steered by keys and mouse at every step",
        "A world from a picture is made by LingBot-World-Fast.",
    ),
    (
        r"patch_(short|mid|long)\.",
        "Helios, which has a memory of its own",
        "Any AR checkpoint makes long videos here.",
    ),
    (
        r"vace_",
        "a VACE model, which wants control videos",
        "A video that is made anew goes into video of the sampler, with any AR checkpoint.",
    ),
    (r"img_emb\.", "an image-to-video model, which wants CLIP-vision features", _FROM_A_PICTURE),
    (r"face_adapter|motion_encoder", "an animation model", _FROM_A_PICTURE),
    (r"audio_|casual_audio", "an audio-driven model", _FROM_A_PICTURE),
    (r"control_adapter", "a camera-control model", "A world from a picture is made by LingBot-World-Fast."),
    (r"ref_conv", "a reference-image model", _FROM_A_PICTURE),
)


def refuse_part(file_name: str) -> None:
    """ValueError for a file that is one of several parts of a model, by its name."""
    part = _SHARD.search(file_name)
    if part and int(part[2]) > 1:
        raise ValueError(
            f"{file_name} is part {int(part[1])} of the {int(part[2])} files of one model, and a part has not all "
            "of its tensors. Download the model as one file, or join the parts, from the folder of this pack: "
            "python -m headforcing_core.checkpoint.join_parts PART TARGET.safetensors"
        )


def refuse_expert(file_name: str, folder: str) -> None:
    """ValueError for one of two models that share the steps, by the name of a file and of its folder."""
    if _EXPERT.search(f"{folder}/{file_name}"):
        raise ValueError(
            f"{file_name} is one half of a Wan 2.2 A14B pair, by its name or folder: one model for high noise, one for "
            f"low. The chunk loop runs one model for all steps, and half of a pair gives mush. {WANTED}"
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
    for start, what, instead in _OTHER_MODELS:
        if "patch_embedding.weight" in tensors and any(re.match(start, name) for name in tensors):
            raise ValueError(f"{file_name} is {what}. The chunk loop does not feed that. {instead} {WANTED}")
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
