"""What became of each job so far: a line for whoever watches, an entry of the summary."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from .job_table import Job
from .worker import DONE, FAILED

WAITING, WORKING, ALREADY, LEFT = "waiting", "working", "done before", "left"
GOOD = (DONE, ALREADY)
FINAL = (*GOOD, FAILED, LEFT)


@dataclass
class JobState:
    """One job: where it stands in a word, what was said last, where it is made, and how often it was lost."""

    job: Job
    word: str = WAITING
    said: str = ""
    machine: str = ""
    seconds: float = 0.0
    losses: int = 0
    in_vain: int = 0  # losses in a row without one more chunk
    chunks: int = 0  # kept when it was begun last
    files: tuple[str, ...] = ()
    not_before: float = 0.0
    told: float = 0.0
    began: float = 0.0
    in_use_since: float | None = None

    def begin(self, machine: str, chunks: int) -> None:
        """A worker takes it."""
        self.word, self.said, self.machine, self.chunks = WORKING, "", machine, chunks
        self.began = self.told = time.monotonic()

    def lose(self, chunks: int) -> None:
        """Its worker is lost, with so many chunks kept by now."""
        self.losses += 1
        self.in_use_since = None  # it was begun meanwhile
        self.in_vain = 0 if chunks > self.chunks else self.in_vain + 1

    def is_in_use(self, seconds: float) -> bool:
        """Whether another run has had its folder for less than that."""
        self.in_use_since = self.in_use_since or time.monotonic()
        return time.monotonic() - self.in_use_since < seconds

    def end(self, word: str, said: str, files: Sequence[str]) -> None:
        """No worker makes it any more, for now or for good."""
        self.seconds += time.monotonic() - self.began
        self.word, self.said, self.files = word, said, tuple(files)

    def line(self) -> str:
        """For whoever watches."""
        where = f" on {self.machine}" if self.word == WORKING else ""
        said = f": {self.said}" if self.said else ""
        return f"{self.job.name}: {self.word}{where}{said}"

    def entry(self) -> dict[str, object]:
        """For the summary."""
        return {
            "name": self.job.name,
            "state": self.word,
            "said": self.said,
            "machine": self.machine,
            "seconds": round(self.seconds, 1),
            "workers lost": self.losses,
            "files": list(self.files),
        }
