"""A MODEL as plain data, from which another process makes the same one; or a sentence on why it cannot travel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...headforcing_core.checkpoint.ar_facts import ARFacts

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from ..host.patch_size import Patch


@dataclass(frozen=True)
class ModelRecipe:
    """How a process comes to a MODEL: the function that reads its file, by module and name, with its arguments; what is
    added to its weights; what another node has put in the place of its noise levels, if one did; and what is known of
    it. `weight_patches` is the hash of what is added, `key` names all of it, the state of its file included."""

    loader: tuple[str, str]
    arguments: tuple[object, ...]
    patches: dict[str, Sequence[Patch]]
    model_sampling: object | None
    facts: ARFacts
    weight_patches: str | None
    key: str

    def is_same(self, other: ModelRecipe) -> bool:
        """Whether both make the same MODEL, so that a process that has followed one need not follow the other."""
        return self.key == other.key and self.model_sampling is other.model_sampling


def recipe_of(model: ModelPatcher) -> ModelRecipe:
    """The recipe of a MODEL. ValueError, by name, for what of it cannot travel."""
    raise NotImplementedError


def model_from(recipe: ModelRecipe) -> ModelPatcher:
    """The MODEL of a recipe. RuntimeError when another one comes of it than that which the recipe was made of."""
    raise NotImplementedError
