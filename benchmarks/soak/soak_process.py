"""Processes that make films and may die of it, and what one can see of them from outside."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

from av.error import FFmpegError
from torch import Tensor

from benchmarks.soak.soak_host import Film, Studio, bits_of, folder_of, module, pictures_of

BETWEEN, SAMPLING, DECODE, APPEND, WRITE, RENAME, FINISH = range(7)
PHASES = ("between", "sampling", "decode", "MP4 append", "write", "rename", "MP4 finish")
_SECONDS = 4 * len(PHASES) * 2  # where in the watch's memory seconds begin
_TIME_LIMIT = 600.0
Found = dict[str, object]


class Watch:
    """Memory that a process shares with the one that it was forked from: in which phase it is, how often it has been in
    each, and for how long."""

    def __init__(self) -> None:
        self._memory = memoryview(mmap.mmap(-1, mmap.PAGESIZE))
        self._counts = self._memory[: 4 * (len(PHASES) + 1)].cast("I")
        self._seconds = self._memory[_SECONDS : _SECONDS + 8 * len(PHASES)].cast("d")

    @property
    def phase(self) -> int:
        """Where the process is, or was when it died."""
        return self._counts[len(PHASES)]

    def count(self, phase: int) -> int:
        """How often it has entered a phase."""
        return self._counts[phase]

    def mean_seconds(self, phase: int) -> float:
        """How long a phase took."""
        return self._seconds[phase] / max(1, self._counts[phase])

    @contextmanager
    def inside(self, phase: int) -> Iterator[None]:
        """Inside, the process is in this phase."""
        before, started = self.phase, perf_counter()
        self._counts[phase] += 1
        self._counts[len(PHASES)] = phase
        try:
            yield
        finally:
            self._seconds[phase] += perf_counter() - started
            self._counts[len(PHASES)] = before

    def follow(self) -> None:
        """From now on, every phase of a run in this process is seen; for a process that ends with the run."""
        self._wrap(module("nodes.host.backbone").HostBackbone, "sample", SAMPLING)
        self._wrap(module("nodes.host.chunk_decoder").ChunkDecoder, "decode", DECODE)
        self._wrap(module("nodes.video.mp4_writer").VideoWriter, "append", APPEND)
        self._wrap(module("nodes.video.mp4_writer").VideoWriter, "close", FINISH)
        self._wrap(module("headforcing_core.run_store.store").RunStore, "append", WRITE)
        self._wrap(os, "replace", RENAME)

    def _wrap(self, owner: object, name: str, phase: int) -> None:
        original: Callable[..., object] = getattr(owner, name)

        def watched(*args: object, **kwargs: object) -> object:
            with self.inside(phase):
                return original(*args, **kwargs)

        setattr(owner, name, watched)


@contextmanager
def hearing(on_chunk: Callable[[int], None]) -> Iterator[None]:
    """Inside, `on_chunk` hears of every chunk that is made, after its first step; chunks are counted from 0."""
    progress = module("nodes.status.progress").StepProgress
    original = progress.step

    def step(self: object, chunk: int, number: int, x0: Tensor) -> None:
        original(self, chunk, number, x0)
        if number == 0:
            on_chunk(chunk)

    progress.step = step
    try:
        yield
    finally:
        progress.step = original


class Child:
    """A process forked from this one that does one piece of work and ends."""

    def __init__(self, folder: Path, work: Callable[[], Found]) -> None:
        self._answer = folder / f"answer_{time.monotonic_ns()}.json"
        self.pid = os.fork()
        if not self.pid:
            _work(self._answer, work)

    @property
    def has_ended(self) -> bool:
        """Whether it is not running any more; it still has to be waited for."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def kill(self) -> None:
        """End it by SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> Found | None:
        """What it found; None when it was killed. TimeoutError when it takes longer than anything here may."""
        end = time.monotonic() + _TIME_LIMIT
        while not self.has_ended:
            if time.monotonic() > end:
                self.kill()
                os.waitpid(self.pid, 0)
                raise TimeoutError(
                    f"A run in process {self.pid} took more than {_TIME_LIMIT:.0f} s. It hangs, or the machine is far "
                    "too slow. Look at what it was doing before running this again."
                )
            time.sleep(0.01)
        _, status = os.waitpid(self.pid, 0)
        if os.WIFSIGNALED(status):
            return None
        found = json.loads(self._answer.read_text(encoding="ascii"))
        self._answer.unlink()
        return found


def made_in_child(studio: Studio, folder: Path, film: Film, output: Path, **inputs: object) -> Found:
    """Make a film in a process of its own; what it says about itself (see `describe`)."""
    found = Child(folder, lambda: describe(studio, film, output, **inputs)).wait()
    if found is None:
        raise RuntimeError(
            "A process that made a film was killed by somebody else. Its result is not known. Run again, with enough "
            "free memory."
        )
    return found


def describe(studio: Studio, film: Film, output: Path, **inputs: object) -> Found:
    """Make a film: a hash of the latent's bits, the notes of the report, how many chunks were made just now, and the
    pictures of the video in its folder; or the error."""
    try:
        made = studio.make(film, output, **inputs)
    except (ValueError, RuntimeError) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    chunks = made.report["chunks"]
    assert isinstance(chunks, list)
    try:
        count, bits = pictures_of(folder_of(output) / "video.mp4")
    except FFmpegError as error:
        count, bits = 0, str(error)
    return {
        "error": "",
        "latent": bits_of(made.latent),
        "notes": made.report["notes"],
        "made": sum(1 for chunk in chunks if chunk["seconds"]),
        "pictures": count,
        "video": bits,
    }


def files_of(folder: Path) -> dict[str, str]:
    """What is in a folder, the lock left out: a hash of each file, by name; of a link where it leads."""
    found: dict[str, str] = {}
    for path in sorted(folder.iterdir()) if folder.exists() else []:
        if path.is_symlink():
            found[path.name] = f"link to {path.readlink()}"
        elif path.is_dir():
            found[path.name] = "folder"
        elif path.name != "lock":
            found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _work(answer: Path, work: Callable[[], Found]) -> None:
    try:
        answer.write_text(json.dumps(work()), encoding="ascii")
    except BaseException:
        traceback.print_exc()
        answer.write_text(json.dumps({"error": traceback.format_exc()}), encoding="ascii")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
