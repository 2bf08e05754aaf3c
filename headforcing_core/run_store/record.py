"""What is written down of a kept run, `run.json`: everything that decided about its chunks, and the chunks themselves
(method.md section 8; docs/files.md)."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeAlias

from ..files.strict_json import Fields, Json, Setting, check_values, expected, integer, items, parse_json
from ..policy.head_types import HEAD_TYPES, Labels
from ..rollout.episodes import Decision
from ..rollout.transitions import TRANSITIONS

FORMAT = "headforcing.run/1"
MOST_BYTES = 64 * 2**20
MOST_CHUNKS = 150_000  # ten hours, a frame a chunk at 16 pictures a second
MOST_SEED = 2**64 - 1
_MOST_FRAME = 2**31
_MOST_LAYERS = 256  # or heads a layer
_NOVELTIES = (-1.0, 3.0)  # one minus a mean cosine, with room for rounding
_HASH = re.compile(r"[0-9a-f]{64}")
_FORMAT = re.compile(r"headforcing\.run/(\d{1,9})")
_NAMES = ("format", "settings", "segments", "seeds", "profile", "prefix_hash", "chunks", "sha256")
_SEAL = b',"sha256":"%s"}'
_SEAL_BYTES = len(_SEAL % (b"0" * 64))

Seeds: TypeAlias = tuple[tuple[int, int], ...]
"""(first chunk, seed) of every stretch of chunks under one seed."""


@dataclass(frozen=True)
class RunSegment:
    """A scene: its prompt, the SHA-256 of its encoded text, the chunk on which it begins, how it takes over, and
    whether it was typed while the run was made."""

    prompt: str
    text_hash: str
    first_chunk: int
    transition: str
    soft_chunks: int
    live: bool = False


@dataclass(frozen=True)
class RunProfile:
    """The labels of a run's heads, and which profile they are from."""

    fingerprint: str
    rule: str
    labels: Labels


@dataclass(frozen=True)
class RunSpec:
    """A run as it is wanted now.

    `settings` are the values that must be the same for the chunks to be of one run - so not the length; `seed` is that
    of the chunks still to be made; `prefix_hash` the SHA-256 of what is committed before chunk 0, or None; `chunks` how
    many the video has; `chunk_shape` (1, channels, frames, height, width) of each, in model space.
    """

    settings: Mapping[str, Setting]
    segments: tuple[RunSegment, ...]
    seed: int
    profile: RunProfile | None
    prefix_hash: str | None
    chunks: int
    chunk_shape: tuple[int, ...]


@dataclass(frozen=True)
class ChunkRecord:
    """A finished chunk: the SHA-256 of its file, and the episodic decisions of its commit pass."""

    sha256: str
    decisions: tuple[Decision, ...]


@dataclass(frozen=True)
class RunRecord:
    """All of `run.json`. `chunks` are the finished ones, from chunk 0 on."""

    settings: Mapping[str, Setting]
    segments: tuple[RunSegment, ...]
    seeds: Seeds
    profile: RunProfile | None
    prefix_hash: str | None
    chunks: tuple[ChunkRecord, ...]

    def seed_at(self, chunk: int) -> int:
        """The seed of a chunk."""
        return [seed for first, seed in self.seeds if first <= chunk][-1]


def begin_record(spec: RunSpec) -> RunRecord:
    """The record of a run that has no chunk yet, as it will be read again. ValueError for a spec that could not be
    written, or of more than MOST_CHUNKS chunks."""
    if not 1 <= spec.chunks <= MOST_CHUNKS:
        raise ValueError(
            f"The video has {spec.chunks} chunks. A run that is kept can have 1 to {MOST_CHUNKS}. Make it shorter, or "
            "leave run_name empty."
        )
    seeds = ((0, spec.seed),)
    try:
        return _parsed(dump_record(RunRecord(spec.settings, spec.segments, seeds, spec.profile, spec.prefix_hash, ())))
    except ValueError as error:
        raise ValueError(
            f"This run cannot be kept ({error}). What decides about a run is written down with it, so that it can go "
            "on later. Leave run_name empty, or change that value."
        ) from error


def dump_record(record: RunRecord) -> bytes:
    """The bytes of `run.json`. ValueError, in a few words, for what could not be read again."""
    for chunk in record.chunks[-1:]:  # those before were checked when they came
        check_decisions(chunk.decisions)
    data = json.dumps(
        {
            "format": FORMAT,
            "settings": {
                name: dict(value) if isinstance(value, Mapping) else value for name, value in record.settings.items()
            },
            "segments": [asdict(segment) for segment in record.segments],
            "seeds": record.seeds,
            "profile": None if record.profile is None else asdict(record.profile),
            "prefix_hash": record.prefix_hash,
            "chunks": [
                {"sha256": chunk.sha256, "decisions": [vars(decision) for decision in chunk.decisions]}
                for chunk in record.chunks
            ],
        },
        allow_nan=False,
        separators=(",", ":"),
    ).encode("ascii")
    data = seal(data)
    if len(data) > MOST_BYTES:
        raise ValueError(f"run.json would have {len(data)} bytes, more than {MOST_BYTES}")
    check_values(data)
    return data


def seal(data: bytes) -> bytes:
    """A JSON object with the SHA-256 of its text as a last value, so that no change of it goes unseen."""
    return data[:-1] + _SEAL % hashlib.sha256(data).hexdigest().encode()


def parse_record(data: bytes, name: str) -> RunRecord:
    """Read the bytes of `run.json` of the run `name`. RuntimeError for a file that is damaged, not a run, or newer."""
    try:
        return _parsed(data)
    except ValueError as error:
        raise unreadable(name, str(error)) from None


def unreadable(name: str, why: str) -> RuntimeError:
    """The error for a run whose run.json cannot be used."""
    return RuntimeError(
        f"run.json of the run {name!r} cannot be used: {why}. It says which chunks there are and how they were made, "
        "so nothing was changed. Put a good copy of run.json back, or set on_existing_run to new (another folder) or "
        "replace (delete the run and begin anew)."
    )


def check_decisions(decisions: Sequence[Decision]) -> None:
    """ValueError, in a few words, for decisions that no rollout makes."""
    for index, decision in enumerate(decisions):
        _decision(vars(decision), f"decisions[{index}]")


def _parsed(data: bytes) -> RunRecord:
    value = parse_json(data)
    _check_format(value)
    if seal(data[:-_SEAL_BYTES] + b"}") != data:
        raise ValueError("it was changed after it was written")
    fields = Fields.of(value, "run.json", _NAMES)
    chunks = fields.items("chunks")
    if len(chunks) > MOST_CHUNKS:
        raise ValueError(f"it lists {len(chunks)} chunks, more than {MOST_CHUNKS}")
    profile, prefix_hash = fields.values["profile"], fields.values["prefix_hash"]
    return RunRecord(
        _settings(fields.values["settings"]),
        _segments(fields.items("segments")),
        _seeds(fields.items("seeds")),
        None if profile is None else _profile(profile),
        None if prefix_hash is None else fields.text("prefix_hash", _HASH, "a SHA-256"),
        tuple(_chunk(value, place) for place, value in chunks),
    )


def _check_format(value: Json) -> None:
    found = value.get("format") if isinstance(value, dict) else None
    if found == FORMAT:
        return
    if isinstance(found, str) and (match := _FORMAT.fullmatch(found)):
        raise ValueError(f"it has format {match[0]} of a newer version of this pack, and this one reads {FORMAT}")
    raise ValueError(f"it does not have the format {FORMAT}, so it is not of a run")


def _settings(value: Json) -> dict[str, Setting]:
    if not isinstance(value, dict):
        raise expected("settings", value, "an object")
    return {name: _setting(f"settings.{name[:60]}", each) for name, each in value.items()}


def _setting(where: str, value: Json) -> Setting:
    if isinstance(value, list):
        return [_plain_number(place, each) for place, each in items(where, value)]
    if isinstance(value, dict):
        return {name: integer(f"{where}.{name[:60]}", each, -MOST_SEED, MOST_SEED) for name, each in value.items()}
    return value


def _plain_number(where: str, value: Json) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise expected(where, value, "a number")
    return value


def _segments(values: list[tuple[str, Json]]) -> tuple[RunSegment, ...]:
    segments = tuple(_segment(value, place) for place, value in values)
    _check_stretches("segments", [segment.first_chunk for segment in segments])
    return segments


def _segment(value: Json, where: str) -> RunSegment:
    fields = Fields.of(value, where, tuple(RunSegment.__dataclass_fields__))
    return RunSegment(
        fields.text("prompt"),
        fields.text("text_hash", _HASH, "a SHA-256"),
        fields.integer("first_chunk", 0, MOST_CHUNKS),
        fields.choice("transition", tuple(TRANSITIONS)),
        fields.integer("soft_chunks", 1, MOST_CHUNKS),
        fields.flag("live"),
    )


def _seeds(values: list[tuple[str, Json]]) -> Seeds:
    seeds: list[tuple[int, int]] = []
    for place, value in values:
        pair = items(place, value)
        if len(pair) != 2:
            raise expected(place, value, "a chunk and a seed")
        seeds.append((integer(*pair[0], 0, MOST_CHUNKS), integer(*pair[1], 0, MOST_SEED)))
    _check_stretches("seeds", [first for first, _ in seeds])
    return tuple(seeds)


def _check_stretches(where: str, firsts: list[int]) -> None:
    rising = all(a < b for a, b in zip(firsts, firsts[1:], strict=False))
    if not firsts or firsts[0] != 0 or not rising:
        raise ValueError(f"{where} do not begin at chunk 0 and go on in order")


def _profile(value: Json) -> RunProfile:
    fields = Fields.of(value, "profile", tuple(RunProfile.__dataclass_fields__))
    rows = [items(place, row) for place, row in fields.items("labels")]
    widths = {len(row) for row in rows}
    if len(widths) != 1 or not 1 <= max(widths) <= _MOST_LAYERS or len(rows) > _MOST_LAYERS:
        raise ValueError(f"profile.labels are not a full table of up to {_MOST_LAYERS} rows and columns")
    labels = tuple(tuple(_label(place, label) for place, label in row) for row in rows)
    return RunProfile(fields.text("fingerprint"), fields.text("rule"), labels)


def _label(where: str, value: Json) -> str:
    if not isinstance(value, str) or value not in HEAD_TYPES:
        raise expected(where, value, f"one of {', '.join(HEAD_TYPES)}")
    return value


def _chunk(value: Json, where: str) -> ChunkRecord:
    fields = Fields.of(value, where, ("sha256", "decisions"))
    decisions = tuple(_decision(each, place) for place, each in fields.items("decisions"))
    return ChunkRecord(fields.text("sha256", _HASH, "a SHA-256"), decisions)


def _decision(value: Json, where: str) -> Decision:
    fields = Fields.of(value, where, tuple(Decision.__dataclass_fields__))
    frame, admitted = fields.integer("frame", 0, _MOST_FRAME), fields.flag("admitted")
    dropped = None if fields.values["dropped"] is None else fields.integer("dropped", 0, frame)
    if dropped is not None and not admitted:
        raise ValueError(f"{where} drops a frame for one that it does not admit")
    return Decision(frame, fields.number("novelty", *_NOVELTIES), fields.number("tau", *_NOVELTIES), admitted, dropped)
