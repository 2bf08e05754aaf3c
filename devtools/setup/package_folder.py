"""Whether a folder of installed packages is whole, by the lists of files that the packages bring."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from . import manifest


def damage_of_packages(packages: Path, mark: Path) -> str:
    """What is wrong with a folder of packages, in a few words; empty when it is whole (a quick look at every file that
    its packages list: there, and of the listed size). `mark` is the file that mark_whole wrote."""
    records = manifest.read(mark)
    if not records:
        return "its set-up never finished" if packages.exists() else "it does not exist"
    if damaged := manifest.damaged_files(packages, records):
        return f"{damaged[0]} is missing or changed"
    for record in records:
        for name, _, size in csv.reader((packages / record).read_text(encoding="utf-8").splitlines()):
            if not name.endswith(".pyc") and not _has_size(os.path.join(packages, name), size):
                return f"{name} is missing or cut short"
    return ""


def _has_size(path: str, size: str) -> bool:
    try:
        found = os.stat(path).st_size
    except OSError:
        return False
    return not size or found == int(size)


def mark_whole(packages: Path, mark: Path) -> None:
    """Declare a folder of packages whole as it is now: note the RECORD of each package in the file `mark`."""
    found = packages.glob("*.dist-info/RECORD")
    manifest.write(mark, {f"{path.parent.name}/RECORD": manifest.sha256_of(path) for path in found})
