"""Folders of kept runs that somebody or something has changed."""

from __future__ import annotations

import random
import shutil
import sys
from pathlib import Path

from benchmarks.shared.host_process import REPOSITORY
from benchmarks.shared.tables import Findings, Row, Target, tell
from benchmarks.soak.soak_host import Film, Studio, folder_of
from benchmarks.soak.soak_process import Found, files_of, made_in_child

sys.path.insert(0, str(REPOSITORY / "tests" / "core"))

from damaged_runs import cut_to, damages, is_sentence  # noqa: E402

SEED = 22


def prove_mutated(studio: Studio, folder: Path, film: Film, findings: Findings) -> list[Target]:
    """Table: every damage, and whether the run was refused or ended in the right bits."""
    whole = made_in_child(studio, folder, film, folder / "whole")
    made_in_child(studio, folder, film, folder / "other", seed=2)
    shutil.copytree(folder / "whole", folder / "half")
    cut_to(folder_of(folder / "half"), film.chunks * 2 // 3)
    generator = random.Random(SEED)
    rows: list[Row] = []
    for number, damage in enumerate(damages(folder_of(folder / "other")), 1):
        output = folder / str(number)
        shutil.copytree(folder / ("whole" if damage.is_whole else "half"), output)
        damage.change(folder_of(output), generator)
        before = files_of(folder_of(output))
        inputs: dict[str, object] = {} if damage.has_profile else {"profile": None}
        found = made_in_child(studio, folder, film, output, **inputs)
        rows.append({"mutation": damage.what, "of": "whole" if damage.is_whole else "half", **_row(found, whole)})
        rows[-1]["files as they were"] = "yes" if files_of(folder_of(output)) == before else "no"
        rows[-1]["said"] = _said(found)
        tell(rows[-1])
    findings.add("mutated", f"Folders of {film.chunks} chunks of {film.size}, changed and gone on with", rows)
    wrong = [row for row in rows if row["outcome"] not in ("same bits", "refused")]
    touched = [row for row in rows if row["outcome"] == "refused" and row["files as they were"] != "yes"]
    return [
        Target("mutated: folders tried", len(rows), least=30),
        Target("mutated: neither the right bits nor a clear refusal", len(wrong), most=0),
        Target("mutated: refused, but files were changed", len(touched), most=0),
    ]


def _row(found: Found, whole: Found) -> Row:
    if found["error"]:
        clear = is_sentence(str(found["error"]))
        return {"outcome": "refused" if clear else "UNCLEAR ERROR"}
    same = (found["latent"], found["video"]) == (whole["latent"], whole["video"])
    return {"outcome": "same bits" if same else "WRONG VIDEO"}


def _said(found: Found) -> str:
    notes = found.get("notes")
    told = [str(note) for note in notes if "damaged" in str(note)] if isinstance(notes, list) else []
    return str(found["error"]) or " ".join(told)
