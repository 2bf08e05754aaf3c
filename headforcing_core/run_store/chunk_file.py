"""One finished chunk as a safetensors file: a single tensor `latent`, checked before anything is built of it."""

import errno
import hashlib
import math
import struct
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ..files.safe_files import read_file
from ..files.strict_json import Fields, integer, items, parse_json

_MOST_HEADER = 1024


def most_bytes(shape: tuple[int, ...]) -> int:
    """The most bytes that the file of a chunk takes."""
    return 8 + _MOST_HEADER + 4 * math.prod(shape)


def pack_chunk(latent: Tensor) -> bytes:
    """A chunk (1, channels, frames, height, width), float32 on the CPU, as the bytes of its file."""
    return save({"latent": latent.contiguous()})


def unpack_chunk(data: bytes, shape: tuple[int, ...]) -> Tensor:
    """The chunk in the bytes of a file. ValueError, in a few words, unless they hold exactly one finite float32 tensor
    `latent` of this shape."""
    if len(data) < 8:
        raise ValueError(f"it has {len(data)} bytes")
    (header_bytes,) = struct.unpack("<Q", data[:8])
    if header_bytes > min(_MOST_HEADER, len(data) - 8):
        raise ValueError(f"its header claims {header_bytes} bytes")
    header = Fields.of(parse_json(data[8 : 8 + header_bytes]), "the header", ("latent",))
    described = Fields.of(header.values["latent"], "latent", ("dtype", "shape", "data_offsets"))
    if described.text("dtype") != "F32":
        raise ValueError(f"latent has type {described.text('dtype')[:20]}, not F32")
    numbers = {
        name: tuple(integer(place, value, 0, 2**62) for place, value in items(f"latent.{name}", described.values[name]))
        for name in ("shape", "data_offsets")
    }
    if numbers["shape"] != shape:
        raise ValueError(f"latent has shape {list(numbers['shape'][:8])}, not {list(shape)}")
    wanted = 4 * math.prod(shape)
    if numbers["data_offsets"] != (0, wanted) or len(data) - 8 - header_bytes != wanted:
        raise ValueError(f"it holds {len(data) - 8 - header_bytes} bytes of numbers, not {wanted}")
    try:
        latent = load(data)["latent"]
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    if not torch.isfinite(latent).all():
        raise ValueError("it holds numbers that are not finite")
    return latent


def read_chunk(path: Path, sha256: str, shape: tuple[int, ...]) -> Tensor:
    """The chunk in a file whose hash is known. ValueError, in a few words, for a file that is missing, changed or
    damaged; OSError when the disk is at fault."""
    try:
        data = read_file(path, most_bytes(shape))
    except FileNotFoundError:
        raise ValueError("it is missing") from None
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise ValueError(f"the disk cannot read it ({error.strerror})") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"its {len(data)} bytes are not those that were written")
    return unpack_chunk(data, shape)
