"""`strip.jsonl`: the film strip of a kept run. It decides about nothing and may be lost at any time, so nothing that is
wrong with it is an error: what cannot be read counts as not there, and what cannot be written is left out."""

import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ..files.disk_room import reason_of
from ..files.safe_files import read_file, read_first_line, write_file
from .strip_entry import MOST_LINE, StripEntry, StripHeader, dump_entry, dump_header, parse_entry, parse_header

_MOST_BYTES = 256 * 2**20

log = logging.getLogger(__name__)


class KeptEntries(NamedTuple):
    """What a file holds: its header, if that can be read, and the chunks by their numbers."""

    header: StripHeader | None
    entries: dict[int, StripEntry]


class StripFile:
    """The file of an open run that has `finished` chunks: they stay, whatever follows is forgotten. Unless it `grows`
    it is left as it is."""

    def __init__(self, path: Path, finished: int, grows: bool) -> None:
        self.path, self._finished, self._grows = path, finished, grows

    def begin(self, header: StripHeader) -> dict[int, StripEntry]:
        """The chunks that are there, from now on under this header."""
        found = read_strip(self.path)
        entries = {number: entry for number, entry in found.entries.items() if number < self._finished}
        if self._grows:
            try:
                self._settle(_dumped(header, entries.values()))
            except OSError as error:
                self._give_up(error)
        return entries

    def append(self, entry: StripEntry) -> None:
        """One more chunk, or another entry of one that is there."""
        if not self._grows:
            return
        flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        try:
            with open(os.open(self.path, flags), "ab") as file:
                file.write(dump_entry(entry))
        except (OSError, ValueError) as error:
            self._give_up(error)

    def _settle(self, data: bytes) -> None:
        with suppress(OSError, ValueError):
            if read_file(self.path, _MOST_BYTES) == data:
                return
        write_file(self.path, data)

    def _give_up(self, error: Exception) -> None:
        self._grows = False
        log.warning("Head forcing: %s is not written further: %s", self.path.name, reason_of(error))


def read_strip(path: Path) -> KeptEntries:
    """What a file holds; of a chunk that stands there twice, the later entry. Lines that cannot be read are left
    out."""
    try:
        first, *lines = read_file(path, _MOST_BYTES).splitlines()
        header = parse_header(first[:MOST_LINE])
    except (OSError, ValueError):
        return KeptEntries(None, {})
    entries: dict[int, StripEntry] = {}
    for line in lines:
        with suppress(ValueError):
            entry = parse_entry(line)
            entries[entry.chunk] = entry
    return KeptEntries(header, entries)


def read_header(path: Path) -> StripHeader | None:
    """The header of a file alone, if that can be read."""
    try:
        return parse_header(read_first_line(path, MOST_LINE))
    except (OSError, ValueError):
        return None


def copy_first(source: Path, target: Path, chunks: int) -> None:
    """Put what a file holds of the first chunks into another one."""
    header, entries = read_strip(source)
    if header is None:
        return
    try:
        write_file(target, _dumped(header, (entry for number, entry in entries.items() if number < chunks)))
    except OSError as error:
        log.warning("Head forcing: %s could not be written: %s", target.name, reason_of(error))


def _dumped(header: StripHeader, entries: Iterable[StripEntry]) -> bytes:
    lines = [dump_entry(entry) for entry in sorted(entries, key=lambda entry: entry.chunk)]
    return b"".join([dump_header(header), *lines])
