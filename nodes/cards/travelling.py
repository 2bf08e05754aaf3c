"""What of a run's inputs cannot go to other processes, by name; asked before anything is started."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import comfy.model_patcher
import torch
from comfy.weight_adapter import WeightAdapterBase
from torch import Tensor

from ..host.checkpoint_file import LOADERS

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from ..host.patch_size import Patch
    from ..sockets import Conditioning

MODEL_SAMPLING = "model_sampling"
_TRANSFORMER, _PATCHES = "transformer_options", "patches"
_KINDS = (comfy.model_patcher.ModelPatcher, comfy.model_patcher.ModelPatcherDynamic)
_OF_THE_HOST = ("comfy", "comfy_extras", "torch", "builtins")
_ALONE = "Or take Spread over Cards out, and the run is made on one card."
_HOLDERS = ("injections", "additional_models", "hook_patches", "weight_wrapper_patches")


def check_model_travels(model: ModelPatcher) -> None:
    """ValueError, by name, for what other nodes have put on a MODEL that another process cannot be given, and for a
    MODEL that it could not load."""
    found = [*_held(model), *_options(model.model_options), *_weights(model)]
    if found:
        raise ValueError(
            f"The model carries {', '.join(dict.fromkeys(found))}. That is code of a node before the sampler and lives "
            f"in this process alone, while every card has a process of its own. Take that node out. {_ALONE}"
        )
    loader_of(model)


def loader_of(model: ModelPatcher) -> tuple[str, tuple[Any, ...]]:
    """Which of `LOADERS` a MODEL comes from, and with which arguments. ValueError for one that comes from elsewhere."""
    function, arguments, *more = model.cached_patcher_init or (None, ())
    if function is None or function not in LOADERS.values() or more or not _is_plain(arguments):
        raise ValueError(
            "The model was loaded in a way that the processes of other cards cannot repeat. Connect Load AR Model, or "
            f"Load Diffusion Model. {_ALONE}"
        )
    return cast("str", function.__name__), arguments


def check_texts_travel(texts: Sequence[Conditioning], name: str) -> None:
    """ValueError, by name, for what a CONDITIONING carries that is neither a tensor nor a plain value."""
    carried = [cast("Mapping[str, object]", each[1]) for text in texts for each in text]
    found = {key: type(value).__name__ for each in carried for key, value in each.items() if not _is_plain(value)}
    if found:
        told = ", ".join(f"{key} ({kind})" for key, kind in found.items())
        raise ValueError(
            f"{name} carries {told}, which lives in this process alone, while every card has a process of its own. "
            f"Connect the text encoder directly. {_ALONE}"
        )


def check_noise_travels(noise: str) -> None:
    """ValueError for noise that is drawn on the device."""
    if noise == "native":
        raise ValueError(
            "noise is native, which is drawn on the card, by each its own. The cards of one run need the same. Set "
            f"noise to per_chunk. {_ALONE}"
        )


def _held(model: ModelPatcher) -> Iterator[str]:
    """What is put beside the weights."""
    if type(model) not in _KINDS:
        yield f"weights that are held by {type(model).__name__}"
    for name, patch in model.object_patches.items():
        kinds = {each.__module__.partition(".")[0] for each in type(patch).__mro__}
        if name != MODEL_SAMPLING or not kinds <= set(_OF_THE_HOST):
            yield f"a {name} of its own"
    for kind, by_type in (("wrapper", model.wrappers), ("callback", model.callbacks)):
        for by_key in by_type.values():
            yield from (f"the {kind} {key or 'without a name'}" for key, functions in by_key.items() if functions)
    for holder in _HOLDERS:
        yield from (f"{holder.replace('_', ' ')} ({key})" for key, each in getattr(model, holder).items() if each)
    if model.forced_hooks is not None:
        yield "hooks"


def _options(options: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"the option {name}" for name in options if name != _TRANSFORMER)
    of_passes = options.get(_TRANSFORMER, {})
    yield from (f"the patch {name}" for name, each in of_passes.get(_PATCHES, {}).items() if each)
    yield from (f"the option {name}" for name, each in of_passes.items() if name != _PATCHES and each)


def _weights(model: ModelPatcher) -> Iterator[str]:
    patches: Mapping[str, Sequence[Patch]] = model.patches
    for name, each in patches.items():
        for _, change, _, _, function in each:
            if function is not None or not _is_change(change):
                yield f"a change of {name} by {type(change if function is None else function).__name__}"


def _is_change(value: object) -> bool:
    """Whether this is a change of a weight as the host makes them of a file."""
    if isinstance(value, WeightAdapterBase):
        return type(value).__module__.startswith("comfy.")
    return _is_plain(value)


def _is_plain(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float | Tensor | torch.dtype)
