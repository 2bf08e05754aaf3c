"""Folders of kept runs that somebody or something has changed."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save

from benchmarks.shared.tables import Findings, Row, Target, tell
from benchmarks.soak.soak_host import Film, Studio, folder_of
from benchmarks.soak.soak_process import Found, files_of, is_sentence, made_in_child
from headforcing_core.run_store.record_json import seal

SEED = 22
Change = Callable[[Path, random.Random], object]
Record = dict[str, list[dict[str, object]]]


@dataclass(frozen=True)
class Mutation:
    """A change of a run's folder: of a whole run, or of one that is half done. Without `profile` the run goes on with
    the head labels that are in run.json."""

    what: str
    change: Change
    is_whole: bool = True
    has_profile: bool = True


def prove_mutated(studio: Studio, folder: Path, film: Film, findings: Findings) -> list[Target]:
    """Table: every mutation, and whether the run was refused or ended in the right bits."""
    whole = made_in_child(studio, folder, film, folder / "whole")
    made_in_child(studio, folder, film, folder / "other", seed=2)
    shutil.copytree(folder / "whole", folder / "half")
    _cut_to(folder_of(folder / "half"), film.chunks * 2 // 3)
    generator = random.Random(SEED)
    rows: list[Row] = []
    for number, mutation in enumerate(_mutations(folder_of(folder / "other")), 1):
        output = folder / str(number)
        shutil.copytree(folder / ("whole" if mutation.is_whole else "half"), output)
        mutation.change(folder_of(output), generator)
        before = files_of(folder_of(output))
        inputs: dict[str, object] = {} if mutation.has_profile else {"profile": None}
        found = made_in_child(studio, folder, film, output, **inputs)
        rows.append({"mutation": mutation.what, "of": "whole" if mutation.is_whole else "half", **_row(found, whole)})
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


def _mutations(other: Path) -> list[Mutation]:
    return [*_of_chunks(other), *_of_record(other), *_of_other_files(other)]


def _of_chunks(other: Path) -> list[Mutation]:
    def swap(run: Path, generator: random.Random) -> None:
        first, second = (_chunk(run, number) for number in (3, 8))
        data = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(data)

    def not_finite(run: Path, generator: random.Random) -> None:
        latent = load_file(_chunk(run, 6))["latent"]
        latent.view(-1)[17] = torch.nan
        _replace_chunk(run, 6, save({"latent": latent}))

    def other_shape(run: Path, generator: random.Random) -> None:
        _replace_chunk(run, 6, save({"latent": load_file(_chunk(run, 6))["latent"][:, :, :2].contiguous()}))

    return [
        Mutation("a chunk cut in half", lambda run, _: _cut(_chunk(run, 5))),
        Mutation("the last chunk cut in half", lambda run, _: _cut(_last_chunk(run)), is_whole=False),
        Mutation("a chunk emptied", lambda run, _: _chunk(run, 4).write_bytes(b"")),
        Mutation("a chunk with bytes after its end", lambda run, _: _append(_chunk(run, 4), b"more")),
        Mutation("a bit flipped in a chunk's numbers", lambda run, at: _flip(_chunk(run, at.randint(0, 9)), at, 200)),
        Mutation("a bit flipped in a chunk, half done", lambda run, at: _flip(_chunk(run, 9), at, 200), is_whole=False),
        Mutation("a bit flipped in a chunk's header", lambda run, at: _flip(_chunk(run, 7), at, 0, 60)),
        Mutation("the first chunk missing", lambda run, _: _chunk(run, 0).unlink()),
        Mutation("a chunk in the middle missing", lambda run, _: _chunk(run, 6).unlink()),
        Mutation("the last chunk missing", lambda run, _: _last_chunk(run).unlink(), is_whole=False),
        Mutation("all chunks missing", lambda run, _: [path.unlink() for path in run.glob("chunk_*")]),
        Mutation("two chunks swapped", swap),
        Mutation("a chunk of another seed's run", lambda run, _: _copy(_chunk(other, 5), _chunk(run, 5))),
        Mutation("a chunk with NaN, its hash put into run.json", not_finite),
        Mutation("a chunk of another shape, its hash put into run.json", other_shape, is_whole=False),
        Mutation("a folder in place of a chunk", lambda run, _: _as_folder(_chunk(run, 5))),
        Mutation("a link to the same bytes in place of a chunk", lambda run, _: _as_link(_chunk(run, 5))),
    ]


def _of_record(other: Path) -> list[Mutation]:
    def flip(run: Path, generator: random.Random) -> None:
        _flip(run / "run.json", generator)

    return [
        Mutation("run.json missing", lambda run, _: (run / "run.json").unlink()),
        Mutation("run.json emptied", lambda run, _: (run / "run.json").write_bytes(b"")),
        Mutation("run.json cut in half", lambda run, _: _cut(run / "run.json"), is_whole=False),
        *(Mutation(f"a bit flipped in run.json ({number})", flip, is_whole=False) for number in range(1, 7)),
        Mutation("a newer format", lambda run, _: _edit(run, ("format",), "headforcing.run/2")),
        Mutation("another width", lambda run, _: _edit(run, ("settings", "width"), 48)),
        Mutation("other noise levels", lambda run, _: _edit(run, ("settings", "sigmas"), [1.0, 0.0]), is_whole=False),
        Mutation("another seed", lambda run, _: _edit_unsealed(run, ("seeds",), [[0, 2]]), is_whole=False),
        Mutation("another prompt", lambda run, _: _edit(run, ("segments", 0, "text_hash"), "0" * 64), is_whole=False),
        Mutation("another beginning", lambda run, _: _edit(run, ("prefix_hash",), "0" * 64)),
        Mutation("another head label", _relabel, is_whole=False),
        Mutation("another head label, no profile connected", _relabel_unsealed, is_whole=False, has_profile=False),
        Mutation("run.json of another seed's run", lambda run, _: _copy(other / "run.json", run / "run.json")),
        Mutation("two hashes swapped", _swap_hashes, is_whole=False),
        Mutation("a chunk taken out of the list", lambda run, _: _unlist(run, 4), is_whole=False),
        Mutation("only two thirds of the chunks listed", lambda run, _: _list_fewer(run)),
        Mutation("an episode's decision turned round", lambda run, _: _decide(run, _turn), is_whole=False),
        Mutation("an episode's novelty changed", lambda run, _: _decide(run, _renovel), is_whole=False),
        Mutation("a decision of another frame", lambda run, _: _decide(run, _reframe), is_whole=False),
        Mutation("a frame dropped that was not there", lambda run, _: _decide(run, _drop), is_whole=False),
        Mutation("decisions missing", lambda run, _: _forget_decisions(run), is_whole=False),
        Mutation("a folder in place of run.json", lambda run, _: _as_folder(run / "run.json")),
        Mutation("a link in place of run.json", lambda run, _: _as_link(run / "run.json"), is_whole=False),
    ]


def _of_other_files(other: Path) -> list[Mutation]:
    def stale(run: Path, generator: random.Random) -> None:
        for name in (".run.json.tmp", ".chunk_00007.safetensors.tmp", ".video.mp4.tmp", "video_next.mp4"):
            (run / name).write_bytes(generator.randbytes(500))
        (run.parent / f".{run.name}_take.tmp").mkdir()

    return [
        Mutation("what a killed process was writing", stale, is_whole=False),
        Mutation("video.mp4 cut in half", lambda run, _: _cut(run / "video.mp4")),
        Mutation("the video of another run", lambda run, _: _copy(other / "video.mp4", run / "video.mp4")),
        Mutation("report.json cut in half", lambda run, _: _cut(run / "report.json")),
        Mutation("timeline.png emptied", lambda run, _: (run / "timeline.png").write_bytes(b"")),
        Mutation("a folder in place of the video", lambda run, _: _as_folder(run / "video.mp4")),
        Mutation("a link in place of the lock", lambda run, _: _link_lock(run)),
    ]


def _chunk(run: Path, number: int) -> Path:
    return run / f"chunk_{number:05d}.safetensors"


def _last_chunk(run: Path) -> Path:
    return max(run.glob("chunk_*"))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _append(path: Path, data: bytes) -> None:
    path.write_bytes(path.read_bytes() + data)


def _copy(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())


def _flip(path: Path, generator: random.Random, first: int = 0, last: int | None = None) -> None:
    data = bytearray(path.read_bytes())
    data[generator.randrange(first, last or len(data))] ^= 1 << generator.randrange(8)
    path.write_bytes(data)


def _as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _as_link(path: Path) -> None:
    aside = path.parent.parent / f"aside_{path.name}"
    path.rename(aside)
    path.symlink_to(aside)


def _link_lock(run: Path) -> None:
    (run / "lock").unlink(missing_ok=True)
    (run / "lock").symlink_to(run.parent / "elsewhere")


def _read(run: Path) -> Record:
    return json.loads((run / "run.json").read_bytes())


def _write(run: Path, record: Record) -> None:
    """With the seal that it had, as an editor leaves it."""
    (run / "run.json").write_text(json.dumps(record, separators=(",", ":")), encoding="ascii")


def _write_sealed(run: Path, record: Record) -> None:
    """Sealed anew, as the pack or somebody who knows how leaves it."""
    unsealed = {name: value for name, value in record.items() if name != "sha256"}
    (run / "run.json").write_bytes(seal(json.dumps(unsealed, separators=(",", ":")).encode()))


def _edit(run: Path, place: tuple[str | int, ...], value: object) -> None:
    _write_sealed(run, _edited(run, place, value))


def _edit_unsealed(run: Path, place: tuple[str | int, ...], value: object) -> None:
    _write(run, _edited(run, place, value))


def _edited(run: Path, place: tuple[str | int, ...], value: object) -> Record:
    record = _read(run)
    inner = record
    for step in place[:-1]:
        inner = inner[step]  # type: ignore[index]
    inner[place[-1]] = value  # type: ignore[index]
    return record


def _replace_chunk(run: Path, number: int, data: bytes) -> None:
    _chunk(run, number).write_bytes(data)
    _edit(run, ("chunks", number, "sha256"), hashlib.sha256(data).hexdigest())


def _cut_to(run: Path, chunks: int) -> None:
    """As a process leaves it that was killed after so many chunks."""
    record = _read(run)
    for number in range(chunks, len(record["chunks"])):
        _chunk(run, number).unlink()
    _edit(run, ("chunks",), record["chunks"][:chunks])
    for name in ("report.json", "timeline.png"):
        (run / name).unlink()


def _list_fewer(run: Path) -> None:
    chunks = _read(run)["chunks"]
    _edit(run, ("chunks",), chunks[: len(chunks) * 2 // 3])


def _relabel(run: Path, generator: random.Random) -> None:
    _edit(run, ("profile", "labels", 1, 1), "anchor")
    _edit(run, ("profile", "labels", 2, 1), "local")


def _relabel_unsealed(run: Path, generator: random.Random) -> None:
    _edit_unsealed(run, ("profile", "labels", 1, 1), "anchor")


def _swap_hashes(run: Path, generator: random.Random) -> None:
    first, second = (_read(run)["chunks"][number]["sha256"] for number in (2, 7))
    _edit(run, ("chunks", 2, "sha256"), second)
    _edit(run, ("chunks", 7, "sha256"), first)


def _unlist(run: Path, number: int) -> None:
    chunks = _read(run)["chunks"]
    _edit(run, ("chunks",), chunks[:number] + chunks[number + 1 :])


def _decide(run: Path, change: Callable[[dict[str, object]], None]) -> None:
    record = _read(run)
    decisions = [decision for chunk in record["chunks"] for decision in _decisions(chunk)]
    change(next(each for each in reversed(decisions) if each["admitted"]))
    _write(run, record)


def _decisions(chunk: dict[str, object]) -> list[dict[str, object]]:
    found = chunk["decisions"]
    return found if isinstance(found, list) else []


def _turn(decision: dict[str, object]) -> None:
    decision.update(admitted=False, dropped=None)


def _renovel(decision: dict[str, object]) -> None:
    decision.update(novelty=0.9)


def _reframe(decision: dict[str, object]) -> None:
    decision.update(frame=int(str(decision["frame"])) + 1)


def _drop(decision: dict[str, object]) -> None:
    decision.update(dropped=3)


def _forget_decisions(run: Path) -> None:
    record = _read(run)
    for chunk in record["chunks"]:
        chunk["decisions"] = []
    _write(run, record)
