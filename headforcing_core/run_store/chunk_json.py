"""What is written down of one chunk, as JSON: in the journal, and in the run.json of version 0.1.0."""

import re
from dataclasses import asdict

from ..files.strict_json import Fields, Json, integer, number
from ..rollout.episodes import Decision
from ..rollout.recall import Choice
from .record import ChunkRecord

HASH = re.compile(r"[0-9a-f]{64}")
CHOICE = "choice"
"""The name that is there only where something was chosen."""
_MOST_FRAME = 2**31
_NOVELTIES = (-1.0, 3.0)  # one minus a mean cosine, with room for rounding
_LIKENESS = (-2.0, 2.0)  # a mean cosine, with room for rounding


def parse_chunk(fields: Fields) -> ChunkRecord:
    """The chunk in an object with `sha256`, `decisions`, and `choice` or not. ValueError, in a few words, for any
    other."""
    decisions = tuple(_decision(each, place) for place, each in fields.items("decisions"))
    choice = _choice(fields.values[CHOICE], f"{fields.where}.{CHOICE}") if CHOICE in fields.values else None
    return ChunkRecord(fields.text("sha256", HASH, "a SHA-256"), decisions, choice)


def dump_chunk(chunk: ChunkRecord) -> dict[str, Json]:
    """The object of a chunk. ValueError, in a few words, for what no rollout makes."""
    told: dict[str, Json] = {"sha256": chunk.sha256, "decisions": [asdict(each) for each in chunk.decisions]}
    if chunk.choice is not None:
        choice = chunk.choice
        told[CHOICE] = {**asdict(choice), "frames": [*choice.frames], "likeness": [*choice.likeness]}
    parse_chunk(Fields("chunk", told))
    return told


def _decision(value: Json, where: str) -> Decision:
    fields = Fields.of(value, where, tuple(Decision.__dataclass_fields__))
    frame, admitted = fields.integer("frame", 0, _MOST_FRAME), fields.flag("admitted")
    dropped = None if fields.values["dropped"] is None else fields.integer("dropped", 0, frame)
    if dropped is not None and not admitted:
        raise ValueError(f"{where} drops a frame for one that it does not admit")
    return Decision(frame, fields.number("novelty", *_NOVELTIES), fields.number("tau", *_NOVELTIES), admitted, dropped)


def _choice(value: Json, where: str) -> Choice:
    fields = Fields.of(value, where, tuple(Choice.__dataclass_fields__))
    frames: list[int] = []
    for place, each in fields.items("frames"):
        frames.append(integer(place, each, frames[-1] + 1 if frames else 0, _MOST_FRAME))
    lowest = fields.number("lowest", *_LIKENESS)
    best = fields.number("best", lowest, _LIKENESS[1])
    likeness = tuple(number(place, each, lowest, best) for place, each in fields.items("likeness"))
    if len(likeness) != len(frames):
        raise ValueError(f"{where} has {len(frames)} frames and {len(likeness)} likenesses")
    candidates = fields.integer("candidates", len(frames), _MOST_FRAME)
    passes = fields.integer("passes", 0, len(frames) + 2)  # a look, a commit each, and an only step made again
    return Choice(tuple(frames), likeness, candidates, passes, lowest, best)
