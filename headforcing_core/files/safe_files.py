"""Files that are written whole or not at all, and read only where they lie: no links are followed, no pipes opened."""

import errno
import os
import platform
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_HOST = re.sub(r"[^A-Za-z0-9_-]", "_", platform.node())[:32]
_UNSYNCED = (errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EACCES)  # what file systems say that cannot sync a folder


def temporary_of(path: Path) -> Path:
    """What a file is called while it is being written: `.NAME.HOST.PID.tmp` beside it, so that two processes that
    write one file never write into one temporary."""
    return path.with_name(f".{path.name}.{_HOST}.{os.getpid()}.tmp")


def write_file(path: Path, data: bytes) -> None:
    """Write a file so that after a crash at any moment the old one or the new one is there.
    OSError leaves the old file and no temporary."""
    temporary = temporary_of(path)
    try:
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:  # x never follows a link
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def read_file(path: Path, most_bytes: int) -> bytes:
    """The bytes of a plain file. ValueError, in a few words, for a link, a folder, a pipe or more than `most_bytes`;
    OSError as the system gives it."""
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most_bytes:
            raise ValueError(f"it has {size} bytes, more than {most_bytes}")
        return file.read(most_bytes)


def read_first_line(path: Path, most_bytes: int) -> bytes:
    """The first line of a plain file, or so many bytes of it. Errors likewise."""
    with _opened(path) as file:
        return file.readline(most_bytes)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if path.is_symlink():
        raise ValueError("it is a link")
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is not a plain file")
        yield file


def sync_folder(folder: Path) -> None:
    """Make renames in a folder last, where the platform can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSYNCED:
            raise
    finally:
        os.close(descriptor)
