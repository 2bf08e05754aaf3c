"""The film strip of a kept run that lies on the disk, whoever made it: from `strip.jsonl`, and of chunks that are not
in it by the report and drawn from their files."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from ...headforcing_core.files.strict_json import Json, integer
from ...headforcing_core.geometry import MOST_PIXELS, WAN21, WAN22
from ...headforcing_core.run_store.chunk_file import MOST_HEADER, most_bytes, read_chunk
from ...headforcing_core.run_store.folder import (
    JOURNAL_FILE,
    REPORT_FILE,
    RUN_FILE,
    STRIP_FILE,
    check_place,
    chunk_file,
    own_files,
)
from ...headforcing_core.run_store.ledger import Ledger
from ...headforcing_core.run_store.record import RunRecord
from ...headforcing_core.run_store.strip_entry import StripEntry, StripHeader
from ...headforcing_core.run_store.strip_file import read_strip
from ..keeping.output_folder import runs_folder
from .small_pictures import of_latent
from .strip_answer import told_of_entries, told_of_kept_video, told_of_scenes
from .told_chunks import is_picked, told_in

_DRAWING_SECONDS = 0.5  # in one answer
_MOST_HELD = 4
_MOST_FRAMES = 256  # a chunk
_MOST_WINDOW = 4  # chunks of noise behind one
_USUAL_FPS = 16.0
_STAMPED = (RUN_FILE, JOURNAL_FILE, STRIP_FILE, REPORT_FILE)

log = logging.getLogger(__name__)


class KeptStrip:
    """The strip of a kept run as it is now. Errors as of own_files and Ledger.read."""

    def __init__(self, folder: Path) -> None:
        own_files(folder)
        ledger = Ledger.read(folder)
        made = len(ledger.chunks)
        header, entries = read_strip(folder / STRIP_FILE)
        told = None if header is not None and entries.keys() >= set(range(made)) else told_in(folder)
        if told is not None:
            header, entries = header or told.header, {**told.entries, **entries}
        for number, chunk in enumerate(ledger.chunks):
            if number not in entries:
                entries[number] = StripEntry(number, (), is_picked(chunk.decisions, chunk.choice))
        self._folder, self._record, self._made = folder, ledger.record, made
        self._hashes = [chunk.sha256 for chunk in ledger.chunks]
        self._header, self._entries = header or _usual_header(ledger.record, made), entries
        self._drawn: set[int] = set()

    def answer(self, first: int, count: int) -> dict[str, Json]:
        """What the page is answered that asks for so many chunks from the first one on. Those are left out for which
        there was no time."""
        header, record = self._header, self._record
        entries: list[StripEntry] = []
        ends = perf_counter() + _DRAWING_SECONDS
        for number in range(first, min(first + count, self._made)):
            if not self._entries[number].picture and number not in self._drawn:
                if perf_counter() > ends:
                    continue
                self._draw(number)
            entries.append(self._entries[number])
        return {
            "run": hashlib.sha256(repr((self._folder.name, record.seeds, record.segments)).encode()).hexdigest(),
            "chunks": max(header.chunks, self._made),
            "made": self._made,
            "fps": header.fps,
            "scenes": told_of_scenes(header, record.segments),
            "video": told_of_kept_video(self._folder, header, self._made),
            "entries": told_of_entries(header, entries),
        }

    def _draw(self, number: int) -> None:
        self._drawn.add(number)
        path = self._folder / chunk_file(number)
        try:
            shape, window = _shape_of(path.lstat().st_size, self._record)
            latent = read_chunk(path, self._hashes[number], shape, window)
            self._entries[number] = replace(self._entries[number], picture=of_latent(latent))
        except (OSError, ValueError) as error:
            log.info("Head forcing: %s was not drawn: %s", path.name, error)


_lock = threading.Lock()
_held: OrderedDict[Path, tuple[tuple[object, ...], KeptStrip]] = OrderedDict()  # each with the state of its files


def kept_answer(name: str, first: int, count: int) -> dict[str, Json] | None:
    """What is answered of the kept run of a plain name; None if there is none that can be read."""
    folder = runs_folder() / name
    with _lock:
        try:
            check_place(folder)
            stamp = tuple(_stamp(folder / each) for each in _STAMPED)
            held = _held.pop(folder, None)
            strip = held[1] if held is not None and held[0] == stamp else KeptStrip(folder)
        except (OSError, RuntimeError):
            return None
        _held[folder] = stamp, strip
        while len(_held) > _MOST_HELD:
            _held.popitem(last=False)
        return strip.answer(first, count)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _usual_header(record: RunRecord, made: int) -> StripHeader:
    """Of a run of which nothing is told but what decided about it: neither its length nor its rate."""
    frames = record.settings.get("chunk_frames")
    frames = frames if isinstance(frames, int) and 0 < frames <= _MOST_FRAMES else 1
    header = StripHeader(max(made, 1), _USUAL_FPS, frames, int(record.prefix_hash is not None), 0)
    return replace(header, pixel_frames=header.pixel_frames_before(made))


def _shape_of(size: int, record: RunRecord) -> tuple[tuple[int, ...], int]:
    """The shape of the chunk in a file of so many bytes, and the frames of noise in it. ValueError if none fits."""
    settings = record.settings
    frames, width, height = (
        integer(name, settings.get(name), 1, most)  # type: ignore[arg-type]
        for name, most in (("chunk_frames", _MOST_FRAMES), ("width", MOST_PIXELS), ("height", MOST_PIXELS))
    )
    for space in (WAN21, WAN22):
        shape = (1, space.channels, frames, height // space.stride, width // space.stride)
        for window in (0, _MOST_WINDOW * frames):
            least = most_bytes(shape, window) - MOST_HEADER
            if least < size <= least + MOST_HEADER:
                return shape, window
    raise ValueError(f"a file of {size} bytes is no chunk of {frames} frames at {width} x {height}")
