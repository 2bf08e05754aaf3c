"""The takes of a run, what each of them shares with it, and how one of them becomes the run (docs/takes.md).

To choose a take, two folders change places by three renames, so nothing is copied and nothing is deleted:

    NAME -> .NAME_chosen.tmp      NAME_take_2 -> NAME      .NAME_chosen.tmp -> NAME_take_2

Ended between two of them, the run lies under the name that no run can have; whoever next asks for it puts it back, or
beside the one that was chosen. In one process nobody comes between them. Of two processes one fails, since a rename
never writes over a folder that holds something, and each state in between is one of these three.
"""

import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ..files.disk_room import disk_errors, reason_of
from ..files.plain_names import check_plain_name, numbered_name
from ..files.safe_files import sync_folder
from .folder import RUN_FILE, check_place, own_files
from .ledger import Ledger, read_record
from .lock import lock_folder
from .record import RunRecord
from .takes import free_take

_TAKE = re.compile(r".*(_take_([1-9]\d{0,8}))")
_NOTHING_LOST = "Nothing of it was lost."
_choosing = threading.Lock()


@dataclass(frozen=True)
class Take:
    """A run, or a take of it, as its folder holds it: what decided about its chunks, None where that cannot be read,
    for which `problem` is the reason; the SHA-256 of its finished chunks; and the first chunk that is not the run's,
    None where all are."""

    folder: Path
    is_run: bool
    record: RunRecord | None
    chunks: tuple[str, ...] = ()
    problem: str = ""
    differs_from: int | None = None


def list_takes(root: Path, name: str) -> list[Take]:
    """The run `name` and its takes, by number; empty when there is no such run. It may be open meanwhile. ValueError
    for a name that is not plain, RuntimeError when the disk is at fault."""
    check_plain_name("run_name", name)
    folder = root / name
    with disk_errors(root, f"The takes of the run {name!r} could not be read", _NOTHING_LOST), settled(root, name):
        if not folder.is_dir() or folder.is_symlink():
            return []
        run, *takes = [_read(each, is_run=each == folder) for each in (folder, *_takes_of(folder))]
    return [run, *(_compared(take, run) for take in takes)]


def choose_take(root: Path, name: str, take: str) -> RunRecord:
    """Let a take and the run change places: the run as it was is the take of that name from now on. Returns what the
    chosen one was made with.

    ValueError for a name that is not plain; RuntimeError when there is no such take, one of the two is in use or
    damaged in its run.json, or the disk does not let it. After an error both are there, under their names or, when the
    disk is at fault, the run as a take of another number.
    """
    check_plain_name("run_name", name)
    folder = root / name
    failed = f"{take[:120]!r} could not become the run {name!r}"
    with disk_errors(root, failed, "Both are still there."), settled(root, name), ExitStack() as held:
        chosen = next((each for each in _takes_of(folder) if each.name == take), None)
        if chosen is None or not folder.is_dir():
            raise RuntimeError(
                f"There is no take {take[:120]!r} of the run {name!r}. Only a take that lies beside the run can be "
                "chosen. Look at its takes again."
            )
        for each in (folder, chosen):
            check_place(each)
            held.callback(lock_folder(each).release)
            if RUN_FILE not in own_files(each):
                raise RuntimeError(f"{each.name!r} holds no run. Nothing was changed. Choose another take.")
        record = read_record(chosen)
        if os.name == "nt":  # where a folder with an open file in it cannot be renamed, and so is as good as locked
            held.close()
        _exchange(folder, chosen)
    return record


@contextmanager
def settled(root: Path, name: str) -> Iterator[None]:
    """With a run in its place, where a process that was killed while it chose had moved it out of it. Meanwhile no take
    of any run is chosen by this process. RuntimeError when the disk does not let it."""
    with _choosing:
        _put_back(root, name)
        yield


def _put_back(root: Path, name: str) -> None:
    folder = root / name
    aside = _aside(folder)
    if not aside.is_dir() or aside.is_symlink():
        return
    with disk_errors(root, f"The run {name!r} lies in {aside.name} and could not be put back", _NOTHING_LOST):
        try:
            os.rename(aside, free_take(folder) if os.path.lexists(folder) else folder)
        except OSError:
            if aside.is_dir():  # else another process was faster
                raise
        sync_folder(root)


def _exchange(folder: Path, chosen: Path) -> None:
    steps = ((folder, _aside(folder)), (chosen, folder), (_aside(folder), chosen))
    try:
        for source, target in steps:
            os.rename(source, target)
            sync_folder(folder.parent)
    except OSError:
        _put_back(folder.parent, folder.name)
        raise


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}_chosen.tmp")


def _takes_of(folder: Path) -> list[Path]:
    found: list[tuple[int, Path]] = []
    for path in folder.parent.iterdir() if folder.parent.is_dir() else ():
        match = _TAKE.fullmatch(path.name)
        if match and path.name == numbered_name(folder.name, match[1]) and path.is_dir() and not path.is_symlink():
            found.append((int(match[2]), path))
    return [path for _, path in sorted(found)]


def _read(folder: Path, is_run: bool) -> Take:
    try:
        ledger = Ledger.read(folder)
    except OSError as error:
        return Take(folder, is_run, None, problem=f"{folder.name!r} cannot be read: {reason_of(error)}.")
    except RuntimeError as error:
        return Take(folder, is_run, None, problem=str(error))
    return Take(folder, is_run, ledger.record, tuple(chunk.sha256 for chunk in ledger.chunks))


def _compared(take: Take, run: Take) -> Take:
    if take.record is None or run.record is None:
        return take
    return replace(take, differs_from=_first_difference(take.chunks, run.chunks))


def _first_difference(one: Sequence[str], other: Sequence[str]) -> int | None:
    shared = min(len(one), len(other))
    differing = (chunk for chunk in range(shared) if one[chunk] != other[chunk])
    return next(differing, None if len(one) == len(other) else shared)
