"""The sampler's report: JSON that says what was made, by what, and what every head type saw (docs/report.md)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Generic

from ..files.strict_json import Setting
from ..heads.profile import HeadProfile
from ..rollout.loop import Chunk
from ..rollout.plan import Segment, Text

FORMAT = "headforcing.report/1"
EVERY_CHUNK_UP_TO = 400
SHOWN_AROUND = 20


@dataclass(frozen=True)
class RunReport(Generic[Text]):
    """What is reported of a run that has made its chunks, in `seconds`: what decided about them, sentences, the
    `schedule` that makes the same video again, the `attention` that computed, by name, and the most bytes that a chunk
    took beside the history."""

    settings: Mapping[str, Setting]
    notes: Sequence[str]
    segments: Sequence[Segment[Text]]
    schedule: str | None
    profile: HeadProfile | None
    attention: Sequence[str]
    chunks: Sequence[Chunk]
    chunk_bytes: int
    seconds: float

    def text(self, every_chunk: bool = False) -> str:
        """The report as JSON text. Unless `every_chunk` is to be in it, it shows of more than 400 chunks the first and
        last 20, and those around prompt changes."""
        shown = self.chunks
        if not every_chunk and len(shown) > EVERY_CHUNK_UP_TO:
            around = {0, len(shown), *(segment.first_chunk for segment in self.segments)}
            shown = [chunk for chunk in shown if any(abs(chunk.index - place) <= SHOWN_AROUND for place in around)]
        profile, recall = self.profile, self._recall()
        notes = list(self.notes)
        if recall is not None:
            notes.append(
                f"Recalled: {recall['looks']} looks and {recall['loads']} chunks read again, {recall['passes']} passes "
                f"in all, for {recall['choices']} choices."
            )
        return json.dumps(
            {
                "format": FORMAT,
                "notes": notes,
                "segments": _stretches(self.segments, len(self.chunks)),
                "schedule": self.schedule,
                "settings": dict(self.settings),
                "attention": list(self.attention),
                "profile": None if profile is None else _profile(profile),
                "prefix_decisions": [asdict(decision) for decision in self.chunks[0].prefix_decisions],
                "chunks": [_chunk(chunk) for chunk in shown],
                "recall": recall,
                "kv_bytes": self.chunks[-1].kv_bytes,
                "chunk_bytes": self.chunk_bytes,
                "peak_bytes": max(chunk.kv_bytes for chunk in self.chunks) + self.chunk_bytes,
                "seconds": round(self.seconds, 3),
            }
        )

    def _recall(self) -> dict[str, int] | None:
        """What recalling took, of all chunks as each was made; None under a policy that does not recall."""
        if self.settings.get("episode_choice") != "recall":
            return None
        made = [(chunk.index, chunk.choice) for chunk in self.chunks if chunk.choice is not None]
        choices = [choice for _, choice in made]
        passes, looks = sum(choice.passes for choice in choices), sum(choice.candidates > 1 for choice in choices)
        repeats = sum(bool(choice.frames) and _has_one_step(self.settings, chunk) for chunk, choice in made)
        return {"choices": len(choices), "looks": looks, "loads": passes - looks - repeats, "passes": passes}


def _has_one_step(settings: Mapping[str, Setting], chunk: int) -> bool:
    own = settings["first_sigmas"] if chunk == 0 else None
    sigmas = own or settings["sigmas"]
    return isinstance(sigmas, Sequence) and len(sigmas) == 2


def _profile(profile: HeadProfile) -> dict[str, object]:
    return {
        "fingerprint": profile.fingerprint,
        "rule": profile.rule.rule,
        "attention": list(profile.attention),
        "labels": profile.labels,
        "recall_layers": profile.recall_layers,
        "recall_share": profile.recall_share,
    }


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
        "choice": None if chunk.choice is None else asdict(chunk.choice),
        "kv_bytes": chunk.kv_bytes,
        "seen": {head_type: [list(place) for place in seen] for head_type, seen in chunk.seen.items()},
    }


def with_notes(report: str, notes: Sequence[str]) -> str:
    """A report with further notes; without any, the same text."""
    if not notes:
        return report
    told = json.loads(report)
    return json.dumps({**told, "notes": [*told.get("notes", []), *notes]})
