"""LoRA on a MODEL: a file added through the host's own patcher, and how much of what is added changes a weight."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import comfy.lora
import torch
from torch import Tensor

from ...headforcing_core.checkpoint.lora_names import Lora, lora_in
from ...headforcing_core.checkpoint.tensor_names import named_together
from .checkpoint_file import read_tensors, refuse_unusual
from .patch_size import fits_weight, patches_of

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

LORA_FOLDER = "loras"
_OF_MODEL = "diffusion_model."
_ATTACHMENT = "head_forcing_lora"
_SAMPLED = 8  # numbers of a tensor that tell it from others


@dataclass(frozen=True)
class LoraFit:
    """Of the weights that a LoRA file changes: how many there are, how many of them this model has in that size, how
    many it has in another, the names that fit nothing, and how many were not added."""

    name: str
    weights: int
    changed: int
    other_size: int
    unknown: tuple[str, ...]
    not_added: int

    @property
    def is_whole(self) -> bool:
        """Whether all of the LoRA changes the model."""
        return self.changed == self.weights and not self.other_size

    @property
    def told(self) -> str:
        """How much of it changes the model, in words."""
        parts = [f"LoRA {self.name}: {self.changed} of {self.weights} weights changed"]
        if self.other_size:
            parts.append(f"{self.other_size} have another size here, or stand where ComfyUI changes nothing")
        if self.unknown:
            parts.append(f"{len(self.unknown)} names fit nothing in this model ({named_together(self.unknown)})")
        if self.not_added:
            parts.append(
                f"{self.not_added} were not added: half of each is missing, or the node that names the file left it "
                "out, or does not know its layout, which lora of Load AR Model does"
            )
        return "; ".join(parts) + "."


def add_lora(model: ModelPatcher, path: str, strength: float) -> tuple[ModelPatcher, LoraFit, tuple[str, ...]]:
    """A clone of a MODEL with a LoRA file added, how it fits, and sentences on the file. ValueError, with the reason,
    for a file that cannot be read or holds no LoRA."""
    name = Path(path).name
    keys = comfy.lora.model_lora_keys_unet(model.model, {})
    lora = lora_in(read_tensors(path)[0], name, _modules(keys))
    try:
        named = {
            f"{_OF_MODEL}{module}.{part}": each
            for module, parts in lora.modules.items()
            for part, each in parts.items()
        }
        refuse_unusual(named, name)
        for key, each in named.items():
            if key.endswith(".alpha") and each.numel() != 1:
                raise ValueError(
                    f"{name} is damaged. Its {key} holds {each.numel()} numbers, not one. Download it again."
                )
        patches = comfy.lora.load_lora(named, keys, log_missing=False)
    except KeyError as error:
        raise ValueError(
            f"{name} is incomplete. It lacks {str(error.args[0])[:100]}, the other half of a pair. Download it again."
        ) from error
    changed = model.clone()
    changed.add_patches(patches, strength)
    fit = _fit_of(name, lora, _effects(changed))
    fitting = {key: [each for each in added if fits_weight(model, key, each)] for key, added in changed.patches.items()}
    changed.patches = {key: added for key, added in fitting.items() if added}  # the host would try the rest in vain
    fits: tuple[LoraFit, ...] = (*(model.get_attachment(_ATTACHMENT) or ()), fit)
    changed.set_attachments(_ATTACHMENT, fits)
    return changed, fit, lora.notes


def added_fits(model: ModelPatcher) -> tuple[LoraFit, ...]:
    """How those LoRA files fit a MODEL that add_lora has added to it."""
    return cast("tuple[LoraFit, ...]", model.get_attachment(_ATTACHMENT) or ())


def named_fits(model: ModelPatcher, paths: Collection[str]) -> tuple[LoraFit, ...]:
    """How LoRA files fit a MODEL that other nodes have added to it in whatever way; files that cannot be read are those
    nodes' affair."""
    if not paths:
        return ()
    effects = _effects(model)
    modules = _modules(comfy.lora.model_lora_keys_unet(model.model, {}))
    fits: list[LoraFit] = []
    for path in paths:
        try:
            fits.append(_fit_of(Path(path).name, lora_in(read_tensors(path)[0], Path(path).name, modules), effects))
        except ValueError:
            continue
    return tuple(fits)


def unnamed_fit(model: ModelPatcher) -> LoraFit:
    """How all fits that has been added to the weights of a MODEL, from whatever file."""
    found = [fits_weight(model, name, patch) for name, patches in patches_of(model).items() for patch in patches]
    return LoraFit("or merge of another node", len(found), sum(found), found.count(False), (), 0)


def _modules(keys: Collection[str]) -> tuple[str, ...]:
    return tuple(key.removeprefix(_OF_MODEL) for key in keys if key.startswith(_OF_MODEL))


def _fit_of(name: str, lora: Lora, effects: Mapping[bytes, bool]) -> LoraFit:
    changed = other_size = not_added = 0
    for parts in lora.modules.values():
        samples = [_sample(each) for each in parts.values() if each.ndim]
        found = [effects[sample] for sample in samples if sample in effects]
        changed += any(found)
        other_size += not all(found)
        not_added += not found
    return LoraFit(name, len(lora.modules) + len(lora.unknown), changed, other_size, lora.unknown, not_added)


def _effects(model: ModelPatcher) -> dict[bytes, bool]:
    """Samples of all tensors that are added to the weights of a MODEL, and whether they fit their weight."""
    effects: dict[bytes, bool] = {}
    for name, patches in patches_of(model).items():
        for patch in patches:
            fits = fits_weight(model, name, patch)
            for tensor in _tensors(patch[1]):
                sample = _sample(tensor)
                effects[sample] = effects.get(sample, False) or fits
    return effects


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.ndim:
            yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)
    else:
        yield from _tensors(getattr(value, "weights", ()))


def _sample(tensor: Tensor) -> bytes:
    """What tells a tensor from others, whatever type it has been brought to."""
    row = tensor.detach()
    while row.ndim > 1:
        row = row[:1].squeeze(0) if row.shape[0] else row.reshape(-1)
    return repr((tuple(tensor.shape), row[:_SAMPLED].to(torch.bfloat16).tolist())).encode()
