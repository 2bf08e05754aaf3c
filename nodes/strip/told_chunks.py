"""What was read for each chunk, and whether something was picked: told by the chunk itself, or by the report of a whole
run."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ...headforcing_core.files.safe_files import read_file
from ...headforcing_core.files.strict_json import Json, expected, integer, items, number, parse_json
from ...headforcing_core.geometry import MOST_FPS
from ...headforcing_core.rollout.episodes import Decision
from ...headforcing_core.rollout.loop import Chunk
from ...headforcing_core.rollout.recall import Choice
from ...headforcing_core.run_store.folder import REPORT_FILE
from ...headforcing_core.run_store.record import MOST_CHUNKS
from ...headforcing_core.run_store.record_json import MOST_BYTES
from ...headforcing_core.run_store.strip_entry import StripEntry, StripHeader

_MOST_FRAME = 2**31


class ToldChunks(NamedTuple):
    """Chunks without their pictures, by their numbers."""

    header: StripHeader
    entries: dict[int, StripEntry]


def entry_of(chunk: Chunk, header: StripHeader) -> StripEntry:
    """A chunk without its picture."""
    frames = (frame for frame, _, _ in chunk.seen["memory"])
    return StripEntry(
        chunk.index, header.chunks_of(frames), is_picked((*chunk.prefix_decisions, *chunk.decisions), chunk.choice)
    )


def is_picked(decisions: Iterable[Decision], choice: Choice | None) -> bool:
    """Whether an episode was admitted, or it was chosen what is recalled."""
    return choice is not None or any(decision.admitted for decision in decisions)


def told_in(folder: Path) -> ToldChunks | None:
    """What the report of a kept run tells; None without one that can be read."""
    with suppress(OSError, ValueError):
        return told_by_report(read_file(folder / REPORT_FILE, MOST_BYTES))
    return None


def told_by_report(report: bytes) -> ToldChunks:
    """What a report with every chunk in it tells. ValueError, in a few words, for what is no such report."""
    found = _object("report", parse_json(report))
    settings = _object("settings", found.get("settings"))
    chunks, *frames = (
        integer(name, settings.get(name), least, most)
        for name, least, most in (
            ("chunks", 1, MOST_CHUNKS),
            ("chunk_frames", 1, _MOST_FRAME),
            ("prefix_frames", 0, _MOST_FRAME),
            ("pixel_frames", 1, _MOST_FRAME),
        )
    )
    header = StripHeader(chunks, number("fps", settings.get("fps"), 1e-3, MOST_FPS), *frames)
    before = any(_is_admitted(where, each) for where, each in items("before", found.get("prefix_decisions", [])))
    entries: dict[int, StripEntry] = {}
    for where, each in items("chunks", found.get("chunks")):
        told = _object(where, each)
        chunk = integer(where, told.get("chunk"), len(entries), len(entries))
        frames = [
            integer(place, items(place, seen)[0][1], 0, _MOST_FRAME)
            for place, seen in items(where, _object(where, told.get("seen")).get("memory"))
            if seen
        ]
        picked = told.get("choice") is not None or _is_admitted(where, told.get("decision"))
        entries[chunk] = StripEntry(chunk, header.chunks_of(frames), picked or (before and not chunk))
    return ToldChunks(header, entries)


def _is_admitted(where: str, decision: Json) -> bool:
    return decision is not None and _object(where, decision).get("admitted") is True


def _object(where: str, value: Json) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise expected(where, value, "an object")
    return value
