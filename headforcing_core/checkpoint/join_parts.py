"""Join the parts that a model is published in to one file, as Load AR Model and ComfyUI's own loaders take it.

usage: python -m headforcing_core.checkpoint.join_parts PART TARGET.safetensors

PART is any one of the files, such as model-00001-of-00006.safetensors; the others lie beside it. To be started from the
folder of this pack with ComfyUI's Python. It needs as much main memory as the model is large, or as much swap.
"""

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..files.safe_files import temporary_of

PART = re.compile(r"(?P<before>.*?)(?P<number>\d{4,5})-of-(?P<all>\d{4,5})(?P<after>\b.*)")


def parts_of(part: Path) -> list[Path]:
    """All files of the model that one is a part of, in their order. ValueError for a name that is none of a part, and
    for parts that are not there."""
    found = PART.fullmatch(part.name)
    if not found:
        raise ValueError(
            f"{part.name} is not named as a part of a model, such as model-00001-of-00006.safetensors. Name any one "
            "of the parts."
        )
    width, count = len(found["number"]), int(found["all"])
    names = [f"{found['before']}{n:0{width}}-of-{found['all']}{found['after']}" for n in range(1, count + 1)]
    missing = [name for name in names if not (part.parent / name).is_file()]
    if missing:
        raise ValueError(
            f"{len(missing)} of the {count} parts are not beside {part.name}, the first is {missing[0]}. Download them "
            "into the same folder."
        )
    return [part.parent / name for name in names]


def join(parts: Iterable[Path], target: Path) -> int:
    """Write the tensors of all parts into one safetensors file, whole or not at all; how many there are. What stands at
    the head of the parts is kept. ValueError for a target that is there, for a part that cannot be read, for a tensor
    that two parts have, and for heads that say different things."""
    if target.exists():
        raise ValueError(f"{target} is there already. Give another name, or delete it first.")
    tensors: dict[str, Tensor] = {}
    header: dict[str, str] = {}
    for path in parts:
        held, head = _read(path)
        twice = sorted(held.keys() & tensors.keys())
        if twice:
            raise ValueError(f"{path.name} holds {twice[0]}, as a part before it does. Download the parts anew.")
        other = next((key for key in head if header.get(key, head[key]) != head[key]), None)
        if other:
            raise ValueError(
                f"{path.name} says at its head of {other} what a part before it does not say. One file has one head. "
                "Download the model as one file, or the parts anew."
            )
        tensors |= held
        header |= head
    temporary = temporary_of(target)
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, header)
        temporary.rename(target)
    finally:
        temporary.unlink(missing_ok=True)
    return len(tensors)


def _read(path: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    """The tensors of a part, and what stands at its head."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                head = file.metadata() or {}
            return load_file(path), head
        held = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path.name} cannot be read as tensors alone. Download it again.") from error
    if not isinstance(held, dict) or not all(isinstance(value, Tensor) for value in held.values()):
        raise ValueError(f"{path.name} holds more than named tensors. Join the safetensors files of the same model.")
    return held, {}


def main() -> None:
    """Join what the command line names."""
    if len(sys.argv) != 3 or not sys.argv[2].endswith(".safetensors"):
        raise SystemExit(__doc__)
    target = Path(sys.argv[2])
    try:
        count = join(parts_of(Path(sys.argv[1])), target)
    except (ValueError, OSError, SafetensorError) as error:  # the last of a full disk
        raise SystemExit(str(error)) from error
    print(f"{target}: {count} tensors")  # noqa: T201


if __name__ == "__main__":
    main()
