"""What LoRA loaders and other nodes add to the weights of a MODEL, as one hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from ...headforcing_core.checkpoint.fingerprint import hashed_parts

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


def weight_patches_hash(model: ModelPatcher) -> str | None:
    """SHA-256 over all that is added to the weights, strengths included; None when nothing is."""
    if not model.patches:
        return None
    digest = hashlib.sha256()
    for name in sorted(model.patches):
        for piece in _pieces((name, model.patches[name])):
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
