"""Room on the disk: whether a run fits before it begins, and what to say when something could not be written."""

import errno
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .byte_words import bytes_in_words

_BESIDE = 1.25  # room for the video and run.json, as a share of the chunks
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_disk(folder: Path, chunks: int, chunk_bytes: int, freed_bytes: int = 0) -> None:
    """RuntimeError when a folder's disk has no room for the chunks still to be made, with a quarter more for the video.
    `freed_bytes` are those that these chunks will take the place of. The folder need not be there yet."""
    free, needed = free_on_disk(folder) + freed_bytes, math.ceil(chunks * chunk_bytes * _BESIDE)
    if needed > free:
        raise RuntimeError(
            f"The {chunks} chunks still to be made take {bytes_in_words(needed)} with their video, and "
            f"{bytes_in_words(free)} are free. The run would stop on a full disk. Make room, "
            "make the video shorter or smaller, or leave run_name empty."
        )


@contextmanager
def disk_errors(folder: Path, what: str, then: str) -> Iterator[None]:
    """Turns every OSError inside into a RuntimeError: `what` failed, why, what to do, and `then`, a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            free = bytes_in_words(free_on_disk(folder))
            raise RuntimeError(
                f"{what}: the disk is full ({error.strerror}; {free} free). Make room on the disk of the output "
                f"folder. {then}"
            ) from error
        raise RuntimeError(
            f"{what}: the disk does not let it ({reason_of(error)}). Check the output folder and its permissions, and "
            f"close the program that has the file open, if one has. {then}"
        ) from error


def reason_of(error: Exception) -> str:
    """Why something failed, in a few words, with the name of the file if it is known."""
    said = getattr(error, "strerror", None)  # of the system and of FFmpeg; str() has the whole path
    if not said:
        return str(error).rstrip(".") or type(error).__name__
    file = getattr(error, "filename2", None) or getattr(error, "filename", None)
    return f"{said}: {Path(file).name}" if isinstance(file, str | Path) else said


def free_on_disk(folder: Path) -> int:
    """Bytes that are free where a folder is, or where it will be."""
    there = next(each for each in (folder, *folder.absolute().parents) if each.is_dir())
    return shutil.disk_usage(there).free
