"""Stop what takes too long, and go on with something else."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class TimeIsUp(BaseException):
    """Something took longer than it may. No Exception: what runs, compilers above all, would swallow it or wrap it."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Inside, the main thread gets so long; then TimeIsUp comes out of whatever runs."""

    def stop(signal_number: int, frame: FrameType | None) -> None:
        raise TimeIsUp(f"took more than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
