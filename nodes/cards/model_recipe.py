"""A MODEL as plain data, from which another process makes the same one."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..host.checkpoint_file import LOADERS, load_ar_patcher, patcher_from, read_checkpoint
from ..host.lora_hash import weight_patches_hashes
from ..host.model import facts_of
from .travelling import MODEL_SAMPLING, check_model_travels, loader_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from comfy.model_patcher import ModelPatcher

    from ..host.patch_size import Patch


@dataclass(frozen=True)
class ModelRecipe:
    """How a process comes to a MODEL: which of `LOADERS` reads its file, with which arguments, what is added to its
    weights, and what another node has put in the place of its noise levels, if one did. By `fingerprint` and
    `weight_patches`, the hash of what is added, it is known again; `key` names all of it, the state of its file
    included."""

    loader: str
    arguments: tuple[Any, ...]
    patches: dict[str, Sequence[Patch]]
    model_sampling: object | None
    fingerprint: str
    weight_patches: str | None
    key: str

    def is_same(self, other: ModelRecipe) -> bool:
        """Whether both make the same MODEL, so that a process that has followed one need not follow the other."""
        return self.key == other.key and self.model_sampling is other.model_sampling


def recipe_of(model: ModelPatcher) -> ModelRecipe:
    """The recipe of a MODEL. ValueError, by name, for what of it cannot travel."""
    check_model_travels(model)
    loader, arguments = loader_of(model)
    added, fingerprint = weight_patches_hashes(model)[0], facts_of(model).fingerprint
    stat = Path(arguments[0]).stat()
    named = (loader, arguments, added, fingerprint, stat.st_mtime_ns, stat.st_size)
    return ModelRecipe(
        loader,
        arguments,
        {name: list(each) for name, each in model.patches.items()},
        model.object_patches.get(MODEL_SAMPLING),
        fingerprint,
        added,
        hashlib.sha256(repr(named).encode()).hexdigest(),
    )


def model_from(recipe: ModelRecipe) -> ModelPatcher:
    """The MODEL of a recipe. RuntimeError when another one comes of it than that which the recipe was made of."""
    model, fingerprints = _loaded(recipe)
    model.patches = {name: list(each) for name, each in recipe.patches.items()}
    model.patches_uuid = uuid.uuid4()
    if recipe.model_sampling is not None:
        model.add_object_patch(MODEL_SAMPLING, recipe.model_sampling)
    name = Path(recipe.arguments[0]).name
    if recipe.fingerprint not in fingerprints:
        raise RuntimeError(
            f"{name} is another file by now than the one that this ComfyUI has loaded. Restart ComfyUI, or change an "
            "input of the loader, so that it is loaded anew."
        )
    if weight_patches_hashes(model)[0] != recipe.weight_patches:
        raise RuntimeError(
            f"What is added to the weights of {name} came out otherwise in the process of a card, so another video "
            "would be made. Take out the LoRA or the node that changes weights, or make the run on one card."
        )
    return model


def _loaded(recipe: ModelRecipe) -> tuple[ModelPatcher, set[str]]:
    """The file of a recipe as a MODEL, and what names its weights: by themselves, where this pack reads them, and by
    their shapes."""
    if recipe.loader != load_ar_patcher.__name__:
        model = LOADERS[recipe.loader](*recipe.arguments)
        return model, {facts_of(model).fingerprint}
    path, weight_dtype = recipe.arguments
    weights = read_checkpoint(path)
    of_weights = weights.fingerprints()[0]
    model = patcher_from(weights, path, weight_dtype)
    return model, {of_weights, facts_of(model).fingerprint}
