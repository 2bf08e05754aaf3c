"""What a chunk can be made under: one text for the whole picture and time."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from .finite import check_finite
from .model import text_width

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from ..sockets import Conditioning

_LIMITS = {"start_percent", "end_percent", "area", "mask"}
_STEERED = {"control", "gligen"}
_HOOKS = "hooks"
_OF_ENCODERS = {"pooled_output", "attention_mask"}  # what text encoders give along; Wan reads the text alone
_MORE_TOKENS = {"time_dim_concat", "context_latents", "reference_latents", "reference_latent", "concat_latent_image"}


def check_conditioning(conditioning: Conditioning, model: ModelPatcher, name: str) -> None:
    """ValueError unless a CONDITIONING is one text for the whole picture and time, of the width the model reads."""
    if len(conditioning) != 1:
        raise ValueError(
            f"{name} has {len(conditioning)} entries. A chunk is made under one text. Connect one CLIP Text "
            "Encode, without Conditioning (Combine)."
        )
    text, options = cast("tuple[Tensor, dict[str, object]]", tuple(conditioning[0]))
    limited = sorted(_LIMITS & options.keys())
    if limited:
        raise ValueError(
            f"{name} carries {', '.join(limited)}. With four steps a chunk, texts cannot be limited in time "
            "or area. Connect the text encoder directly."
        )
    steered = sorted(_STEERED & options.keys())
    if steered:
        raise ValueError(
            f"{name} carries {', '.join(steered)}. What steers a whole video does not fit its chunks. Take the "
            "ControlNet or GLIGEN node out, and connect the text encoder directly."
        )
    if _HOOKS in options:
        raise ValueError(
            f"{name} carries hooks, as of a LoRA that begins or ends between the steps. A chunk is made under one set "
            "of weights. Take Set CLIP Hooks out, and put the LoRA on the model, with a LoRA loader."
        )
    added = sorted(_MORE_TOKENS & options.keys())
    if added:
        raise ValueError(
            f"{name} carries {', '.join(added)}. Reference frames would be taken for frames of the video. Connect the "
            "text encoder directly."
        )
    wanted = text_width(model)
    if text.shape[0] != 1 or text.shape[-1] != wanted:
        raise ValueError(
            f"{name} is a text of shape {tuple(text.shape)}, the model reads (1, tokens, {wanted}). It was "
            "made by another text encoder, or in a batch. Use CLIPLoader with umt5_xxl, type wan."
        )
    check_finite([text], name, "Start ComfyUI with --fp32-text-enc, or load another file of the text encoder.")


def told_of_unread(conditioning: Conditioning, name: str) -> tuple[str, ...]:
    """A sentence for the report when a CONDITIONING carries what a text-to-video model does not read."""
    known = _OF_ENCODERS | _LIMITS | _STEERED | _MORE_TOKENS | {_HOOKS}  # all but the first are refused
    carried = [cast("dict[str, object]", options) for _, options in conditioning]
    unread = sorted({key for each in carried for key in each.keys() - known if each[key] is not None})
    if not unread:
        return ()
    return (
        f"{name} carries {', '.join(unread)}. A Wan 2.1 text-to-video model reads the text alone, so this changes "
        "nothing.",
    )


def mix_conditioning(old: Conditioning, new: Conditioning, share: float) -> Conditioning:
    """A CONDITIONING on the way from one text to another; the shorter text is filled up with zeros at its end."""
    texts = [cast("Tensor", conditioning[0][0]) for conditioning in (old, new)]
    longest = max(text.shape[1] for text in texts)
    before, after = (torch.nn.functional.pad(text, (0, 0, 0, longest - text.shape[1])) for text in texts)
    return [[torch.lerp(before, after.to(before), share), *new[0][1:]]]
