"""Hashes that name the weights of a model."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from .tensor_names import ATTENTION_TAG


def weights_fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of all tensors."""
    return weights_fingerprints(tensors, {})[0]


def weights_fingerprints(tensors: Mapping[str, Tensor], left_out: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The fingerprint of these tensors; then, if anything was left out, of all together. Each is read once."""
    digests = [hashlib.sha256() for _ in ((tensors, left_out) if left_out else (tensors,))]
    for name, tensor in sorted({**left_out, **tensors}.items(), key=lambda named: named[0]):
        for part in hashed_parts(name, tensor):
            for digest in digests if name in tensors else digests[1:]:
                digest.update(part)
    return tuple(f"weights:{digest.hexdigest()}" for digest in digests)


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
