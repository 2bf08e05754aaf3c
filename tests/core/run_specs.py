"""Tiny runs to keep: specs, chunks that follow from seed and number, and folders with finished runs."""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from headforcing_core.rollout.episodes import Decision
from headforcing_core.rollout.plan import Segment
from headforcing_core.rollout.recall import Choice
from headforcing_core.run_store.chunk_file import unpack_chunk
from headforcing_core.run_store.journal import parse_journal
from headforcing_core.run_store.record import RunProfile, RunSpec
from headforcing_core.run_store.record_json import seal
from headforcing_core.run_store.store import RunStore

SHAPE = (1, 16, 2, 2, 2)
FAST_DISK = "/dev/shm" if Path("/dev/shm").is_dir() else None  # where waiting for the disk takes no time
LABELS = (("local", "anchor", "memory"), ("memory", "memory", "anchor"))


def digest(text: str) -> str:
    """The SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def scene(
    prompt: str, first_chunk: int = 0, transition: str = "recache", soft_chunks: int = 4, live: bool = False
) -> Segment[str]:
    """A scene whose text is encoded to its own hash."""
    return Segment(first_chunk, digest(prompt), transition, soft_chunks, prompt, live)


def make_spec(seed: int = 1, chunks: int = 6, scenes: Sequence[Segment[str]] = (), **settings: float) -> RunSpec:
    """A run of one scene, or of these."""
    return RunSpec(
        {"width": 832, "sigmas": (1.0, 0.5, 0.0), "memory": {"sink": 3, "recent": 4}, "rope": "compact", **settings},
        tuple(scenes) or (scene("a red fox"),),
        seed,
        RunProfile("weights:0", "head_forcing", LABELS),
        None,
        chunks,
        SHAPE,
    )


def swapped(spec: RunSpec) -> RunSpec:
    """The same run with other labels."""
    assert spec.profile is not None
    return replace(spec, profile=replace(spec.profile, labels=LABELS[::-1]))


def latent(chunk: int, seed: int = 1, shape: Sequence[int] = SHAPE) -> Tensor:
    """What a chunk is under a seed."""
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(1000 * seed + chunk))


def decision(chunk: int) -> Decision:
    """A decision that belongs to a chunk."""
    return Decision(3 * chunk + 1, 0.1 * (chunk % 9), 0.03, chunk % 2 == 0, 1 if chunk % 4 == 2 else None)


def choice(chunk: int) -> Choice | None:
    """A choice that belongs to every second chunk: of nothing, one or two others."""
    if chunk % 2 == 0:
        return None
    frames = tuple(range(3, 3 * chunk, 6))[:2]
    likeness = (0.9, 0.8)[: len(frames)]
    return Choice(frames, likeness, chunk, 1 + len(frames), 0.1, 0.9) if frames else Choice((), (), 0, 0)


def make_chunks(store: RunStore, count: int | None = None) -> None:
    """Make the chunks that are missing, or so many of them."""
    end = store.chunks if count is None else store.finished + count
    for chunk in range(store.finished, end):
        store.append(latent(chunk, store.seed_for(chunk)), (decision(chunk),), choice(chunk))


def keep_run(root: Path, name: str = "fox", seed: int = 1, chunks: int = 6) -> Path:
    """A finished run with its video and report; returns its folder."""
    with RunStore.open(root, name, make_spec(seed, chunks)) as store:
        make_chunks(store)
        store.video_path.write_text(f"video of seed {seed}")
        store.write_report(f'{{"seed": {seed}}}', b"")
    return store.folder


def sealed_anew(data: bytes) -> bytes:
    """A run.json that somebody changed who knows how it is sealed."""
    return seal(re.sub(rb', ?"sha256": ?"[0-9a-f]{64}"}$', b"}", data))


def write_record(folder: Path, record: dict[str, object]) -> None:
    """Put a changed run.json into a run, sealed anew."""
    unsealed = {name: value for name, value in record.items() if name != "sha256"}
    (folder / "run.json").write_bytes(seal(json.dumps(unsealed).encode()))


def read_lines(folder: Path) -> list[dict[str, object]]:
    """What the lines of a run's journal say, without their seals."""
    lines = (folder / "journal.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name != "seal"} for line in lines]


def write_lines(folder: Path, lines: Sequence[object]) -> None:
    """Put changed lines into a run's journal, sealed anew."""
    (folder / "journal.jsonl").write_bytes(sealed_lines(json.dumps(line, separators=(",", ":")) for line in lines))


def sealed_lines(lines: Iterable[str]) -> bytes:
    """A journal of these JSON objects."""
    before, sealed = "headforcing.journal/1", ""
    for line in lines:
        before = digest(before + line[:-1])
        sealed += f'{line[:-1]},"seal":"{before}"}}\n'
    return sealed.encode()


def as_0_1_0(folder: Path) -> None:
    """Write a run's record as version 0.1.0 did: with its chunks in run.json, and no journal."""
    record = json.loads((folder / "run.json").read_bytes())
    chunks = [{name: line[name] for name in ("sha256", "decisions")} for line in read_lines(folder)]
    write_record(folder, {**record, "format": "headforcing.run/1", "chunks": chunks})
    (folder / "journal.jsonl").unlink()


def seeds_of(store: RunStore) -> list[int]:
    """The seed that each finished chunk was made with, told by its numbers."""
    return [seed_of(chunk, store.read(chunk)) for chunk in range(store.finished)]


def seeds_in(folder: Path) -> list[int]:
    """The same of every chunk that a folder's journal lists; ValueError for a file that is not as listed."""
    chunks = parse_journal((folder / "journal.jsonl").read_bytes()).chunks
    files = [(folder / f"chunk_{chunk:05d}.safetensors").read_bytes() for chunk in range(len(chunks))]
    if [hashlib.sha256(data).hexdigest() for data in files] != [each.sha256 for each in chunks]:
        raise ValueError(f"the chunks of {folder.name} are not those that it lists")
    return [seed_of(chunk, unpack_chunk(data, SHAPE)) for chunk, data in enumerate(files)]


def seed_of(chunk: int, made: Tensor) -> int:
    """The seed that gives these numbers for a chunk; -1 for any other numbers."""
    return next((seed for seed in range(12) if torch.equal(made, latent(chunk, seed))), -1)
