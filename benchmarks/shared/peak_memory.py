"""How much memory this process holds, and the most that it ever held since a moment."""

import ctypes
import gc
import sys
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_KILOBYTE = 1024
_MMAP_THRESHOLD = -3  # of malloc.h
_BIG_BLOCK = 64 * _KILOBYTE


def forget_peak() -> None:
    """The peak starts again from what is held now. Linux (glibc) alone can do that; RuntimeError elsewhere."""
    if not sys.platform.startswith("linux"):
        raise RuntimeError(
            f"This is {sys.platform}. A process can ask for the peak of its memory since a moment on Linux only. "
            "Leave out what measures memory."
        )
    gc.collect()
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_THRESHOLD, _BIG_BLOCK)  # big blocks go back when freed, so that what is held is what is used
    libc.malloc_trim(0)  # or what was freed before would be taken again without being counted
    _RESET.write_text("5")


def held_bytes() -> int:
    """What is held now."""
    return _read("VmRSS")


def peak_bytes() -> int:
    """The most that was held since the peak was forgotten."""
    return _read("VmHWM")


def _read(field: str) -> int:
    line = next(line for line in _STATUS.read_text(encoding="ascii").splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * _KILOBYTE
