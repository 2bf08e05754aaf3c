"""Processes that end in the middle of keeping a run; started by test_run_store.py, once, since they fork.

python crashes.py FOLDER prints what was found, as JSON. Every scenario checks what a dead process left.
"""

import json
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from run_specs import keep_run, make_chunks, make_spec, seeds_in, seeds_of

from headforcing_core.run_store.choosing import choose_take
from headforcing_core.run_store.opening import kept_run
from headforcing_core.run_store.record import RunSpec
from headforcing_core.run_store.store import RunStore

CHUNKS = 40
FEW = 4
KILLS = 10
_CALLS = ("replace", "rename", "link", "unlink", "mkdir", "rmdir", "fsync", "write", "ftruncate")


def in_child(work: Callable[[], None]) -> int:
    """Do something in a child process; returns its process id."""
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(1)


def killed_at_random(root: Path) -> object:
    """A process that makes chunks in a loop is killed, again and again: what it had finished is there."""
    spec = make_spec(chunks=CHUNKS)

    def work() -> None:
        with RunStore.open(root, "fox", spec) as store:
            make_chunks(store)

    started = time.perf_counter()
    os.waitpid(in_child(work), 0)
    taken = time.perf_counter() - started
    generator = random.Random(0)
    finished: list[int] = []
    for _ in range(KILLS):
        shutil.rmtree(root / "fox")
        child = in_child(work)
        time.sleep(generator.uniform(0.05, 0.95) * taken)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with RunStore.open(root, "fox", spec) as store:
            assert seeds_of(store) == [1] * store.finished and not store.notes
            assert not [path for path in store.folder.iterdir() if path.name.endswith(".tmp")]
            finished.append(store.finished)
            make_chunks(store, 1 if store.finished < CHUNKS else 0)
    return finished


def killed_at_every_call(root: Path, before: Callable[[], None] = lambda: None, step: int = 1) -> object:
    """Chunks are made anew, by a process that is killed at its first call that changes the disk, its second, and so
    on: the old take is whole, once, and the same request again ends in the same run. Returns how many calls it made."""
    spec = make_spec(seed=9, chunks=FEW)
    at = 0
    while True:
        shutil.rmtree(root, ignore_errors=True)
        keep_run(root, chunks=FEW)

        def work(at: int = at) -> None:
            before()
            kill_at(at)
            begin_anew(root, spec)

        _, status = os.waitpid(in_child(work), 0)
        check_old_take_is_somewhere(root)
        begin_anew(root, spec)
        check_both_takes(root)
        if not os.WIFSIGNALED(status):
            assert os.WEXITSTATUS(status) == 0
            return at
        at += step


def killed_while_copying(root: Path) -> object:
    """The same on a disk that has no hard links."""

    def no_link(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    return killed_at_every_call(root, lambda: setattr(os, "link", no_link), step=3)


def killed_while_choosing(root: Path) -> object:
    """A take is chosen, by a process that is killed at its first call that changes the disk, its second, and so on:
    both are whole, each under a name of its own, and the one that was chosen is the run or can be chosen again. Returns
    how often the run was which one when it was opened next."""
    found: list[str] = []
    while True:
        shutil.rmtree(root, ignore_errors=True)
        keep_run(root, chunks=FEW)
        begin_anew(root, make_spec(seed=9, chunks=FEW))

        def work(at: int = len(found)) -> None:
            kill_at(at)
            choose_take(root, "fox", "fox_take_1")

        _, status = os.waitpid(in_child(work), 0)
        kept = kept_run(root, "fox")
        assert kept is not None and sorted(path.name for path in root.iterdir()) == ["fox", "fox_take_1"]
        is_chosen = kept.seeds == ((0, 1),)
        run, take = seeds_in(root / "fox"), seeds_in(root / "fox_take_1")
        assert (run, take) == (([1] * FEW, [1, 1, 9, 9]) if is_chosen else ([1, 1, 9, 9], [1] * FEW))
        told = [json.loads((root / name / "report.json").read_bytes())["seed"] for name in ("fox", "fox_take_1")]
        assert told == ([1, 9] if is_chosen else [9, 1])
        if not os.WIFSIGNALED(status):
            assert os.WEXITSTATUS(status) == 0 and is_chosen
            return found
        found.append("the take" if is_chosen else "the run")
        if not is_chosen:
            choose_take(root, "fox", "fox_take_1")
            assert seeds_in(root / "fox") == [1] * FEW


def killed_in_a_line(root: Path) -> object:
    """A process that dies with a part of a journal's line written: the line counts for nothing, and that is told."""
    spec = make_spec()
    told: list[str] = []
    for share in (0.0, 0.3, 0.99):
        shutil.rmtree(root, ignore_errors=True)

        def work(share: float = share) -> None:
            with RunStore.open(root, "fox", spec) as store:
                make_chunks(store, 2)
                write = os.write

                def torn(file: int, data: bytes) -> int:
                    write(file, data[: int(share * len(data))])
                    os.kill(os.getpid(), signal.SIGKILL)
                    return 0

                os.write = torn
                make_chunks(store, 1)

        os.waitpid(in_child(work), 0)
        with RunStore.open(root, "fox", spec) as store:
            assert store.finished == 2
            told += store.notes
            make_chunks(store)
            assert seeds_of(store) == [1] * 6
        check_still_good(root, "fox")
    return told


def kill_at(number: int) -> None:
    """From now on, die at this call that changes the disk, counted from 0."""
    made = 0

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def instead(*args: object, **kwargs: object) -> object:
            nonlocal made
            if made == number:
                os.kill(os.getpid(), signal.SIGKILL)
            made += 1
            return call(*args, **kwargs)

        return instead

    for name in _CALLS:
        setattr(os, name, counted(getattr(os, name)))


def begin_anew(root: Path, spec: RunSpec) -> None:
    """Make the chunks from 2 on anew, or go on with that."""
    with RunStore.open(root, "fox", spec, from_chunk=2) as store:
        make_chunks(store)
        store.write_report('{"seed": 9}', b"")


def check_old_take_is_somewhere(root: Path) -> None:
    """Right after a crash: every listed chunk is as listed, and the old chunks are all in the run or in its take."""
    folders = [each for each in (root / "fox", root / "fox_take_1") if each.exists()]
    assert [1] * FEW in [seeds_in(folder) for folder in folders]


def check_both_takes(root: Path) -> None:
    """The run has its new chunks, one take has the old ones with their video and report, nothing else is there."""
    assert sorted(path.name for path in root.iterdir()) == ["fox", "fox_take_1"]
    with RunStore.open(root, "fox", make_spec(seed=9, chunks=FEW), from_chunk=2) as store:
        assert seeds_of(store) == [1, 1, 9, 9] and not store.video_path.exists()
        assert store.report_path.read_text() == '{"seed": 9}'
    with RunStore.open(root, "fox_take_1", make_spec(chunks=FEW)) as store:
        assert seeds_of(store) == [1] * FEW and store.video_path.read_bytes() == b"video of seed 1"
        assert store.report_path.read_text() == '{"seed": 1}'
    assert not [path for path in root.glob("*/.*")]


def full_disk(root: Path) -> object:
    """A process that may write no file larger than this: for a chunk's file, for the journal, and for a copied take."""
    found: list[str] = []
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for name, most in (("chunk", 300), ("journal", 900)):
        with RunStore.open(root, name, make_spec()) as store:
            make_chunks(store, 1)
            found.append(limited(most, lambda store=store: make_chunks(store, 5)))
            assert seeds_of(store) == [1] * store.finished
        check_still_good(root, name)
    folder = keep_run(root, "take")
    link, os.link = os.link, lambda *_: (_ for _ in ()).throw(OSError(1, "no links here"))
    found.append(limited(300, lambda: RunStore.open(root, "take", make_spec(seed=2), from_chunk=3).close()))
    os.link = link
    assert [path.name for path in root.iterdir() if "_take" in path.name] == []
    assert (folder / "video.mp4").exists()
    check_still_good(root, "take")
    return found


def limited(most_bytes: int, work: Callable[[], None]) -> str:
    """What a piece of work says that fails when no file may be larger than this."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, before[1]))
    try:
        work()
    except RuntimeError as error:
        return str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    return "nothing"


def check_still_good(root: Path, name: str) -> None:
    """After the disk was full: no temporaries, every finished chunk is there, and the run can be finished."""
    assert not list((root / name).glob(".*"))
    with RunStore.open(root, name, make_spec()) as store:
        assert store.finished >= 1 and not store.notes
        make_chunks(store)
        assert seeds_of(store) == [1] * 6


if __name__ == "__main__":
    torch.set_num_threads(1)
    scenarios = {
        each.__name__: each
        for each in (
            *(killed_at_random, killed_at_every_call, killed_while_copying, killed_while_choosing),
            *(killed_in_a_line, full_disk),
        )
    }
    print(json.dumps({name: scenario(Path(sys.argv[1]) / name) for name, scenario in scenarios.items()}))
