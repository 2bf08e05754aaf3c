"""The packages that newer versions of ComfyUI bring - page, comfy-kitchen, comfy-aimdo - in a folder of their own.

A ComfyUI that finds this folder on PYTHONPATH takes them in place of those of its environment, which stays as it is.
"""

from __future__ import annotations

import hashlib
import shutil
from importlib import metadata
from pathlib import Path

from ..paths import REQUIREMENTS, say
from . import manifest
from .package_folder import damage_of_packages, mark_whole
from .pip import pip

_PINS = REQUIREMENTS / "newer.txt"
_MARK = "complete.json"


def ensure_newer(cache: Path, python: Path) -> Path:
    """The folder with the versions of newer.txt, filled by the pip of `python` when it is missing or damaged; raises
    Problem."""
    key = hashlib.sha256(_PINS.read_bytes() + str(python).encode()).hexdigest()[:12]
    folder = cache / f"newer-{key}"
    if damage_of_packages(folder, folder / _MARK):
        _fill(folder, cache, python, pins())
    return folder


def install_newest(cache: Path, python: Path) -> Path:
    """The folder with the newest versions that the package index has, filled anew; raises Problem."""
    folder = cache / "newest"
    _fill(folder, cache, python, [pin.partition("==")[0] for pin in pins()])
    return folder


def pins() -> list[str]:
    """The packages, each with its version."""
    return [line for line in _PINS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]


def versions_in(folder: Path) -> dict[str, str]:
    """The packages in a folder by name, and their versions."""
    found = metadata.distributions(path=[str(folder)])
    return {each.metadata["Name"].replace("_", "-"): each.version for each in found}


def _fill(folder: Path, cache: Path, python: Path, packages: list[str]) -> None:
    say(f"Installing {', '.join(packages)} ...")
    temporary = cache / f"{folder.name}.new"
    shutil.rmtree(temporary, ignore_errors=True)
    pip(python, cache / "pip.log", ["install", "--no-deps", "--target", str(temporary), *packages])
    mark_whole(temporary, temporary / _MARK)
    manifest.replace_folder(temporary, folder)
