"""Whether two machines have the same: this pack, and the files and nodes that the workflows name, as their ComfyUI
finds them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from .loopback import request

PACK = Path(__file__).absolute().parents[2]
_END_BYTES = 2**20
_LONGEST_NAME = 255
Found = Mapping[str, str]
"""What each file is, in a few words, by its kind and name; nodes that are known, likewise."""


def pack_hash() -> str:
    """SHA-256 of the code of this pack."""
    digest = hashlib.sha256()
    for path in sorted(path for room in ("headforcing_core", "nodes") for path in (PACK / room).rglob("*.py")):
        digest.update(path.relative_to(PACK).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def folder_of(kind: str, comfyui: Path, arguments: Sequence[str]) -> Path:
    """Where a ComfyUI that is started with these arguments has its folder `input` or `output`."""
    words = [word for argument in arguments for word in argument.split("=", 1 if argument.startswith("--") else 0)]
    given = dict(zip(words, words[1:], strict=False))
    return Path(given.get(f"--{kind}-directory") or Path(given.get("--base-directory") or comfyui) / kind)


def found_by(url: str, texts: Iterable[str], classes: Iterable[str]) -> Found:
    """What a ComfyUI finds of files by these names, in its folders of models and of inputs, and of these nodes. OSError
    when it does not answer."""
    names = [text for text in texts if 0 < len(text.encode()) <= _LONGEST_NAME and text.isprintable()]
    found = {
        f"{kind}/{name}": _described(path)
        for kind, folders in _folders(url).items()
        for name in names
        if (path := next((folder / name for folder in folders if (folder / name).is_file()), None))
    }
    known = [each for each in classes if json.loads(request(f"{url}/object_info/{quote(each, safe='')}"))]
    return {**found, **{f"node {each}": "known" for each in known}}


def difference(one: Found, other: Found, machine: str, first: str) -> str:
    """What is not the same, a sentence; empty when nothing is."""
    for name in sorted({*one, *other}):
        if one.get(name) != other.get(name):
            here, there = (found.get(name, "not there") for found in (one, other))
            return (
                f"{name} is {here} on {machine} and {there} on {first}, which was there first. A film that goes from "
                "one machine to the other would be another film; copy it over."
            )
    return ""


def _folders(url: str) -> dict[str, Sequence[Path]]:
    models: list[dict[str, object]] = json.loads(request(f"{url}/experiment/models"))
    kinds = {str(each["name"]): [Path(str(folder)) for folder in _listed(each["folders"])] for each in models}
    return {**kinds, "input": [_input_folder(url)]}


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _input_folder(url: str) -> Path:
    program, *arguments = json.loads(request(f"{url}/system_stats"))["system"]["argv"]
    return folder_of("input", Path(program).parent, arguments)


def _described(path: Path) -> str:
    """Its size and a hash of its two ends, which tell files of models apart in no time."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        digest = hashlib.sha256(file.read(_END_BYTES))
        file.seek(max(0, size - _END_BYTES))
        digest.update(file.read(_END_BYTES))
    return f"{size} bytes, {digest.hexdigest()[:12]}"
