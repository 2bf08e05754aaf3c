"""Make torchvision and torchaudio importable next to a CPU-only torch.

The package index carries both only as CUDA builds on Linux. Their extensions then look for CUDA libraries and the
imports fail, although ComfyUI needs no more than their Python parts: transforms, models, resampling.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import subprocess
from pathlib import Path

from ..paths import say

_MARK = "# comfyui-head-forcing: schemas of the operators that the unloadable extension would have declared\n"
_SCHEMAS = (
    _MARK
    + """import torch as _torch

if not hasattr(_torch.ops.torchvision, "nms"):
    _schemas = _torch.library.Library("torchvision", "DEF")
    _schemas.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _schemas.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

"""
)


def make_importable(python: Path, site_packages: Path) -> None:
    """Mend the environment of `python` where it needs it: torch without CUDA, and an import that fails."""
    if not _runs(python, "import sys, torch; sys.exit(torch.version.cuda is not None)"):
        return
    if not _runs(python, "import torchvision"):
        say("  torchvision: declaring the operators that its CUDA extension would have declared")
        declare_torchvision_operators(site_packages)
    if not _runs(python, "import torchaudio"):
        say("  torchaudio: removing its CUDA extensions")
        remove_torchaudio_extensions(site_packages)


def declare_torchvision_operators(site_packages: Path) -> None:
    """Put the two schemas that torchvision decorates at import in front of the module that does so."""
    module = site_packages / "torchvision" / "_meta_registrations.py"
    source = module.read_text(encoding="utf-8")
    if _MARK not in source:
        module.write_text(_SCHEMAS + source, encoding="utf-8", newline="\n")
    _correct_record(site_packages, "torchvision")


def remove_torchaudio_extensions(site_packages: Path) -> None:
    """Remove the extensions: torchaudio's loader steps over files that are absent."""
    for library in (site_packages / "torchaudio" / "lib").glob("*.so"):
        library.unlink()
    _correct_record(site_packages, "torchaudio")


def _correct_record(site_packages: Path, package: str) -> None:
    """Bring a distribution's RECORD in line with its files, so that the environment can still be verified."""
    for record in site_packages.glob(f"{package}-*.dist-info/RECORD"):
        rows = list(csv.reader(record.read_text(encoding="utf-8").splitlines()))
        kept = [_as_it_is(site_packages, row) for row in rows if _stays(site_packages, row[0])]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(kept)
        temporary = record.with_name("RECORD.new")
        temporary.write_text(text.getvalue(), encoding="utf-8")
        os.replace(temporary, record)


def _stays(site_packages: Path, name: str) -> bool:
    return not name.endswith(".so") or (site_packages / name).exists()


def _as_it_is(site_packages: Path, row: list[str]) -> list[str]:
    name, digest, _ = row
    if not digest or not name.endswith("_meta_registrations.py"):
        return row
    content = (site_packages / name).read_bytes()
    sha256 = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return [name, f"sha256={sha256}", str(len(content))]


def _runs(python: Path, code: str) -> bool:
    return subprocess.run([str(python), "-c", code], capture_output=True, check=False).returncode == 0
