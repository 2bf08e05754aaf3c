"""The folder of one kept run: its place, the names in it, and what may lie there."""

import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

from ..files.plain_names import numbered_name

RUN_FILE = "run.json"
JOURNAL_FILE = "journal.jsonl"
REPORT_FILE = "report.json"
VIDEO_FILE = "video.mp4"
TIMELINE_FILE = "timeline.png"
STRIP_FILE = "strip.jsonl"
MADE_FILES = (VIDEO_FILE, REPORT_FILE, TIMELINE_FILE, STRIP_FILE)  # of all chunks together
NEXT_VIDEO_FILE = "video_next.mp4"
LOCK_FILE = "lock"
ON_EXISTING = ("resume", "new", "replace")
_CHUNK_FILE = re.compile(r"chunk_(\d{5,6})\.safetensors")
_TEMPORARY = re.compile(r"\.(.+?)(\.[A-Za-z0-9_-]*\.\d+)?\.tmp")  # 0.1.0 had no host and pid in it
_OTHER_NAME = "Choose another run_name, set on_existing_run to new, or move it away."


def chunk_file(chunk: int) -> str:
    """The name of a chunk's file."""
    return f"chunk_{chunk:05d}.safetensors"


def chunk_number(name: str) -> int | None:
    """Which chunk a file holds by its name; None for any other file."""
    match = _CHUNK_FILE.fullmatch(name)
    return int(match[1]) if match and chunk_file(int(match[1])) == name else None


def chunks_from(first: int, names: Iterable[str]) -> list[str]:
    """Those names that are of chunk files, from a chunk on."""
    return [name for name in names if (number := chunk_number(name)) is not None and number >= first]


def is_own_file(name: str) -> bool:
    """Whether a run writes files of this name; temporaries and the lock are not among them."""
    return name in (RUN_FILE, JOURNAL_FILE, *MADE_FILES) or chunk_number(name) is not None


def place_for(root: Path, name: str, on_existing: str) -> Path:
    """The folder for a run, made if it is not there; for `new` one that was not there. RuntimeError when something else
    lies there, or it is a link."""
    blocked = next((each for each in (root, *root.absolute().parents) if each.is_symlink() or each.exists()), root)
    if os.path.lexists(blocked) and not blocked.is_dir():  # the system would say that it exists
        what = "a link to no folder, as to a disk that is not there" if blocked.is_symlink() else "a file"
        raise RuntimeError(
            f"{blocked.name} is {what}, where the folder of runs should be: {blocked}. Nothing can be kept there. "
            "Connect that disk, move it away, or leave run_name empty."
        )
    root.mkdir(parents=True, exist_ok=True)
    folder = root / name
    if on_existing == "new":
        return next(each for each in _numbered(folder) if _made(each))
    _made(folder)
    check_place(folder)
    return folder


def check_place(folder: Path) -> None:
    """RuntimeError unless a run's folder is a folder in its root, and no link."""
    if folder.is_symlink() or not folder.is_dir() or folder.resolve().parent != folder.parent.resolve():
        raise RuntimeError(
            f"{folder.name!r} in the folder of runs is a link or a file, not a folder. A run is kept inside that "
            f"folder and nowhere else. {_OTHER_NAME}"
        )


def own_files(folder: Path) -> dict[str, int]:
    """The files of a run that are there, with their bytes. RuntimeError when one is a link or no plain file, or when
    there are files but no run.json."""
    entries = {}
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # a temporary of the run that has the folder open
            entries[path.name] = path.lstat()
    for name, found in entries.items():
        if _is_known(name) and not stat.S_ISREG(found.st_mode):
            raise RuntimeError(
                f"{name} of the run {folder.name!r} is a link or a folder, not a file. A run reads and writes plain "
                "files in its own folder alone. Put the file itself there, or choose another run_name."
            )
    own = {name: found.st_size for name, found in entries.items() if is_own_file(name)}
    odd = [name for name in entries if name != LOCK_FILE and not _is_temporary(name)]
    if odd == [JOURNAL_FILE] and not own[JOURNAL_FILE]:  # a run was just about to begin
        return {}
    if RUN_FILE not in own and odd:
        raise RuntimeError(
            f"The folder {folder.name!r} holds {min(odd)[:80]!r} but no run.json, so it is not known to be a run and "
            f"was not touched. {_OTHER_NAME}"
        )
    return own


def remove_temporaries(folder: Path) -> None:
    """Remove what a killed process was writing. Only under the lock."""
    for path in folder.iterdir():
        if _is_temporary(path.name):
            with suppress(PermissionError):  # somebody plays video_next.mp4: it is removed another time
                path.unlink()


def _numbered(folder: Path) -> Iterator[Path]:
    yield folder
    for number in count(2):
        yield folder.with_name(numbered_name(folder.name, f"_{number}"))


def _made(folder: Path) -> bool:
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


def _is_known(name: str) -> bool:
    return name == LOCK_FILE or is_own_file(name) or _is_temporary(name)


def _is_temporary(name: str) -> bool:
    match = _TEMPORARY.fullmatch(name)
    return name == NEXT_VIDEO_FILE or (match is not None and (is_own_file(match[1]) or match[1] == NEXT_VIDEO_FILE))
