"""A fence against a second writer: before anything is written, the files are as this process left them.

A lock is worth what the disk makes of it, and network disks that lock on one machine alone are not told apart from
those that lock for all. So the ends of the two files that say what there is are looked at as well.
"""

from pathlib import Path

_END_BYTES = 80  # the seal that ends each of these files, and a little more


class Fence:
    """The size and the last bytes of files, as this process read or wrote them last."""

    def __init__(self) -> None:
        self._ends: dict[Path, tuple[int, bytes]] = {}

    def note(self, path: Path, data: bytes) -> None:
        """All that is now in a file."""
        self._ends[path] = len(data), data[-_END_BYTES:]

    def note_more(self, path: Path, data: bytes) -> None:
        """What was just added to its end."""
        size, end = self._ends[path]
        self._ends[path] = size + len(data), (end + data)[-_END_BYTES:]

    def check(self, name: str, finished: int) -> None:
        """RuntimeError when a file of the run `name`, of which so many chunks are finished, is another one by now."""
        for path, expected in self._ends.items():
            if _end_of(path) != expected:
                raise RuntimeError(
                    f"{path.name} of the run {name!r} was changed while the run was open: another machine writes this "
                    f"run, on a disk whose locks hold on one machine alone. Nothing was written over it. The "
                    f"{finished} chunks that were finished here are in its folder as far as the other one left them. "
                    "End one of the two, or give one another run_name, and run again."
                )


def _end_of(path: Path) -> tuple[int, bytes] | None:
    try:
        with path.open("rb", buffering=0) as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _END_BYTES))
            return size, file.read(_END_BYTES)
    except FileNotFoundError:
        return None
