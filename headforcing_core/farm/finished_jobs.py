"""Which jobs are done. A job that was made leaves a note in the folder of its run: what it was made from, what the run
says of itself, and every file with its size. It is done while all of that is so; a run that is gone, shortened, made
anew or asked for in another way is not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from ..files.safe_files import read_file, write_file
from ..files.strict_json import Fields, Json, parse_json
from .job_table import Job

NOTE_FILE = "farm.json"
_FORMAT = "headforcing.farm/1"
_RUNS = "head_forcing"  # in the output folder
_JOURNAL = "journal.jsonl"
_TOLD = ("run.json", _JOURNAL)  # what says which chunks a run has, with their SHA-256
_OPEN = ("lock", NOTE_FILE)
_MOST_BYTES = 256_000_000


def is_done(output: Path, job: Job) -> bool:
    """Whether a job was made and all that it made is there."""
    try:
        read = parse_json(read_file(_note(output, job), _MOST_BYTES))
        note = Fields.of(read, NOTE_FILE, ("format", "workflow", "told", "files"))
        files = note.values["files"]
        return (
            [note.text("format"), note.text("workflow"), note.text("told")]
            == [_FORMAT, _hash_of(job), _told(output, job)]
            and isinstance(files, dict)
            and all((output / name).stat().st_size == size for name, size in files.items())
        )
    except (OSError, ValueError):
        return False


def note_done(output: Path, job: Job, saved: Sequence[str]) -> None:
    """A job was made; `saved` are its further files, by their paths in the output folder. OSError when that cannot be
    written."""
    own = (path for run in job.runs for path in _folder(output, run).iterdir())
    kept = [path.relative_to(output).as_posix() for path in own if path.is_file() and path.name not in _OPEN]
    files = {name: (output / name).stat().st_size for name in (*kept, *saved)}
    note = {"format": _FORMAT, "workflow": _hash_of(job), "told": _told(output, job), "files": files}
    write_file(_note(output, job), json.dumps(note, indent=1).encode())


def chunks_kept(output: Path, job: Job) -> int:
    """How many chunks of a job are kept by now."""
    found = 0
    for run in job.runs:
        try:
            found += read_file(_folder(output, run) / _JOURNAL, _MOST_BYTES).count(b"\n")
        except (OSError, ValueError):
            continue  # not begun
    return found


def _folder(output: Path, run: str) -> Path:
    return output / _RUNS / run


def _note(output: Path, job: Job) -> Path:
    return _folder(output, job.runs[0]) / NOTE_FILE


def _hash_of(job: Job) -> str:
    """Of what ComfyUI is given, without the titles."""
    given: Json = {
        key: {"class_type": node["class_type"], "inputs": node["inputs"]} for key, node in job.workflow.items()
    }
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()


def _told(output: Path, job: Job) -> str:
    digest = hashlib.sha256()
    for run in job.runs:
        for name in _TOLD:
            digest.update(read_file(_folder(output, run) / name, _MOST_BYTES))
    return digest.hexdigest()
