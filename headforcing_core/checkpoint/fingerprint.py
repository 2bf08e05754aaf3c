"""Hashes that name the weights of a model."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from .tensor_names import ATTENTION_TAG


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


def shapes_fingerprints(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    """SHA-256 over names and shapes alone, for a model whose file is not at hand; then what older versions gave for the
    same, if that was another."""
    plain = {name: shape for name, shape in shapes.items() if not name.endswith(ATTENTION_TAG)}
    return tuple(dict.fromkeys(_shapes_fingerprint(each) for each in (plain, shapes)))


def _shapes_fingerprint(shapes: Mapping[str, tuple[int, ...]]) -> str:
    digest = hashlib.sha256("".join(f"{name} {shapes[name]}\n" for name in sorted(shapes)).encode())
    return f"shapes:{digest.hexdigest()}"
