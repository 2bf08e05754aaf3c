"""`run.json`: a RunRecord in JSON under a seal, read within bounds (method.md section 8; docs/files.md).

Format /2 leaves the chunks to the journal (journal.py). Format /1, of version 0.1.0, listed them here; it is read.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict

from ..files.strict_json import Fields, Json, Setting, UnknownName, check_values, expected, integer, items, parse_json
from ..policy.head_types import HEAD_TYPES
from ..rollout.plan import Segment
from ..rollout.recall import MOST_LAYERS
from ..rollout.transitions import TRANSITIONS
from .chunk_json import HASH, parse_chunk
from .record import ANEW, MOST_CHUNKS, MOST_SEED, ChunkRecord, RunProfile, RunRecord, RunSpec, Seeds

FORMAT = "headforcing.run/2"
FORMAT_WITH_CHUNKS = "headforcing.run/1"
MOST_BYTES = 64 * 2**20
_MOST_LAYERS = 256  # or heads a layer
_FORMAT = re.compile(r"headforcing\.run/(\d{1,9})")
_NAMES = ("format", "settings", "segments", "seeds", "profile", "prefix_hash", "sha256")
_SEGMENT_NAMES = ("prompt", "text_hash", "first_chunk", "transition", "soft_chunks", "live")
_MOST_SHARE = math.nextafter(1.0, 0.0)
_RECALL_NAMES = ("recall_layers", "recall_share")
_SEAL = b',"sha256":"%s"}'
SEAL_BYTES = len(_SEAL % (b"0" * 64))


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
        record = RunRecord(spec.settings, spec.segments, seeds, spec.profile, spec.prefix_hash)
        return _parsed(dump_record(record))[0]
    except ValueError as error:
        raise ValueError(
            f"This run cannot be kept ({error}). What decides about a run is written down with it, so that it can go "
            "on later. Leave run_name empty, or change that value."
        ) from error


def dump_record(record: RunRecord) -> bytes:
    """The bytes of `run.json`. ValueError, in a few words, for what could not be read again."""
    data = json.dumps(
        {
            "format": FORMAT,
            "settings": {
                name: dict(value) if isinstance(value, Mapping) else value for name, value in record.settings.items()
            },
            "segments": [_described(segment) for segment in record.segments],
            "seeds": record.seeds,
            "profile": None if record.profile is None else asdict(record.profile),
            "prefix_hash": record.prefix_hash,
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


def parse_record(data: bytes, name: str) -> tuple[RunRecord, tuple[ChunkRecord, ...] | None]:
    """Read the bytes of `run.json` of the run `name`: the record, and the chunks when it lists them itself, as format
    /1 does. RuntimeError for a file that is damaged, not a run, or newer."""
    try:
        return _parsed(data)
    except ValueError as error:
        raise unreadable(name, str(error)) from None


def unreadable(name: str, why: str) -> RuntimeError:
    """The error for a run whose run.json cannot be used."""
    return RuntimeError(
        f"run.json of the run {name!r} cannot be used: {why}. It says how the chunks were made, so nothing was "
        f"changed. Put a good copy of run.json back, or {ANEW}."
    )


def _described(segment: Segment[str]) -> dict[str, Json]:
    values = (segment.prompt, segment.text, segment.first_chunk, segment.transition, segment.soft_chunks, segment.live)
    return dict(zip(_SEGMENT_NAMES, values, strict=True))


def _parsed(data: bytes) -> tuple[RunRecord, tuple[ChunkRecord, ...] | None]:
    value = parse_json(data)
    lists_chunks = _format_of(value) == FORMAT_WITH_CHUNKS
    if seal(data[:-SEAL_BYTES] + b"}") != data:
        raise ValueError("it was changed after it was written")
    try:
        fields = Fields.of(value, "run.json", (*_NAMES, "chunks") if lists_chunks else _NAMES)
        profile, prefix_hash = fields.values["profile"], fields.values["prefix_hash"]
        record = RunRecord(
            _settings(fields.values["settings"]),
            _segments(fields.items("segments")),
            _seeds(fields.items("seeds")),
            None if profile is None else _profile(profile),
            None if prefix_hash is None else fields.text("prefix_hash", HASH, "a SHA-256"),
        )
        return record, _chunks(fields.items("chunks")) if lists_chunks else None
    except UnknownName as error:
        raise ValueError(f"it was made by a newer version of this pack: {error}. Update the pack") from None


def _format_of(value: Json) -> str:
    found = value.get("format") if isinstance(value, dict) else None
    if found in (FORMAT, FORMAT_WITH_CHUNKS):
        return str(found)
    if isinstance(found, str) and (match := _FORMAT.fullmatch(found)):
        raise ValueError(f"it has format {match[0]} of a newer version of this pack, and this one reads {FORMAT}")
    raise ValueError(f"it does not have the format {FORMAT}, so it is not of a run")


def _chunks(values: list[tuple[str, Json]]) -> tuple[ChunkRecord, ...]:
    if len(values) > MOST_CHUNKS:
        raise ValueError(f"it lists {len(values)} chunks, more than {MOST_CHUNKS}")
    return tuple(parse_chunk(Fields.of(value, place, ("sha256", "decisions"))) for place, value in values)


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


def _segments(values: list[tuple[str, Json]]) -> tuple[Segment[str], ...]:
    segments = tuple(_segment(value, place) for place, value in values)
    _check_stretches("segments", [segment.first_chunk for segment in segments])
    return segments


def _segment(value: Json, where: str) -> Segment[str]:
    fields = Fields.of(value, where, _SEGMENT_NAMES)
    return Segment(
        fields.integer("first_chunk", 0, MOST_CHUNKS),
        fields.text("text_hash", HASH, "a SHA-256"),
        fields.choice("transition", tuple(TRANSITIONS)),
        fields.integer("soft_chunks", 1, MOST_CHUNKS),
        fields.text("prompt"),
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
    fields = Fields.of(value, "profile", ("fingerprint", "rule", "labels"), _RECALL_NAMES)
    rows = [items(place, row) for place, row in fields.items("labels")]
    widths = {len(row) for row in rows}
    if len(widths) != 1 or not 1 <= max(widths) <= _MOST_LAYERS or len(rows) > _MOST_LAYERS:
        raise ValueError(f"profile.labels are not a full table of up to {_MOST_LAYERS} rows and columns")
    labels = tuple(tuple(_label(place, label) for place, label in row) for row in rows)
    layers, share = (fields.values.get(name) for name in _RECALL_NAMES)
    return RunProfile(
        fields.text("fingerprint"),
        fields.text("rule"),
        labels,
        None if layers is None else _recall_layers(fields.items("recall_layers"), len(rows)),
        None if share is None else fields.number("recall_share", 0.0, _MOST_SHARE),
    )


def _recall_layers(values: list[tuple[str, Json]], layers: int) -> tuple[int, ...]:
    found: list[int] = []
    for place, value in values:
        found.append(integer(place, value, found[-1] + 1 if found else 0, layers - 1))
    if not 1 <= len(found) <= MOST_LAYERS:
        raise ValueError(f"profile.recall_layers names {len(found)} layers, not 1 to {MOST_LAYERS}")
    return tuple(found)


def _label(where: str, value: Json) -> str:
    if not isinstance(value, str) or value not in HEAD_TYPES:
        raise expected(where, value, f"one of {', '.join(HEAD_TYPES)}")
    return value
