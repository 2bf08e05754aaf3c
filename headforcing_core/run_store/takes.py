"""Old takes: when chunks of a run are made anew, the run as it was is kept beside it as a run of its own."""

import os
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from ..files.plain_names import numbered_name
from ..files.safe_files import read_file, sync_folder
from .folder import JOURNAL_FILE, MADE_FILES, RUN_FILE, is_own_file
from .journal import MOST_BYTES


def keep_take(folder: Path, files: dict[str, int]) -> str:
    """Keep a run, whose files are given with their bytes, beside it as `NAME_take_1`, `NAME_take_2`, ..., and return
    that name. Only under the run's lock.

    Its chunk files are linked, or copied where links cannot be; its journal is copied, since it will grow; its video,
    report, timeline and strip move over, or are copied when another program holds them. Nothing of the run itself is
    changed before the take is complete, and a take that is there already - of a process that was killed before it could
    go on - is not kept twice. OSError, with the run as it was, when there is no room.
    """
    kept = {name: size for name, size in files.items() if name not in MADE_FILES}
    take = next(each for each in _numbered(folder) if not os.path.lexists(each) or _holds(folder, each, kept))
    if not take.exists():
        _make(folder, take, kept)
    for name in MADE_FILES:
        if name in files:
            _move(folder / name, take / name)
    sync_folder(take)
    return take.name


def free_take(folder: Path) -> Path:
    """Where the next take of a run goes."""
    return next(each for each in _numbered(folder) if not os.path.lexists(each))


def remove_unfinished(folder: Path) -> None:
    """Remove the take that a killed process was making. Only under the run's lock."""
    unfinished = _unfinished(folder)
    if unfinished.is_symlink():
        unfinished.unlink()
    if not unfinished.is_dir():
        return
    for path in unfinished.iterdir():
        if is_own_file(path.name):
            path.unlink()
    unfinished.rmdir()


def _numbered(folder: Path) -> Iterator[Path]:
    return (folder.with_name(numbered_name(folder.name, f"_take_{number}")) for number in count(1))


def _make(folder: Path, take: Path, kept: dict[str, int]) -> None:
    # Under a name that no run can have until it is whole, so that half a take is never taken for a run.
    unfinished = _unfinished(folder)
    remove_unfinished(folder)
    unfinished.mkdir()
    try:
        for name in kept:
            if name == JOURNAL_FILE or not _is_linked(folder / name, unfinished / name):
                _copy(folder / name, unfinished / name)
        sync_folder(unfinished)
        os.rename(unfinished, take)
    finally:
        remove_unfinished(folder)
    sync_folder(folder.parent)


def _move(source: Path, target: Path) -> None:
    try:
        os.replace(source, target)
    except PermissionError:  # a player that holds it, on Windows; the one that stays is written over in time
        _copy(source, target)


def _unfinished(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}_take.tmp")


def _is_linked(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except OSError:  # not every file system has links
        return False
    return True


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target, follow_symlinks=False)
    with target.open("rb+") as file:
        os.fsync(file.fileno())


def _holds(folder: Path, take: Path, kept: dict[str, int]) -> bool:
    if take.is_symlink() or not all(_size(take / name) == size for name, size in kept.items()):
        return False
    told = [name for name in (RUN_FILE, JOURNAL_FILE) if name in kept]
    return all(read_file(take / name, MOST_BYTES) == read_file(folder / name, MOST_BYTES) for name in told)


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() and not path.is_symlink() else None
