"""The two files that say what a run has: `run.json`, what decided about its chunks, and the journal, which are
finished.

A run of version 0.1.0 has its chunks in `run.json`. It stays as it is until something is to be written; then it gets a
journal first and the newer `run.json` after that, so that at any moment one of the two forms is whole.
"""

from pathlib import Path
from typing import Self

from ..files.safe_files import read_file, write_file
from . import journal, record_json
from .fence import Fence
from .folder import JOURNAL_FILE, RUN_FILE
from .journal import Journal, append_line, dump_lines, parse_journal, write_journal
from .record import ANEW, ChunkRecord, RunRecord
from .record_json import dump_record, parse_record, unreadable


class Ledger:
    """What is written down of one run: `record` and the finished `chunks`, in memory and on the disk. Only under the
    run's lock; what another process writes all the same is noticed before anything is written over it."""

    def __init__(self, folder: Path, record: RunRecord, listed: Journal) -> None:
        self.record = record
        self.chunks = list(listed.chunks)
        self.is_torn = listed.is_torn
        self._folder = folder
        self._seal = listed.seal
        self._record_there: RunRecord | None = None  # on the disk, in the format of today
        self._must_rewrite = listed.is_torn  # the journal
        self._fence = Fence()

    @property
    def name(self) -> str:
        """The run's name."""
        return self._folder.name

    @classmethod
    def begin(cls, folder: Path, record: RunRecord) -> Self:
        """Begin a run: no chunks, and whatever the folder said before is gone. OSError when the disk is at fault."""
        ledger = cls(folder, record, Journal(()))
        ledger._rewrite()  # first: an old record with no chunks is harmless, old chunks under a new record are not
        ledger._write(record)
        return ledger

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What is there. RuntimeError when it cannot be used; OSError when the disk is at fault."""
        data = _record_bytes(folder)
        record, listed = parse_record(data, folder.name)
        if listed is None:
            lines = _journal_bytes(folder)
            ledger = cls(folder, record, _parsed(lines, folder.name))
            ledger._record_there = record
            ledger._fence.note(folder / JOURNAL_FILE, lines)
        else:
            ledger = cls(folder, record, Journal(listed))
            ledger._must_rewrite = True
        ledger._fence.note(folder / RUN_FILE, data)
        return ledger

    def settle(self, record: RunRecord, finished: int) -> None:
        """Let the disk hold this record and the first `finished` chunks; writes nothing when it does. RuntimeError when
        another process has written; OSError when the disk is at fault; ValueError, in a few words, for what could not
        be read again."""
        self._fence.check(self.name, len(self.chunks))
        if self._must_rewrite or finished < len(self.chunks):
            del self.chunks[finished:]
            self._rewrite()  # before the record: chunks under the seeds of another record would be wrong unseen
        if record != self._record_there:
            self._write(record)

    def append(self, chunk: ChunkRecord) -> None:
        """One more finished chunk, after `settle`. Errors as there."""
        line, seal = dump_lines([chunk], len(self.chunks), self._seal)
        path = self._folder / JOURNAL_FILE
        append_line(path, line)
        self._fence.note_more(path, line)
        self.chunks.append(chunk)
        self._seal = seal

    def change(self, number: int, chunk: ChunkRecord) -> None:
        """Another record of a chunk, which the next `settle` writes."""
        self.chunks[number] = chunk
        self._must_rewrite = True

    def _rewrite(self) -> None:
        path = self._folder / JOURNAL_FILE
        data, self._seal = write_journal(path, self.chunks)
        self._fence.note(path, data)
        self._must_rewrite = self.is_torn = False

    def _write(self, record: RunRecord) -> None:
        path, data = self._folder / RUN_FILE, dump_record(record)
        write_file(path, data)
        self._fence.note(path, data)
        self.record = self._record_there = record


def read_record(folder: Path) -> RunRecord:
    """What a run was made with, without a look at its chunks. Errors as of Ledger.read."""
    return parse_record(_record_bytes(folder), folder.name)[0]


def _record_bytes(folder: Path) -> bytes:
    try:
        return read_file(folder / RUN_FILE, record_json.MOST_BYTES)
    except ValueError as error:
        raise unreadable(folder.name, str(error)) from error


def _journal_bytes(folder: Path) -> bytes:
    try:
        return read_file(folder / JOURNAL_FILE, journal.MOST_BYTES)
    except (ValueError, FileNotFoundError) as error:
        why = "it is missing" if isinstance(error, FileNotFoundError) else str(error)
        raise _unusable(folder.name, why) from error


def _parsed(lines: bytes, name: str) -> Journal:
    try:
        return parse_journal(lines)
    except ValueError as error:
        raise _unusable(name, str(error)) from error


def _unusable(name: str, why: str) -> RuntimeError:
    return RuntimeError(
        f"{JOURNAL_FILE} of the run {name!r} cannot be used: {why}. It says which chunks are finished, so nothing was "
        f"changed. Put a good copy of {JOURNAL_FILE} back, or {ANEW}."
    )
