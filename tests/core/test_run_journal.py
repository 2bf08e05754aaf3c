"""The journal of a kept run: a line a chunk under seals, runs of version 0.1.0, and a second writer."""

import json
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import filelock
import pytest
from run_specs import (
    FAST_DISK,
    LABELS,
    as_0_1_0,
    choice,
    decision,
    digest,
    keep_run,
    latent,
    make_chunks,
    make_spec,
    read_lines,
    seeds_in,
    seeds_of,
    write_lines,
    write_record,
)

from headforcing_core.files.safe_files import temporary_of
from headforcing_core.rollout.episodes import Decision
from headforcing_core.run_store import lock
from headforcing_core.run_store.journal import append_line, dump_lines, parse_journal, write_journal
from headforcing_core.run_store.record import ChunkRecord
from headforcing_core.run_store.store import RunStore


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder where syncing takes no time."""
    with tempfile.TemporaryDirectory(dir=FAST_DISK) as folder:
        yield Path(folder)


def refused(root: Path, message: str) -> None:
    """Opening fails with this message, and nothing is changed."""
    before = {path: path.read_bytes() for path in (root / "fox").iterdir()}
    with pytest.raises((ValueError, RuntimeError), match=message) as error:
        RunStore.open(root, "fox", make_spec())
    assert str(error.value).endswith(".")
    assert {path: path.read_bytes() for path in (root / "fox").iterdir()} == before


# lines


@pytest.mark.parametrize(
    "place, value, message",
    [
        ((3, "sha256"), 12, "line 4.sha256 is 12, not a SHA-256"),
        ((3, "sha256"), "AB", "line 4.sha256 is 'AB', not a SHA-256"),
        ((3, "chunk"), 2, "line 4 is of chunk 2"),
        ((3, "chunk"), -1, "line 4.chunk is -1, not a whole number"),
        ((3, "more"), 1, "made by a newer version of this pack: line 4 has the unknown name 'more'. Update the pack"),
        ((1, "decisions"), {}, "line 2.decisions is an object of 0, not a list"),
        ((1, "decisions", 0, "frame"), -1, "frame is -1, not a whole number"),
        ((1, "decisions", 0, "frame"), True, "frame is true, not a whole number"),
        ((1, "decisions", 0, "novelty"), "0", "novelty is '0', not a number from -1 to 3"),
        ((1, "decisions", 0, "tau"), 1e30, "tau is 1e.30, not a number"),
        ((1, "decisions", 0, "admitted"), 1, "admitted is 1, not true or false"),
        ((1, "decisions", 0, "dropped"), 3, r"line 2.decisions\[0\] drops a frame"),
        ((1, "choice"), None, "line 2.choice is null, not an object"),
        ((1, "choice", "more"), 1, "newer version .* line 2.choice has the unknown name 'more'"),
        ((5, "choice", "frames"), [3, 3], r"line 6.choice.frames\[1\] is 3, not a whole number from 4 to"),
        ((5, "choice", "frames"), [9, 3], r"line 6.choice.frames\[1\] is 3, not a whole number from 10 to"),
        ((5, "choice", "frames"), [True], r"line 6.choice.frames\[0\] is true, not a whole number from 0"),
        ((5, "choice", "frames"), 3, "line 6.choice.frames is 3, not a list"),
        ((5, "choice", "frames"), [3], "line 6.choice has 1 frames and 2 likenesses"),
        ((5, "choice", "likeness"), [], "line 6.choice has 2 frames and 0 likenesses"),
        ((5, "choice", "likeness", 0), 0.95, r"line 6.choice.likeness\[0\] is 0.95, not a number from 0.1 to 0.9"),
        ((5, "choice", "likeness", 1), "1", r"line 6.choice.likeness\[1\] is '1', not a number"),
        ((5, "choice", "lowest"), -3, "line 6.choice.lowest is -3, not a number from -2 to 2"),
        ((5, "choice", "best"), 0.05, "line 6.choice.best is 0.05, not a number from 0.1 to 2"),
        ((5, "choice", "candidates"), 1, "line 6.choice.candidates is 1, not a whole number from 2 to"),
        ((5, "choice", "passes"), 5, "line 6.choice.passes is 5, not a whole number from 0 to 4"),
        ((1, "decisions", 0, "choice"), 3, r"newer version .* line 2.decisions\[0\] has the unknown name 'choice'"),
    ],
)
def test_every_value_of_a_line_is_checked(
    tmp_path: Path, place: tuple[str | int, ...], value: object, message: str
) -> None:
    folder = keep_run(tmp_path)
    inner = lines = read_lines(folder)
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    write_lines(folder, lines)
    refused(tmp_path, "journal.jsonl of the run 'fox' cannot be used: .*" + message)


def test_every_value_of_a_line_must_be_there(tmp_path: Path) -> None:
    folder = keep_run(tmp_path)
    for name in ("frames", "likeness", "candidates", "passes", "lowest", "best"):
        lines = read_lines(folder)
        del lines[1]["choice"][name]
        before = (folder / "journal.jsonl").read_bytes()
        write_lines(folder, lines)
        refused(tmp_path, f"line 2.choice lacks '{name}'")
        (folder / "journal.jsonl").write_bytes(before)
    for name in ("chunk", "sha256", "decisions"):
        lines = read_lines(folder)
        write_lines(folder, [{key: each for key, each in line.items() if key != name} for line in lines])
        refused(tmp_path, f"line 1 lacks '{name}'")
        write_lines(folder, lines)


def test_no_flipped_bit_of_a_journal_goes_unseen(tmp_path: Path) -> None:
    folder = keep_run(tmp_path)
    good = (folder / "journal.jsonl").read_bytes()
    last_line = good[:-1].rindex(b"\n") + 1
    for place in range(0, len(good), 3):
        data = bytearray(good)
        data[place] ^= 1 << place % 7
        (folder / "journal.jsonl").write_bytes(data)
        if place < last_line - 1:
            refused(tmp_path, "journal.jsonl of the run 'fox' cannot be used: .*after it was written")
            continue
        with RunStore.open(tmp_path, "fox", make_spec()) as store:
            (note,) = store.notes
            last = 4 if place == last_line - 1 else 5  # without what parts them, the last two lines are one
            assert store.finished == last and "last line of journal.jsonl" in note and f"chunk {last} is made" in note


@pytest.mark.parametrize("order", [[0, 1, 3, 4, 5], [0, 2, 1, 3, 4, 5], [0, 1, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5]])
def test_lines_cannot_be_left_out_or_exchanged(tmp_path: Path, order: list[int]) -> None:
    folder = keep_run(tmp_path)
    lines = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "journal.jsonl").write_bytes(b"".join(lines[number] for number in order))
    refused(tmp_path, "line [0-9] was changed after it was written")


def test_a_journal_that_is_gone_is_not_taken_for_no_chunks(tmp_path: Path) -> None:
    folder = keep_run(tmp_path)
    (folder / "journal.jsonl").unlink()
    refused(tmp_path, "journal.jsonl of the run 'fox' cannot be used: it is missing.*Put a good copy .* back")
    with RunStore.open(tmp_path, "fox", make_spec(seed=2), "replace") as store:
        make_chunks(store)
        assert seeds_of(store) == [2] * 6


def test_chunks_after_a_damaged_one_leave_the_journal_when_they_are_made_again(tmp_path: Path) -> None:
    folder = keep_run(tmp_path)
    before = (folder / "journal.jsonl").read_bytes()
    (folder / "chunk_00002.safetensors").write_bytes(b"x")
    with RunStore.open(tmp_path, "fox", make_spec()) as store:
        assert (folder / "journal.jsonl").read_bytes() == before  # until there is something better
        make_chunks(store, 1)
        assert [line["chunk"] for line in read_lines(folder)] == [0, 1, 2]
        make_chunks(store)
    assert (folder / "journal.jsonl").read_bytes() == before


def test_decisions_that_come_later_stand_in_the_line_of_their_chunk(tmp_path: Path) -> None:
    with RunStore.open(tmp_path, "fox", make_spec(chunks=2)) as store:
        store.append(latent(0), (decision(0),))
        store.append(latent(1), (), choice(1))
    with RunStore.open(tmp_path, "fox", make_spec(chunks=4)) as store:
        store.add_decisions(1, (decision(1),))
        make_chunks(store)
    assert [line["decisions"] for line in read_lines(tmp_path / "fox")] == [[vars(decision(n))] for n in range(4)]
    assert read_lines(tmp_path / "fox")[1]["choice"]["frames"] == []  # which was there already


def test_a_choice_stands_where_one_was_made_and_other_lines_are_as_they_were(tmp_path: Path) -> None:
    folder = keep_run(tmp_path)
    names = ["chunk", "sha256", "decisions"]
    assert [list(line) for line in read_lines(folder)] == [names, [*names, "choice"]] * 3
    assert read_lines(folder)[5]["choice"] == {
        "frames": [3, 9],
        "likeness": [0.9, 0.8],
        "candidates": 5,
        "passes": 3,
        "lowest": 0.1,
        "best": 0.9,
    }
    with RunStore.open(tmp_path, "fox", make_spec()) as store:
        assert [store.finished_chunk(chunk).choice for chunk in range(6)] == [choice(chunk) for chunk in range(6)]
    line, _ = dump_lines([ChunkRecord("0" * 64, (Decision(7, 0.25, 0.03, True, 1),))])
    assert line == (
        b'{"chunk":0,"sha256":"' + b"0" * 64 + b'","decisions":[{"frame":7,"novelty":0.25,"tau":0.03,"admitted":true,'
        b'"dropped":1}],"seal":"' + line[-67:-3] + b'"}\n'
    )


def test_the_record_is_written_only_when_it_changes(tmp_path: Path) -> None:
    with RunStore.open(tmp_path, "fox", make_spec()) as store:
        record = store.folder / "run.json"
        before = record.stat().st_ino, record.stat().st_mtime_ns
        make_chunks(store)
        assert (record.stat().st_ino, record.stat().st_mtime_ns) == before


def test_a_take_gets_a_journal_of_its_own(tmp_path: Path) -> None:
    folder = keep_run(tmp_path)
    before = (folder / "journal.jsonl").read_bytes()
    with RunStore.open(tmp_path, "fox", make_spec(seed=2), from_chunk=6 - 1) as store:
        make_chunks(store)
    taken = tmp_path / "fox_take_1/journal.jsonl"
    assert taken.read_bytes() == before and not taken.samefile(folder / "journal.jsonl")
    assert (folder / "journal.jsonl").read_bytes() != before


def test_a_line_costs_the_same_at_chunk_100_and_at_chunk_48000(tmp_path: Path) -> None:
    """Bytes and calls, as the kernel counts them."""
    counts = []
    for chunks in (100, 48_000):
        path = tmp_path / f"{chunks}.jsonl"
        # the number of the chunk has as many digits in both
        _, seal = write_journal(path, [ChunkRecord(digest("x"), (decision(1),))] * chunks)
        line, _ = dump_lines([ChunkRecord(digest("y"), (decision(1),))], 48_000, seal)
        before, size = _kernel_counts(), path.stat().st_size
        append_line(path, line)
        after = _kernel_counts()
        counts.append([path.stat().st_size - size, *(b - a for a, b in zip(before, after, strict=True))])
    assert counts[0] == counts[1] and counts[0][0] > 100


def _kernel_counts() -> list[int]:
    """Bytes written, and calls that read and write, of this process so far."""
    told = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return [int(told[name]) for name in ("wchar", "syscr", "syscw")]


# runs of version 0.1.0


def test_a_run_of_0_1_0_goes_on_and_gets_a_journal_at_its_first_new_chunk(tmp_path: Path) -> None:
    folder = keep_run(tmp_path)
    as_0_1_0(folder)
    before = (folder / "run.json").read_bytes()
    with RunStore.open(tmp_path, "fox", make_spec()) as store:
        assert store.finished == 6 and seeds_of(store) == [1] * 6 and store.notes == []
        assert store.finished_chunk(4).decisions == (decision(4),)
    assert (folder / "run.json").read_bytes() == before and not (folder / "journal.jsonl").exists()
    with RunStore.open(tmp_path, "fox", make_spec(chunks=8)) as store:
        make_chunks(store, 1)
    assert json.loads((folder / "run.json").read_bytes())["format"] == "headforcing.run/2"
    assert len(read_lines(folder)) == 7
    with RunStore.open(tmp_path, "fox", make_spec(chunks=8)) as store:
        make_chunks(store)
        assert seeds_of(store) == [1] * 8


def test_a_journal_beside_a_record_of_0_1_0_is_what_a_crash_left_and_counts_for_nothing(tmp_path: Path) -> None:
    folder = keep_run(tmp_path)
    lines = (folder / "journal.jsonl").read_bytes()
    as_0_1_0(folder)
    (folder / "journal.jsonl").write_bytes(lines[:300])
    with RunStore.open(tmp_path, "fox", make_spec(chunks=7)) as store:
        assert store.finished == 6
        make_chunks(store)
    with RunStore.open(tmp_path, "fox", make_spec(chunks=7)) as store:
        assert seeds_of(store) == [1] * 7 and store.notes == []


def test_another_take_of_a_run_of_0_1_0_leaves_that_as_it_was(tmp_path: Path) -> None:
    folder = keep_run(tmp_path)
    as_0_1_0(folder)
    before = (folder / "run.json").read_bytes()
    with RunStore.open(tmp_path, "fox", make_spec(seed=2), from_chunk=3) as store:
        make_chunks(store)
    assert seeds_in(folder) == [1, 1, 1, 2, 2, 2]
    assert (tmp_path / "fox_take_1/run.json").read_bytes() == before
    with RunStore.open(tmp_path, "fox_take_1", make_spec()) as store:
        assert seeds_of(store) == [1] * 6


def test_a_setting_that_an_older_run_lacks_means_what_it_meant(tmp_path: Path) -> None:
    keep_run(tmp_path)
    newer = make_spec(chunks=8, episode=1.0)
    with pytest.raises(ValueError, match=r"made with episode \(not set\), now episode is 1.0"):
        RunStore.open(tmp_path, "fox", newer)
    with pytest.raises(ValueError, match="made with episode 2.0, now episode is 1.0"):
        RunStore.open(tmp_path, "fox", replace(newer, meant_before={"episode": 2.0}))
    with RunStore.open(tmp_path, "fox", replace(newer, meant_before={"episode": 1.0})) as store:
        make_chunks(store)
    assert json.loads((tmp_path / "fox/run.json").read_bytes())["settings"]["episode"] == 1.0


def test_a_setting_that_only_a_newer_version_has_is_refused(tmp_path: Path) -> None:
    folder = keep_run(tmp_path)
    record = json.loads((folder / "run.json").read_bytes())
    record["settings"]["recall"] = "newest"
    write_record(folder, record)
    refused(tmp_path, "made by a newer version of this pack: it has the setting 'recall'.*Update the pack")


def test_the_beginning_of_an_older_run_is_known_by_its_older_hash(tmp_path: Path) -> None:
    with RunStore.open(tmp_path, "fox", replace(make_spec(), prefix_hash=digest("whole batch"))) as store:
        make_chunks(store, 2)
    today = replace(make_spec(), prefix_hash=digest("first picture"), begun_by="start_image")
    with pytest.raises(ValueError, match="start_image has another picture than the run 'fox'"):
        RunStore.open(tmp_path, "fox", today)
    with RunStore.open(tmp_path, "fox", replace(today, older_prefix_hashes=(digest("whole batch"),))) as store:
        make_chunks(store)
    with RunStore.open(tmp_path, "fox", today) as store:
        assert store.finished == 6


# two writers


@pytest.mark.parametrize("name", ["journal.jsonl", "run.json"])
def test_another_machine_that_writes_the_run_is_noticed_before_anything_is_written(tmp_path: Path, name: str) -> None:
    with RunStore.open(tmp_path, "fox", make_spec(labels=1)) as store:
        make_chunks(store, 2)
        path = store.folder / name
        data = path.read_bytes()
        path.write_bytes(data[:-2] + b"0" + data[-1:])
        before = {path: path.read_bytes() for path in store.folder.iterdir()}
        with pytest.raises(RuntimeError, match=f"{name} of the run 'fox' was changed .*another machine"):
            make_chunks(store, 1)
        assert {path: path.read_bytes() for path in store.folder.iterdir()} == before


def test_two_writers_without_a_lock_end_one_of_them_and_leave_a_whole_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that locks on one machine alone lets both open it."""
    monkeypatch.setattr(filelock.FileLock, "acquire", lambda self, *args, **kwargs: None)
    with RunStore.open(tmp_path, "fox", make_spec()) as one:
        make_chunks(one, 2)
        with RunStore.open(tmp_path, "fox", make_spec()) as other:
            make_chunks(other, 1)
            with pytest.raises(RuntimeError, match="another machine writes this run"):
                make_chunks(one, 1)
            make_chunks(other)
            assert seeds_of(other) == [1] * 6


def test_temporaries_carry_host_and_process(tmp_path: Path) -> None:
    name = temporary_of(tmp_path / "run.json").name
    assert re.fullmatch(r"\.run\.json\.[A-Za-z0-9_-]*\.\d+\.tmp", name) and str(os.getpid()) in name
    folder = keep_run(tmp_path)
    (folder / ".run.json.other-machine.77.tmp").write_text("half")
    RunStore.open(tmp_path, "fox", make_spec()).close()
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("number", ["ENOSYS", "EOPNOTSUPP", "ENOLCK"])
def test_a_disk_that_cannot_lock_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    import errno
    import fcntl

    def cannot(*_: object) -> None:
        raise OSError(getattr(errno, number), number)

    monkeypatch.setattr(fcntl, "flock", cannot)
    with pytest.raises(RuntimeError, match="its disk cannot lock files.*Use an output folder on another disk"):
        RunStore.open(tmp_path, "fox", make_spec())
    monkeypatch.undo()
    with RunStore.open(tmp_path, "fox", make_spec()) as store:  # no lock is left behind
        assert store.finished == 0


def test_the_lock_file_of_a_dead_machine_is_not_told_as_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import fcntl

    keep_run(tmp_path)
    (tmp_path / "fox/lock").write_text("4711\nanother-machine\n")
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSYS, "no locks")))
    with pytest.raises(RuntimeError, match="its disk cannot lock files"):
        lock.lock_folder(tmp_path / "fox")


def test_labels_of_a_run_come_back_from_format_2(tmp_path: Path) -> None:
    folder = keep_run(tmp_path)
    assert parse_journal((folder / "journal.jsonl").read_bytes()).is_torn is False
    assert json.loads((folder / "run.json").read_bytes())["profile"]["labels"] == [list(row) for row in LABELS]
