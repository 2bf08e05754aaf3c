"""The one error that a user of dev.py is meant to read."""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Callable
from types import FrameType

from headforcing_core.farm.process import ServerFailed


class Problem(Exception):
    """Something the user can mend: what is wrong (with its value), why, and what to do. Shown without a traceback."""

    def __init__(self, what: str, why: str, remedy: str) -> None:
        super().__init__(f"{what}\n  why:  {why}\n  do:   {remedy}")


_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_HELD = {errno.EACCES, errno.EPERM, errno.EBUSY, errno.EROFS, errno.ENOTEMPTY}
_WINDOWS_FULL = {39, 112}
_WINDOWS_HELD = {5, 32, 33}


def problem_of_os_error(error: OSError) -> Problem | None:
    """The Problem behind an error of the file system, or None when it is no full disk and no held or forbidden file."""
    place = error.filename or "a file of the cache folder"
    windows_code = getattr(error, "winerror", None)
    if error.errno in _FULL or windows_code in _WINDOWS_FULL:
        return full_disk(str(place))
    if windows_code in _WINDOWS_HELD or error.errno in _HELD:
        return held_file(str(place), str(error))
    return None


def full_disk(place: str) -> Problem:
    """The Problem of a disk that ran full while `place` was written."""
    return Problem(
        f"The disk is full: {place} could not be written.",
        "The environment, ComfyUI and the fixtures need about 5 GB, twice that where PyTorch comes with CUDA.",
        "Free some space, or set XDG_CACHE_HOME (Windows: LOCALAPPDATA) to a folder on a larger disk; run it again.",
    )


def held_file(place: str, detail: str) -> Problem:
    """The Problem of a file that may not be written or removed."""
    return Problem(
        f"{place} cannot be written or removed ({detail}).",
        "Another process holds the file open, or it belongs to another user.",
        "Stop other runs of dev.py and ComfyUI (or fix the owner of the file), then run it again.",
    )


def exit_code_of(work: Callable[[], int], interrupted: int = 130) -> int:
    """Do the work of a command and give its exit code: 2 for a Problem or a ServerFailed, which is printed without a
    traceback, and `interrupted` after Ctrl-C or SIGTERM, which end every `with` on their way."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return work()
    except KeyboardInterrupt:
        return interrupted
    except (Problem, ServerFailed) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    except OSError as error:
        if (problem := problem_of_os_error(error)) is None:
            raise
        print(f"error: {problem}", file=sys.stderr)
        return 2


def _interrupt(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one must not disturb the tidying up
    raise KeyboardInterrupt
