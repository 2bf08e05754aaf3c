"""POST /head_forcing/takes and /head_forcing/choose_take: the takes of a kept run, and one of them made the run
(docs/takes.md).

Asked of the first: `run_name`. Answered: {"takes": [{"name", "is_run", "chunks", "differs_from", "differs_second",
"differs_prompt", "seeds", "seeds_as_text", "schedule", "video", "problem"}]}, the run itself first; none where no run
has that name. `differs_from` is the first chunk that is not the run's, null where all are, `differs_second` the second
of the video at which it begins, and `differs_prompt` the one that it was made by, null without a schedule; `seeds` are
[[first chunk, seed]]; `schedule` is the text for Prompt Schedule, null without one, or where nothing tells how fast the
video is; `video` is what GET /view is asked for, {"filename", "subfolder", "type"}, and the `pictures` in it, or null;
`problem` is empty, or says why a folder cannot be read.

Asked of the second: `run_name`, and the name of the `take`. Answered: {"kept_as", "seed", "schedule"}: the take that
the run was until now is; seed and text with which the run goes on without a step.
"""

from __future__ import annotations

from pathlib import Path

from ...headforcing_core.files.plain_names import is_plain_name
from ...headforcing_core.files.strict_json import Fields, Json
from ...headforcing_core.run_store.choosing import Take, choose_take, list_takes
from ...headforcing_core.run_store.folder import STRIP_FILE
from ...headforcing_core.run_store.record import RunRecord
from ...headforcing_core.run_store.strip_entry import StripHeader
from ...headforcing_core.run_store.strip_file import read_header
from ..keeping.output_folder import runs_folder
from ..request.run_scenes import kept_schedule
from ..run.live_mailbox import NotNow
from ..strip.strip_answer import told_of_kept_video
from ..strip.told_chunks import told_in

FIELDS = ("run_name",)
CHOICE_FIELDS = ("run_name", "take")


def answer(asked: Fields) -> dict[str, Json]:
    """The takes of a run. ValueError for a field of the wrong type, NotNow when the disk is at fault."""
    name = asked.text("run_name")
    try:
        takes = list_takes(runs_folder(), name) if is_plain_name(name) else []
    except RuntimeError as refusal:
        raise NotNow(str(refusal)) from refusal
    return {"takes": [_told(take) for take in takes]}


def answer_choice(asked: Fields) -> dict[str, Json]:
    """Let a take become the run. ValueError for a name that is not plain, NotNow when it cannot be chosen."""
    name, take = asked.text("run_name"), asked.text("take")
    try:
        record = choose_take(runs_folder(), name, take)
    except RuntimeError as refusal:
        raise NotNow(str(refusal)) from refusal
    header = _header(runs_folder() / name)
    return {"kept_as": take, "seed": record.seeds[-1][1], "schedule": _schedule(record, header)}


def _told(take: Take) -> Json:
    folder, header = take.folder, _header(take.folder)
    seeds = () if take.record is None else take.record.seeds
    second, video = None, None
    schedule = None if take.record is None else _schedule(take.record, header)
    if header is not None:
        second = None if take.differs_from is None else header.second(take.differs_from)
        video = told_of_kept_video(folder, header, len(take.chunks))
    return {
        "name": folder.name,
        "is_run": take.is_run,
        "chunks": len(take.chunks),
        "differs_from": take.differs_from,
        "differs_second": second,
        "differs_prompt": None if schedule is None else _differing_prompt(take),
        "seeds": [[first, seed] for first, seed in seeds],
        "seeds_as_text": [[first, str(seed)] for first, seed in seeds],
        "schedule": schedule,
        "video": video,
        "problem": take.problem,
    }


def _differing_prompt(take: Take) -> str | None:
    if take.record is None or take.differs_from is None:
        return None
    return next(each.prompt for each in reversed(take.record.segments) if each.first_chunk <= take.differs_from)


def _header(folder: Path) -> StripHeader | None:
    """How long and how fast a run is: by its film strip, or of an older one by its report."""
    header = read_header(folder / STRIP_FILE)
    told = told_in(folder) if header is None else None
    return header if told is None else told.header


def _schedule(record: RunRecord, header: StripHeader | None) -> str | None:
    if header is None:
        return None

    def start_second(chunk: int) -> float:
        return (header.pixel_frames_before(chunk) - header.pixel_frames_before(0)) / header.fps

    return kept_schedule(record.segments, start_second, record.past) or None
