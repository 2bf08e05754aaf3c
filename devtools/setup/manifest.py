"""What a folder should hold, so that damage is seen before it becomes a strange error."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import cast


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(folder: Path) -> dict[str, str]:
    """Every file under `folder` (compiled Python left out): its relative path with slashes -> its SHA-256."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}


def damaged_files(folder: Path, manifest: dict[str, str]) -> list[str]:
    """The files of `manifest` that are missing or changed under `folder`. Files beyond the manifest do not matter."""
    return [name for name, digest in manifest.items() if not _is_whole(folder / name, digest)]


def _is_whole(path: Path, digest: str) -> bool:
    try:
        return sha256_of(path) == digest
    except OSError:
        return False


def write(path: Path, manifest: dict[str, str]) -> None:
    """Save a manifest, whole or not at all."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(json.dumps(manifest, indent=0), encoding="utf-8")
    os.replace(temporary, path)


def read(path: Path) -> dict[str, str]:
    """A saved manifest; empty when there is none or it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return cast(dict[str, str], content) if isinstance(content, dict) else {}


def replace_folder(new: Path, folder: Path) -> None:
    """Put the folder `new` in the place of `folder`; the old content is never mixed with the new."""
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(new, folder)
    shutil.rmtree(old, ignore_errors=True)
