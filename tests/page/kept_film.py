"""A kept run of thousands of chunks, in the files that a run writes, without its chunks."""

import io
from pathlib import Path

from PIL import Image

from headforcing_core.rollout.plan import Segment
from headforcing_core.run_store.folder import JOURNAL_FILE, RUN_FILE, STRIP_FILE
from headforcing_core.run_store.journal import write_journal
from headforcing_core.run_store.record import ChunkRecord, RunRecord
from headforcing_core.run_store.record_json import dump_record
from headforcing_core.run_store.strip_entry import StripEntry, StripHeader, dump_entry, dump_header

HASH = "0" * 64
CHUNK_FRAMES, FPS = 3, 16.0
PICTURES = 40  # that differ


def write_kept_film(folder: Path, chunks: int, scenes: tuple[Segment[str], ...], seed: int = 1) -> None:
    """Write a whole run into a new folder. Each chunk reads the first one and the four before it; memory chose at each
    tenth."""
    folder.mkdir(parents=True)
    record = RunRecord({}, scenes, ((0, seed),), None, None)
    (folder / RUN_FILE).write_bytes(dump_record(record))
    write_journal(folder / JOURNAL_FILE, [ChunkRecord(HASH, ())] * chunks)
    pictures = [_picture(number) for number in range(PICTURES)]
    header = StripHeader(chunks, FPS, CHUNK_FRAMES, 0, 4 * CHUNK_FRAMES * chunks - 3)
    entries = [StripEntry(chunk, reads(chunk), chunk % 10 == 4, pictures[chunk % PICTURES]) for chunk in range(chunks)]
    (folder / STRIP_FILE).write_bytes(b"".join([dump_header(header), *map(dump_entry, entries)]))


def reads(chunk: int) -> tuple[tuple[int, int], ...]:
    """The stretches that a chunk of such a run reads."""
    if chunk < 6:
        return ((0, chunk - 1),) if chunk else ()
    return ((0, 0), (chunk - 4, chunk - 1))


def _picture(number: int) -> bytes:
    shade = Image.linear_gradient("L").resize((96, 56)).rotate(number * 9)
    colours = Image.merge("RGB", (shade, shade.transpose(Image.Transpose.FLIP_LEFT_RIGHT), shade.rotate(180)))
    file = io.BytesIO()
    colours.save(file, "JPEG", quality=70)
    return file.getvalue()
