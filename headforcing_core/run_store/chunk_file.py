"""One finished chunk as a safetensors file: a tensor `latent` and, of a model that makes several chunks at once, a
`window` with the noisy ones behind it; checked before anything is built of them."""

import errno
import hashlib
import math
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ..files.safe_files import read_file
from ..files.strict_json import Fields, integer, items, parse_json

MOST_HEADER = 1024


def most_bytes(shape: tuple[int, ...], window_frames: int = 0) -> int:
    """The most bytes that the file of a chunk takes."""
    return 8 + MOST_HEADER + 4 * sum(map(math.prod, _shapes(shape, window_frames).values()))


def pack_chunk(latent: Tensor, window: Tensor | None = None) -> bytes:
    """A chunk (1, channels, frames, height, width), and what stands behind it, float32 on the CPU, as the bytes of its
    file."""
    kept = {"latent": latent} if window is None else {"latent": latent, "window": window}
    return save({name: tensor.contiguous() for name, tensor in kept.items()})


def unpack_chunk(data: bytes, shape: tuple[int, ...], window_frames: int = 0) -> Tensor:
    """The chunk in the bytes of a file. ValueError, in a few words, unless they hold exactly one finite float32 tensor
    `latent` of this shape, and one `window` of so many frames if there are to be any."""
    return _unpacked(data, shape, window_frames)["latent"]


def read_chunk(path: Path, sha256: str, shape: tuple[int, ...], window_frames: int = 0) -> Tensor:
    """The chunk in a file whose hash is known. ValueError, in a few words, for a file that is missing, changed or
    damaged; OSError when the disk is at fault."""
    return _read(path, sha256, shape, window_frames)["latent"]


def read_window(path: Path, sha256: str, shape: tuple[int, ...], window_frames: int) -> Tensor:
    """What stands behind the chunk in such a file. Errors as there."""
    return _read(path, sha256, shape, window_frames)["window"]


def _shapes(shape: tuple[int, ...], window_frames: int) -> Mapping[str, tuple[int, ...]]:
    """Those of what a file holds, in its order."""
    window = (*shape[:2], window_frames, *shape[3:])
    return {"latent": shape, "window": window} if window_frames else {"latent": shape}


def _unpacked(data: bytes, shape: tuple[int, ...], window_frames: int) -> Mapping[str, Tensor]:
    if len(data) < 8:
        raise ValueError(f"it has {len(data)} bytes")
    (header_bytes,) = struct.unpack("<Q", data[:8])
    if header_bytes > min(MOST_HEADER, len(data) - 8):
        raise ValueError(f"its header claims {header_bytes} bytes")
    shapes, begin = _shapes(shape, window_frames), 0
    header = Fields.of(parse_json(data[8 : 8 + header_bytes]), "the header", tuple(shapes))
    held = len(data) - 8 - header_bytes
    for name, wanted in shapes.items():
        end = begin + 4 * math.prod(wanted)
        offsets = _described(header, name, wanted)
        if offsets != (begin, end) or held < end:
            raise ValueError(f"it holds {held} bytes of numbers, not {end}")
        begin = end
    if held != begin:
        raise ValueError(f"it holds {held} bytes of numbers, not {begin}")
    try:
        found = load(data)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    if not all(torch.isfinite(tensor).all() for tensor in found.values()):
        raise ValueError("it holds numbers that are not finite")
    return found


def _described(header: Fields, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Where a tensor of this shape lies."""
    described = Fields.of(header.values[name], name, ("dtype", "shape", "data_offsets"))
    if described.text("dtype") != "F32":
        raise ValueError(f"{name} has type {described.text('dtype')[:20]}, not F32")
    found, offsets = (
        tuple(integer(place, value, 0, 2**62) for place, value in items(f"{name}.{each}", described.values[each]))
        for each in ("shape", "data_offsets")
    )
    if found != shape:
        raise ValueError(f"{name} has shape {list(found[:8])}, not {list(shape)}")
    return offsets


def _read(path: Path, sha256: str, shape: tuple[int, ...], window_frames: int) -> Mapping[str, Tensor]:
    try:
        data = read_file(path, most_bytes(shape, window_frames))
    except FileNotFoundError:
        raise ValueError("it is missing") from None
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise ValueError(f"the disk cannot read it ({error.strerror})") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"its {len(data)} bytes are not those that were written")
    return _unpacked(data, shape, window_frames)
