"""The lock of a kept run: one writer a folder."""

import errno
from pathlib import Path

from filelock import FileLock, SoftFileLock, Timeout

from .folder import LOCK_FILE

_CANNOT_LOCK = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK)


def lock_folder(folder: Path) -> FileLock:
    """Take the lock of a run; it ends with `release` or with the process. RuntimeError while another run has it, in
    this process or another one, and on a disk that cannot lock files."""
    path = folder / LOCK_FILE
    lock = FileLock(path, timeout=0, thread_local=False)
    try:
        if path.is_symlink():
            raise RuntimeError(
                f"lock of the run {folder.name!r} is a link. A run writes plain files in its own folder alone. Remove "
                "that link, or choose another run_name."
            )
        lock.acquire()
    except NotImplementedError as error:
        raise _cannot_lock(folder) from error
    except OSError as error:
        if error.errno in _CANNOT_LOCK:
            raise _cannot_lock(folder) from error
        if not isinstance(error, Timeout):
            raise
        if isinstance(lock, SoftFileLock):
            raise _cannot_lock(folder) from None
        raise RuntimeError(
            f"The run {folder.name!r} is in use by another run. Two at once would overwrite each other's chunks. Wait "
            "until that one has ended, choose another run_name, or set on_existing_run to new."
        ) from None
    # filelock 4 turns into this where the disk has no locks: a file that says who has it, which nobody takes away when
    # the holder's machine dies, so that the run would be in use for ever
    if isinstance(lock, SoftFileLock):
        lock.release()
        raise _cannot_lock(folder)
    return lock


def _cannot_lock(folder: Path) -> RuntimeError:
    return RuntimeError(
        f"The run {folder.name!r} cannot be opened: its disk cannot lock files, as some network disks cannot. Two runs "
        "in one folder would destroy each other. Use an output folder on another disk, or leave run_name empty."
    )
