"""`journal.jsonl`: the finished chunks of a run, a line each, only ever appended to.

    {"chunk":0,"sha256":"...","decisions":[...],"seal":"..."}

Where a policy chose what is recalled, a `choice` stands after the decisions.

The seal of a line is the SHA-256 of the line before's seal and of the line's own text without it, so no line can be
changed, left out or put in without all seals after it. A line costs the same whatever the run's length.
"""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..files.safe_files import write_file
from ..files.strict_json import Fields, UnknownName, parse_json
from .chunk_json import CHOICE, dump_chunk, parse_chunk
from .record import MOST_CHUNKS, ChunkRecord

MOST_BYTES = 256 * 2**20
_MOST_LINE = 2**16
_BEGINNING = "headforcing.journal/1"  # what the first line seals
_SEAL = b',"seal":"%s"}\n'
_SEALED = re.compile(rb'(\{.*),"seal":"([0-9a-f]{64})"\}\n', re.DOTALL)
_NAMES = ("chunk", "sha256", "decisions")


class Journal(NamedTuple):
    """The chunks that a journal lists, the last line's seal, and whether it ends in a line that was cut short."""

    chunks: tuple[ChunkRecord, ...]
    seal: str = _BEGINNING
    is_torn: bool = False


def parse_journal(data: bytes) -> Journal:
    """Read a journal. A last line that is not whole, as a crash leaves it, is dropped. ValueError, in a few words, for
    one that was changed, or made by a newer version."""
    lines = data.splitlines(keepends=True)
    if len(lines) > MOST_CHUNKS + 1:
        raise ValueError(f"it has {len(lines)} lines, more than {MOST_CHUNKS}")
    chunks: list[ChunkRecord] = []
    before = _BEGINNING
    for number, line in enumerate(lines):
        match = _SEALED.fullmatch(line) if len(line) <= _MOST_LINE else None
        if match is None or _seal(before, match[1]) != match[2].decode():
            if number == len(lines) - 1:
                return Journal(tuple(chunks), before, is_torn=True)
            raise ValueError(f"line {number + 1} was changed after it was written")
        chunks.append(_parsed(match[1] + b"}", number))
        before = match[2].decode()
    return Journal(tuple(chunks), before)


def dump_lines(chunks: Sequence[ChunkRecord], first: int = 0, before: str = _BEGINNING) -> tuple[bytes, str]:
    """The lines of chunks from the number `first` on, after a line with the seal `before`; and the last one's seal.
    ValueError, in a few words, for what could not be read again."""
    lines: list[bytes] = []
    for number, chunk in enumerate(chunks, first):
        told = {"chunk": number, **dump_chunk(chunk)}
        text = json.dumps(told, allow_nan=False, separators=(",", ":")).encode("ascii")[:-1]
        before = _seal(before, text)
        lines.append(text + _SEAL % before.encode())
        if len(lines[-1]) > _MOST_LINE:
            raise ValueError(f"the line of chunk {number} would have {len(lines[-1])} bytes, more than {_MOST_LINE}")
    return b"".join(lines), before


def write_journal(path: Path, chunks: Sequence[ChunkRecord]) -> tuple[bytes, str]:
    """Write a whole journal beside the one that is there, and put it in its place. Returns its bytes and last seal."""
    data, seal = dump_lines(chunks)
    write_file(path, data)
    return data, seal


def append_line(path: Path, line: bytes) -> None:
    """Add a line and force it onto the disk. OSError leaves the journal as it was."""
    flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    file = os.open(path, flags)
    try:
        end = os.fstat(file).st_size
        try:
            while line:
                line = line[os.write(file, line) :]
            os.fsync(file)
        except OSError:
            os.ftruncate(file, end)
            raise
    finally:
        os.close(file)


def _seal(before: str, text: bytes) -> str:
    return hashlib.sha256(before.encode() + text).hexdigest()


def _parsed(text: bytes, number: int) -> ChunkRecord:
    where = f"line {number + 1}"
    try:
        fields = Fields.of(parse_json(text), where, _NAMES, (CHOICE,))
        if fields.integer("chunk", 0, MOST_CHUNKS) != number:
            raise ValueError(f"{where} is of chunk {fields.values['chunk']}")
        return parse_chunk(fields)
    except UnknownName as error:
        raise ValueError(f"it was made by a newer version of this pack: {error}. Update the pack") from None
