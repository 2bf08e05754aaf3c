"""Whether a kept run is the one that is wanted now, and from which chunk on it is not (method.md section 8)."""

import hashlib
import json
import os
from dataclasses import dataclass
from itertools import zip_longest

from ..files.strict_json import Setting
from ..policy.fitting import USUAL_SHARE
from ..policy.head_types import HEAD_TYPES, Labels
from ..rollout.episodes import descriptor_layers
from ..rollout.plan import Segment
from ..rollout.transitions import TRANSITIONS
from .record import ANEW, CARRIED, NEW, OF_POLICY, PAST, RunRecord, RunSpec, Seeds
from .record_json import begin_record

_LONGEST_SHOWN = 100
_LONGEST_SCHEDULE = 4000
_FAMILY = "Choose the family of that run in Load AR Model"
# settings that no input is called by, or not one alone: what they are, and how to get the one of before
_FROM_NODES = {
    "fingerprint": ("fingerprint (the checkpoint)", "Load the checkpoint of that run"),
    "weight_patches": ("weight_patches (LoRA)", "Connect the LoRA loaders of that run at their strengths"),
    "chunk_frames": ("chunk_frames", "Choose the family and chunk_frames of that run in Load AR Model"),
    "trained_frames": ("trained_frames", f"{_FAMILY}, and trained_frames in Head Cache Policy as it had it"),
    "sigmas": ("sigmas", f"{_FAMILY}, and sigmas as it had them"),
    **{
        name: (f"{name} (of the family)", f"{_FAMILY}, and sigmas as it had them")
        for name in ("timesteps", "first_sigmas", "first_timesteps", "solver")
    },
    "source": ("video", "Connect the video of that run"),
    "source_fps": ("fps (of the video that it was made of)", "Set fps back"),
    **{
        f"{OF_POLICY}{name}": (
            f"{name} (Head Cache Policy)",
            f"Set {name} back in Head Cache Policy, or choose the family of that run in Load AR Model",
        )
        for name in (*HEAD_TYPES, "compress_from_chunk")
    },
    f"{OF_POLICY}fills": ("fills (of the preset)", "Choose the preset of that run in Head Cache Policy"),
}


@dataclass(frozen=True)
class Difference:
    """The first chunk that a kept run and the wanted one do not share, what is different there, in words, and whether
    that is of scenes."""

    chunk: int
    what: str
    is_of_scenes: bool = True


def wanted_seeds(kept: Seeds, seed: int, from_chunk: int) -> Seeds:
    """The seeds of a run that takes `seed` from a chunk on and the kept ones before it; `from_chunk` -1 takes it from
    chunk 0 on."""
    before = tuple(pair for pair in kept if pair[0] < from_chunk)
    if before and before[-1][1] == seed:
        return before
    return (*before, (max(from_chunk, 0), seed))


def check_same_run(name: str, kept: RunRecord, spec: RunSpec) -> None:
    """ValueError, naming the first difference and both values, when chunks of the kept run and those that are wanted
    would not go together. RuntimeError for a run with settings that only a newer version has."""
    wanted = begin_record(spec)
    if newer := [setting for setting in kept.settings if setting not in wanted.settings]:
        raise RuntimeError(
            f"The run {name!r} was made by a newer version of this pack: it has the setting {_shown(newer[0])}, which "
            f"this one does not know. Its chunks and the ones still to be made would not go together. Update the pack, "
            f"or {ANEW}."
        )
    for setting, now in wanted.settings.items():
        before = kept.settings.get(setting, spec.meant_before.get(setting))
        if before != now and before not in spec.older_settings.get(setting, ()):
            called, back = _named(setting)
            shown = ["(not set)" if value is None else _shown(value) for value in (before, now)]
            raise _other_run(name, f"{called} {shown[0]}", f"{called} is {shown[1]}", back)
    if _labels(kept) != _labels(wanted):
        before, now = (_shown_hash(_labels_hash(_labels(record))) for record in (kept, wanted))
        raise _other_run(name, f"head labels {before}", f"they are {now}", "Connect the profile of that run")
    before, now = _recall(kept), _recall(wanted)
    if before != now:
        shown = [
            f"recall by layers {', '.join(map(str, layers))} and share {share:g}" for layers, share in (before, now)
        ]
        raise _other_run(name, shown[0], shown[1], "Connect the profile of that run")
    if kept.prefix_hash not in (wanted.prefix_hash, *spec.older_prefix_hashes):
        raise _begun_otherwise(name, kept, spec)


def check_from_chunk(name: str, kept: RunRecord, finished: int, spec: RunSpec, from_chunk: int) -> None:
    """ValueError for a chunk to begin anew at that the run has not reached, or that the video does not have. One that
    was begun anew before with this seed stays good when damage has since made the run shorter."""
    if from_chunk >= spec.chunks:
        raise ValueError(
            f"from_chunk is {from_chunk}, but the video has {spec.chunks} chunks, counted from 0. There is nothing to "
            f"make from there on. Set from_chunk to {spec.chunks - 1} or less, or make the video longer."
        )
    if from_chunk > finished and (from_chunk, spec.seed) not in kept.seeds:
        raise ValueError(
            f"from_chunk is {from_chunk}, but the run {name!r} has {finished} finished chunks. A chunk can "
            f"be made anew only after those before it. Set from_chunk to {finished} or less, or to -1 to go on."
        )


def first_difference(kept: RunRecord, wanted: RunRecord, chunks: int) -> Difference | None:
    """The first of the first `chunks` chunks that the two make under another seed or another text."""
    found = [each for each in (_seed_difference(kept, wanted), _segment_difference(kept, wanted)) if each is not None]
    first = min(found, key=lambda each: each.chunk, default=None)
    return first if first is not None and first.chunk < chunks else None


def differing(name: str, finished: int, difference: Difference, from_chunk: int, schedule: str) -> ValueError:
    """The error for finished chunks that would have to be other ones; `schedule` is the text of their scenes, or empty
    when they have none."""
    beginning = f"Chunk {difference.chunk} of the run {name!r} {difference.what}"
    back = ""
    if difference.is_of_scenes and schedule:
        text = f":\n{schedule}" if len(schedule) <= _LONGEST_SCHEDULE else ", from its run.json"
        back = (
            " To set it back, also where a choice such as {red|blue} was drawn another way, put the texts of the run "
            f"into Prompt Schedule{text}"
        )
    if from_chunk >= 0:
        return ValueError(
            f"{beginning}, but from_chunk is {from_chunk}. The chunks before from_chunk stay as they are. Set "
            f"from_chunk to {difference.chunk} or less, or set it back.{back}"
        )
    chunk = difference.chunk
    return ValueError(
        f"{beginning}. {finished} chunks are finished and stay as they are. Set it back to go on, set from_chunk to "
        f"{chunk} to make it and all after it anew (or right-click chunk {chunk} on the film strip, Make again from "
        f"here; the film so far stays as a take), or {NEW}.{back}"
    )


def _seed_difference(kept: RunRecord, wanted: RunRecord) -> Difference | None:
    for chunk in sorted({first for first, _ in (*kept.seeds, *wanted.seeds)}):
        before, now = kept.seed_at(chunk), wanted.seed_at(chunk)
        if before != now:
            parts = f" (its seeds are {_shown_seeds(kept.seeds)})" if len(kept.seeds) > 1 else ""
            return Difference(chunk, f"has seed {before}, now it would be {now}{parts}", is_of_scenes=False)
    return None


def _segment_difference(kept: RunRecord, wanted: RunRecord) -> Difference | None:
    for index, (before, now) in enumerate(zip_longest(kept.segments, wanted.segments)):
        if before is None or now is None or before.first_chunk != now.first_chunk:
            first = min((each for each in (before, now) if each), key=lambda each: each.first_chunk)
            when = "is where" if first is before else "is now where"
            other = "now none does" if first is before else "none did before"
            return Difference(first.first_chunk, f"{when} the scene {_shown(first.prompt)} begins, and {other}")
        is_first = index == 0 and wanted.settings.get(PAST) != CARRIED
        if _way(before, is_first) != _way(now, is_first):
            ways = f"takes over by {_shown_way(before)}, now by {_shown_way(now)}"
            return Difference(now.first_chunk, f"begins the scene {_shown(now.prompt)}, which {ways}")
        if before.text != now.text:
            shown = _shown_apart(before.prompt, now.prompt)
            what = f"has the prompt {shown[0]}, now it would be {shown[1]}"
            if before.prompt == now.prompt:
                what = f"has the prompt {_shown(now.prompt)}, which is now another text, or encoded otherwise"
            return Difference(now.first_chunk, what)
    return None


def _named(setting: str) -> tuple[str, str]:
    """What a setting is called where the artist sets it, and how it is set back."""
    if setting in _FROM_NODES:
        return _FROM_NODES[setting]
    if setting.startswith(OF_POLICY):
        called = setting.removeprefix(OF_POLICY)
        return f"{called} (Head Cache Policy)", f"Set {called} back in Head Cache Policy"
    return setting, f"Set {setting} back"


def _way(segment: Segment[str], is_first: bool) -> tuple[str, int]:
    """What a segment's way to take over does: nothing for the first of a video, its chunks count for soft alone."""
    if is_first:
        return "", 0
    return segment.transition, segment.soft_chunks if TRANSITIONS[segment.transition].fades else 0


def _other_run(name: str, before: str, now: str, back: str) -> ValueError:
    return ValueError(
        f"The run {name!r} was made with {before}, now {now}. Its chunks and the ones still to be made would not go "
        f"together. {back} to go on, or {ANEW}."
    )


def _begun_otherwise(name: str, kept: RunRecord, spec: RunSpec) -> ValueError:
    if spec.prefix_hash is None:
        return _other_run(name, "start_image or previous", "neither is connected", "Connect what it began with")
    if kept.prefix_hash is None:
        return _other_run(name, "nothing before it", f"{spec.begun_by} is connected", f"Disconnect {spec.begun_by}")
    if spec.begun_by == "previous":
        return ValueError(
            f"The scene before has changed since the run {name!r} was begun: previous has another video now, which its "
            "chunks do not go on from. Set on_existing_run to new to make this scene anew after it (the old one stays "
            "in its folder), or choose the earlier take of the scene before."
        )
    return ValueError(
        f"{spec.begun_by} has another picture than the run {name!r} was begun with, which its chunks do not go on "
        "from. Set on_existing_run to new to make the video anew from it (the old one stays in its folder), or connect "
        "the earlier picture."
    )


def _labels(record: RunRecord) -> Labels | None:
    return None if record.profile is None else record.profile.labels


def _recall(record: RunRecord) -> tuple[tuple[int, ...], float]:
    """By which layers, and within which share, is recalled; runs of older versions did as is usual."""
    if record.profile is None:
        return (), USUAL_SHARE
    layers = record.profile.recall_layers or descriptor_layers(len(record.profile.labels))
    return layers, USUAL_SHARE if record.profile.recall_share is None else record.profile.recall_share


def _labels_hash(labels: Labels | None) -> str | None:
    return None if labels is None else hashlib.sha256(json.dumps(labels).encode()).hexdigest()


def _shown_hash(value: str | None) -> str:
    return "none" if value is None else value[:12]


def _shown_seeds(seeds: Seeds) -> str:
    return ", ".join(f"{seed} from chunk {first} on" for first, seed in seeds[-8:])


def _shown_way(segment: Segment[str]) -> str:
    over = f" over {segment.soft_chunks} chunks" if TRANSITIONS[segment.transition].fades else ""
    return f"{segment.transition}{over}"


def _shown_apart(before: str, now: str) -> tuple[str, str]:
    """Two texts, long ones from where they differ."""
    same = len(os.path.commonprefix([before, now]))
    begin = max(0, same - _LONGEST_SHOWN // 4) if max(len(before), len(now)) > _LONGEST_SHOWN else 0
    dots = "..." if begin else ""
    return _shown(dots + before[begin:]), _shown(dots + now[begin:])


def _shown(value: Setting) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."
