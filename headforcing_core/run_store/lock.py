"""The lock of a kept run: one writer a folder."""

from pathlib import Path

from filelock import FileLock, Timeout

from .folder import LOCK_FILE


def lock_folder(folder: Path) -> FileLock:
    """Take the lock of a run; it ends with `release` or with the process. RuntimeError while another run has it, in
    this process or another one."""
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
        raise RuntimeError(
            f"The run {folder.name!r} cannot be opened: its disk cannot lock files. Two runs in one folder would "
            "destroy each other. Use an output folder on another disk."
        ) from error
    except Timeout:
        raise RuntimeError(
            f"The run {folder.name!r} is in use by another run. Two at once would overwrite each other's chunks. Wait "
            "until that one has ended, choose another run_name, or set on_existing_run to new."
        ) from None
    return lock
