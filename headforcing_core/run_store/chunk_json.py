"""What is written down of one chunk, as JSON: in the journal, and in the run.json of version 0.1.0."""

import re
from collections.abc import Sequence

from ..files.strict_json import Fields, Json
from ..rollout.episodes import Decision
from .record import ChunkRecord

HASH = re.compile(r"[0-9a-f]{64}")
_MOST_FRAME = 2**31
_NOVELTIES = (-1.0, 3.0)  # one minus a mean cosine, with room for rounding


def parse_chunk(fields: Fields) -> ChunkRecord:
    """The chunk in an object with `sha256` and `decisions`. ValueError, in a few words, for any other."""
    decisions = tuple(_decision(each, place) for place, each in fields.items("decisions"))
    return ChunkRecord(fields.text("sha256", HASH, "a SHA-256"), decisions)


def check_decisions(decisions: Sequence[Decision]) -> None:
    """ValueError, in a few words, for decisions that no rollout makes."""
    for index, decision in enumerate(decisions):
        _decision(vars(decision), f"decisions[{index}]")


def _decision(value: Json, where: str) -> Decision:
    fields = Fields.of(value, where, tuple(Decision.__dataclass_fields__))
    frame, admitted = fields.integer("frame", 0, _MOST_FRAME), fields.flag("admitted")
    dropped = None if fields.values["dropped"] is None else fields.integer("dropped", 0, frame)
    if dropped is not None and not admitted:
        raise ValueError(f"{where} drops a frame for one that it does not admit")
    return Decision(frame, fields.number("novelty", *_NOVELTIES), fields.number("tau", *_NOVELTIES), admitted, dropped)
