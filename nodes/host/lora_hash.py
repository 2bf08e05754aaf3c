"""What LoRA loaders and other nodes add to the weights of a MODEL, as one hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from ...headforcing_core.checkpoint.fingerprint import hashed_parts
from .patch_size import changes_weight, fits_weight, patches_of

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from .patch_size import Patch


def weight_patches_hashes(model: ModelPatcher) -> tuple[str | None, ...]:
    """SHA-256 over what is added to the weights and changes them, strengths included; None when nothing does. Then what
    older versions gave for the same, if that was another."""
    changing = {
        name: changes
        for name, patches in patches_of(model).items()
        if (changes := [patch for patch in patches if changes_weight(patch) and fits_weight(model, name, patch)])
    }
    now = _hash(changing)
    if _which(changing) == _which(model.patches):
        return (now,)  # which is not to be hashed twice
    before = _hash(model.patches)
    return (now,) if now == before else (now, before)


def _which(patches: Mapping[str, Sequence[Patch]]) -> dict[str, list[int]]:
    return {name: [id(patch) for patch in each] for name, each in patches.items()}


def _hash(patches: Mapping[str, Sequence[Patch]]) -> str | None:
    if not patches:
        return None
    digest = hashlib.sha256()
    for name in sorted(patches):
        for piece in _pieces((name, patches[name])):
            digest.update(piece)
    return digest.hexdigest()


def _pieces(value: object) -> Iterator[bytes | memoryview]:
    # lists of strengths, names and tensors; a LoRA's tensors are the `weights` of one of the host's adapters
    if isinstance(value, Tensor):
        yield from hashed_parts("", value)
    elif isinstance(value, list | tuple):
        yield f"{len(value)} values\n".encode()
        for each in value:
            yield from _pieces(each)
    elif value is None or isinstance(value, str | int | float):
        yield f"{value!r}\n".encode()
    else:
        yield f"{type(value).__qualname__}\n".encode()
        yield from _pieces(getattr(value, "weights", None))
