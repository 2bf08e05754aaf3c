"""Kept runs that somebody or something has changed: each way by name, for tiny runs and for those of the real host."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from run_specs import write_lines, write_record
from safetensors.torch import load_file, save

JOURNAL = "journal.jsonl"
Change = Callable[[Path, random.Random], object]
Record = dict[str, list[dict[str, object]]]


@dataclass(frozen=True)
class Damage:
    """A change of a run's folder: of a whole run, or of one that is half done. Without `profile` the run goes on with
    the head labels that are in run.json."""

    what: str
    change: Change
    is_whole: bool = True
    has_profile: bool = True


def damages(other: Path) -> list[Damage]:
    """Every way. `other` is the folder of a run with another seed. A run has three chunks or more, and decided at least
    once that a frame is kept."""
    return [*_of_chunks(other), *_of_record(other), *_of_other_files(other)]


def is_sentence(text: str) -> bool:
    """Whether an error speaks to an artist: more than one sentence, and nothing of Python's own."""
    is_ours = text.endswith(".") and len(text) >= 40 and len(re.findall(r"\.( |$)", text)) > 1
    return is_ours and not re.search(r"Traceback|Errno|object at 0x|list\.\w", text)


def cut_to(run: Path, chunks: int) -> None:
    """Leave a run as a process does that was killed after so many chunks."""
    listed = _read(run)["chunks"]
    for path in _chunks(run)[chunks:]:
        path.unlink()
    _edit(run, ("chunks",), listed[:chunks])
    for name in ("report.json", "timeline.png"):
        (run / name).unlink()


def _of_chunks(other: Path) -> list[Damage]:
    def of_other(run: Path, at: random.Random) -> None:
        path = _any(run, at)
        _copy(other / path.name, path)

    return [
        Damage("a chunk cut in half", lambda run, at: _cut(_any(run, at))),
        Damage("the last chunk cut in half", lambda run, _: _cut(_chunks(run)[-1]), is_whole=False),
        Damage("a chunk emptied", lambda run, at: _any(run, at).write_bytes(b"")),
        Damage("a chunk with bytes after its end", lambda run, at: _append(_any(run, at), b"more")),
        Damage("a bit flipped in a chunk's numbers", lambda run, at: _flip(_any(run, at), at, 200)),
        Damage("a bit flipped in a chunk, half done", lambda run, at: _flip(_any(run, at), at, 200), is_whole=False),
        Damage("a bit flipped in a chunk's header", lambda run, at: _flip(_any(run, at), at, 0, 60)),
        Damage("the first chunk missing", lambda run, _: _chunks(run)[0].unlink()),
        Damage("a chunk in the middle missing", lambda run, _: _chunks(run)[1].unlink()),
        Damage("the last chunk missing", lambda run, _: _chunks(run)[-1].unlink(), is_whole=False),
        Damage("all chunks missing", lambda run, _: [path.unlink() for path in _chunks(run)]),
        Damage("two chunks swapped", lambda run, at: _swap(*at.sample(_chunks(run), 2))),
        Damage("a chunk of another seed's run", of_other),
        Damage("a chunk with NaN, its hash put into the journal", _not_finite),
        Damage("a chunk of another shape, its hash put into the journal", _other_shape, is_whole=False),
        Damage("a folder in place of a chunk", lambda run, at: _as_folder(_any(run, at))),
        Damage("a link to the same bytes in place of a chunk", lambda run, at: _as_link(_any(run, at))),
    ]


def _of_record(other: Path) -> list[Damage]:
    return [
        Damage("run.json missing", lambda run, _: (run / "run.json").unlink()),
        Damage("run.json emptied", lambda run, _: (run / "run.json").write_bytes(b"")),
        Damage("run.json cut in half", lambda run, _: _cut(run / "run.json"), is_whole=False),
        *(
            Damage(f"a bit flipped in run.json ({number})", lambda run, at: _flip(run / "run.json", at), is_whole=False)
            for number in range(1, 7)
        ),
        Damage("the journal missing", lambda run, _: (run / JOURNAL).unlink()),
        Damage("the journal emptied", lambda run, _: (run / JOURNAL).write_bytes(b""), is_whole=False),
        Damage("the journal cut in half", lambda run, _: _cut(run / JOURNAL), is_whole=False),
        Damage("a torn last line", lambda run, _: _append(run / JOURNAL, b'{"chunk":'), is_whole=False),
        *(
            Damage(f"a bit flipped in the journal ({number})", lambda run, at: _flip(run / JOURNAL, at))
            for number in range(1, 4)
        ),
        Damage("the journal of another seed's run", lambda run, _: _copy(other / JOURNAL, run / JOURNAL)),
        Damage("a newer format", lambda run, _: _edit(run, ("format",), "headforcing.run/9")),
        Damage("another width", lambda run, _: _edit(run, ("settings", "width"), 48)),
        Damage("other noise levels", lambda run, _: _edit(run, ("settings", "sigmas"), [1.0, 0.0]), is_whole=False),
        Damage("another seed", lambda run, _: _edit_unsealed(run, ("seeds",), [[0, 2]]), is_whole=False),
        Damage("another prompt", lambda run, _: _edit(run, ("segments", 0, "text_hash"), "0" * 64), is_whole=False),
        Damage("another beginning", lambda run, _: _edit(run, ("prefix_hash",), "0" * 64)),
        Damage("another head label", lambda run, _: _relabel(run, _edit), is_whole=False),
        Damage(
            "another head label, no profile connected",
            lambda run, _: _relabel(run, _edit_unsealed),
            is_whole=False,
            has_profile=False,
        ),
        Damage("run.json of another seed's run", lambda run, _: _copy(other / "run.json", run / "run.json")),
        Damage("two hashes swapped", _swap_hashes, is_whole=False),
        Damage("a chunk taken out of the list", lambda run, at: _unlist(run, at), is_whole=False),
        Damage("only two thirds of the chunks listed", lambda run, _: _list_fewer(run)),
        Damage("an episode's decision turned round", _decided(admitted=False, dropped=None), is_whole=False),
        Damage("an episode's novelty changed", _decided(novelty=0.9), is_whole=False),
        Damage("a decision of another frame", _decided(frame=0), is_whole=False),
        Damage("a frame dropped that was not there", _decided(dropped=3), is_whole=False),
        Damage("other chunks recalled", _chose(frames=[6], likeness=[0.5]), is_whole=False),
        Damage("more likeness than chunks recalled", _chose(likeness=[0.9, 0.8, 0.7]), is_whole=False),
        Damage("what was recalled missing", lambda run, _: _forget_choices(run), is_whole=False),
        Damage("decisions missing", lambda run, _: _forget_decisions(run), is_whole=False),
        Damage("a folder in place of run.json", lambda run, _: _as_folder(run / "run.json")),
        Damage("a link in place of run.json", lambda run, _: _as_link(run / "run.json"), is_whole=False),
    ]


def _of_other_files(other: Path) -> list[Damage]:
    return [
        Damage("what a killed process was writing", _half_written, is_whole=False),
        Damage("video.mp4 cut in half", lambda run, _: _cut(run / "video.mp4")),
        Damage("the video of another run", lambda run, _: _copy(other / "video.mp4", run / "video.mp4")),
        Damage("report.json cut in half", lambda run, _: _cut(run / "report.json")),
        Damage("timeline.png emptied", lambda run, _: (run / "timeline.png").write_bytes(b"")),
        Damage("a folder in place of the video", lambda run, _: _as_folder(run / "video.mp4")),
        Damage("a link in place of the lock", lambda run, _: _link_lock(run)),
    ]


def _chunks(run: Path) -> list[Path]:
    return sorted(run.glob("chunk_*"))


def _any(run: Path, at: random.Random) -> Path:
    return at.choice(_chunks(run))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _append(path: Path, data: bytes) -> None:
    path.write_bytes(path.read_bytes() + data)


def _copy(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())


def _swap(first: Path, second: Path) -> None:
    data = first.read_bytes()
    _copy(second, first)
    second.write_bytes(data)


def _flip(path: Path, at: random.Random, first: int = 0, last: int | None = None) -> None:
    data = bytearray(path.read_bytes())
    data[at.randrange(first, last or len(data))] ^= 1 << at.randrange(8)
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


def _half_written(run: Path, at: random.Random) -> None:
    for name in (".run.json.tmp", ".chunk_00007.safetensors.a-host.7.tmp", ".video.mp4.tmp", "video_next.mp4"):
        (run / name).write_bytes(at.randbytes(500))
    (run.parent / f".{run.name}_take.tmp").mkdir()


def _not_finite(run: Path, at: random.Random) -> None:
    path = _any(run, at)
    latent = load_file(path)["latent"]
    latent.view(-1)[17] = torch.nan
    _replace(path, save({"latent": latent}))


def _other_shape(run: Path, at: random.Random) -> None:
    path = _any(run, at)
    _replace(path, save({"latent": load_file(path)["latent"][:, :, :1].contiguous()}))


def _replace(chunk: Path, data: bytes) -> None:
    number = _chunks(chunk.parent).index(chunk)
    chunk.write_bytes(data)
    _edit(chunk.parent, ("chunks", number, "sha256"), hashlib.sha256(data).hexdigest())


def _read(run: Path) -> Record:
    """run.json, and as `chunks` the lines of the journal."""
    lines = (run / JOURNAL).read_text(encoding="ascii").splitlines()
    return {**json.loads((run / "run.json").read_bytes()), "chunks": [json.loads(line) for line in lines]}


def _write_unsealed(run: Path, record: Record) -> None:
    """With the seals that they had, as an editor leaves both files."""
    lines = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in record["chunks"])
    (run / JOURNAL).write_text(lines, encoding="ascii")
    told = {name: value for name, value in record.items() if name != "chunks"}
    (run / "run.json").write_text(json.dumps(told, separators=(",", ":")), encoding="ascii")


def _edit(run: Path, place: tuple[str | int, ...], value: object) -> None:
    """Sealed anew, as the pack or somebody who knows how leaves it."""
    record = _edited(run, place, value)
    write_lines(run, [{name: each for name, each in line.items() if name != "seal"} for line in record["chunks"]])
    write_record(run, {name: each for name, each in record.items() if name != "chunks"})


def _edit_unsealed(run: Path, place: tuple[str | int, ...], value: object) -> None:
    _write_unsealed(run, _edited(run, place, value))


def _edited(run: Path, place: tuple[str | int, ...], value: object) -> Record:
    record = _read(run)
    inner = record
    for step in place[:-1]:
        inner = inner[step]  # type: ignore[index]
    inner[place[-1]] = value  # type: ignore[index]
    return record


def _relabel(run: Path, edit: Callable[[Path, tuple[str | int, ...], object], None]) -> None:
    labels = json.loads((run / "run.json").read_bytes())["profile"]["labels"]
    edit(run, ("profile", "labels", 1, 1), "local" if labels[1][1] == "anchor" else "anchor")


def _swap_hashes(run: Path, at: random.Random) -> None:
    chunks = _read(run)["chunks"]
    first, second = at.sample(range(len(chunks)), 2)
    chunks[first]["sha256"], chunks[second]["sha256"] = chunks[second]["sha256"], chunks[first]["sha256"]
    _edit(run, ("chunks",), chunks)


def _unlist(run: Path, at: random.Random) -> None:
    chunks = _read(run)["chunks"]
    chunks.pop(at.randrange(len(chunks) - 1))
    _edit(run, ("chunks",), chunks)


def _list_fewer(run: Path) -> None:
    chunks = _read(run)["chunks"]
    _edit(run, ("chunks",), chunks[: len(chunks) * 2 // 3])


def _decided(**otherwise: object) -> Change:
    """Other values in the last decision that kept a frame."""

    def change(run: Path, at: random.Random) -> None:
        record = _read(run)
        decisions = [decision for chunk in record["chunks"] for decision in _decisions(chunk)]
        next(each for each in reversed(decisions) if each["admitted"]).update(otherwise)
        _write_unsealed(run, record)

    return change


def _chose(**otherwise: object) -> Change:
    """Other values in the last choice, or a choice where none was made."""

    def change(run: Path, at: random.Random) -> None:
        record = _read(run)
        chunk = [each for each in record["chunks"] if "choice" in each or each is record["chunks"][-1]][-1]
        none = {"frames": [], "likeness": [], "candidates": 9, "passes": 1, "lowest": 0.1, "best": 0.9}
        chunk["choice"] = {**none, **chunk.get("choice", {}), **otherwise}  # type: ignore[dict-item]
        _write_unsealed(run, record)

    return change


def _forget_choices(run: Path) -> None:
    record = _read(run)
    for chunk in record["chunks"]:
        chunk.pop("choice", None)
    record["chunks"][0]["choice"] = None
    _write_unsealed(run, record)


def _decisions(chunk: dict[str, object]) -> list[dict[str, object]]:
    found = chunk["decisions"]
    return found if isinstance(found, list) else []


def _forget_decisions(run: Path) -> None:
    record = _read(run)
    for chunk in record["chunks"]:
        chunk["decisions"] = []
    _write_unsealed(run, record)
