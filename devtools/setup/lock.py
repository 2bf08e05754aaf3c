"""One set-up at a time on this machine."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ..paths import say

if sys.platform == "win32":
    import msvcrt

    def _take(file: IO[bytes]) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

    def _release(file: IO[bytes]) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _take(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _release(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)


@contextmanager
def exclusive(path: Path) -> Generator[None]:
    """Hold the lock file `path`; while another process holds it, say so and wait. It falls when its holder dies."""
    with path.open("ab") as file:
        _wait_for(file, path)
        try:
            yield
        finally:
            _release(file)


def _wait_for(file: IO[bytes], path: Path) -> None:
    told = False
    while True:
        try:
            return _take(file)
        except OSError:
            if not told:
                say(f"Another dev.py is setting up; waiting for it ({path}) ...")
                told = True
            time.sleep(0.2)
