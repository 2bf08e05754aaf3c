"""The folder that a ComfyUI works in: its models, custom nodes and outputs, apart from its source."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ..paths import REPOSITORY

_FOLDERS = ("custom_nodes", "user", "input", "output", "temp", "models")
_OWN_FILES = REPOSITORY / "tests" / "fixtures" / "base"
_PACKS = {"comfyui-head-forcing": REPOSITORY, "headforcing_test_nodes": REPOSITORY / "tests" / "test_nodes"}

_NAMED_IN = {  # the folders in which a loader looks
    "CLIPLoader": {"clip_name": ("text_encoders",)},
    "VAELoader": {"vae_name": ("vae", "vae_approx")},
}


@contextmanager
def temporary_base_directory(models: Path) -> Generator[Path]:
    """A fresh base directory with the pack, these models, and what else the shipped workflows name: a picture, a video
    and a head profile, and empty files in place of models that are not there. Removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="head-forcing-"))
    try:
        fill(folder)
        link_models(models, folder)
        name_models(folder / "models")
        shutil.copytree(_OWN_FILES, folder, dirs_exist_ok=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fill(folder: Path) -> None:
    """Put the pack and its test nodes into a base directory; what else lies there stays."""
    for name in _FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, source in _PACKS.items():
        link_folder(source, folder / "custom_nodes" / name)


def link_models(models: Path, folder: Path) -> None:
    """Put the files of a models folder into that of a base directory."""
    for source in (path for path in models.rglob("*") if path.is_file()):
        link_file(source, folder / "models" / source.relative_to(models))


def name_models(models: Path) -> None:
    """Put empty files in place of the text encoders and VAEs that the shipped workflows name and that are not there:
    for what is missing the page asks the address that the workflow gives."""
    for workflow in (REPOSITORY / "workflows" / "api").glob("*.json"):
        for node in json.loads(workflow.read_text(encoding="utf-8")).values():
            for input_name, folders in _NAMED_IN.get(node["class_type"], {}).items():
                name = node["inputs"][input_name]
                if not any((models / folder / name).exists() for folder in folders):
                    (models / folders[0]).mkdir(parents=True, exist_ok=True)
                    (models / folders[0] / name).touch()


def link_file(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`; a copy where the file system cannot link the two."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and target.samefile(source):
        return
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def link_folder(source: Path, target: Path) -> None:
    """Make `target` lead to the folder `source`: a symbolic link, else a junction (Windows), else a copy."""
    _remove(target)
    try:
        os.symlink(source, target, target_is_directory=True)
    except OSError:
        if sys.platform != "win32":
            raise
        _join_or_copy(source, target)


def _remove(target: Path) -> None:
    if target.is_symlink():
        target.unlink()
    elif target.exists():
        shutil.rmtree(target)  # of a junction it removes the junction alone


if sys.platform == "win32":
    import _winapi

    def _join_or_copy(source: Path, target: Path) -> None:
        try:
            _winapi.CreateJunction(str(source), str(target))
        except OSError:
            shutil.copytree(source, target, ignore=shutil.ignore_patterns(".git", "build", "tests", "__pycache__"))
