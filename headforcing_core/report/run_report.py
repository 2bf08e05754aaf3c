"""The sampler's report: JSON that says what was made, by what, and what every head type saw (docs/report.md)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from ..files.strict_json import Setting
from ..heads.profile import HeadProfile
from ..rollout.loop import Chunk
from ..rollout.plan import Segment, Text

FORMAT = "headforcing.report/1"
EVERY_CHUNK_UP_TO = 400
SHOWN_AROUND = 20


def make_report(
    settings: Mapping[str, Setting],
    notes: Sequence[str],
    segments: Sequence[Segment[Text]],
    schedule: str | None,
    profile: HeadProfile | None,
    chunks: Sequence[Chunk],
    shown: Sequence[Chunk],
    chunk_bytes: int,
    seconds: float,
) -> str:
    """The report as JSON text, with the chunks that are to be `shown` in it, and the `schedule` that makes the same
    video again."""
    return json.dumps(
        {
            "format": FORMAT,
            "notes": list(notes),
            "segments": _stretches(segments, len(chunks)),
            "schedule": schedule,
            "settings": dict(settings),
            "profile": None
            if profile is None
            else {"fingerprint": profile.fingerprint, "rule": profile.rule.rule, "labels": profile.labels},
            "prefix_decisions": [asdict(decision) for decision in chunks[0].prefix_decisions],
            "chunks": [_chunk(chunk) for chunk in shown],
            "kv_bytes": chunks[-1].kv_bytes,
            "chunk_bytes": chunk_bytes,
            "peak_bytes": max(chunk.kv_bytes for chunk in chunks) + chunk_bytes,
            "seconds": round(seconds, 3),
        }
    )


def shown_chunks(chunks: Sequence[Chunk], segments: Sequence[Segment[Text]]) -> list[Chunk]:
    """What a report can show of so many chunks: beyond 400 the first and last 20 and those around prompt changes."""
    if len(chunks) <= EVERY_CHUNK_UP_TO:
        return list(chunks)
    around = {0, len(chunks), *(segment.first_chunk for segment in segments)}
    return [chunk for chunk in chunks if any(abs(chunk.index - place) <= SHOWN_AROUND for place in around)]


def _stretches(segments: Sequence[Segment[Text]], chunks: int) -> list[dict[str, object]]:
    ends = [*(following.first_chunk for following in segments[1:]), chunks]
    return [
        {
            "prompt": segment.prompt,
            "chunks": (segment.first_chunk, end - 1),
            "transition": segment.transition if segment.first_chunk else None,
            "live": segment.live,
        }
        for segment, end in zip(segments, ends, strict=True)
    ]


def _chunk(chunk: Chunk) -> dict[str, object]:
    return {
        "chunk": chunk.index,
        "frames": list(chunk.frames),
        "position": chunk.position,
        "seconds": round(chunk.seconds, 4),
        "decision": asdict(chunk.decisions[0]) if chunk.decisions else None,
        "kv_bytes": chunk.kv_bytes,
        "seen": {head_type: [list(place) for place in seen] for head_type, seen in chunk.seen.items()},
    }


def with_notes(report: str, notes: Sequence[str]) -> str:
    """A report with further notes; without any, the same text."""
    if not notes:
        return report
    told = json.loads(report)
    return json.dumps({**told, "notes": [*told.get("notes", []), *notes]})
