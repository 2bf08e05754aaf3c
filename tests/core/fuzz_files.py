"""Damaged and hostile files: whatever is in them, reading gives a valid object or one of our sentences, and soon.

python tests/core/fuzz_files.py --count 100000 --seed 0 tries that many files, in a process that may not take more than
2 GB of further memory.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from time import process_time, thread_time

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]

import torch
from damaged_runs import damages, is_sentence
from run_specs import FAST_DISK, SHAPE, choice, decision, keep_run, latent, make_spec, scene, sealed_anew, sealed_lines
from safetensors import SafetensorError
from safetensors.torch import load, save

from headforcing_core.checkpoint.wan_weights import unwrap
from headforcing_core.heads.profile import HeadProfile
from headforcing_core.heads.profile_file import load_profile, save_profile
from headforcing_core.heads.rules import LabelRule
from headforcing_core.run_store.chunk_file import pack_chunk, unpack_chunk
from headforcing_core.run_store.journal import dump_lines, parse_journal
from headforcing_core.run_store.record import ChunkRecord, RunRecord
from headforcing_core.run_store.record_json import begin_record, dump_record, parse_record
from headforcing_core.run_store.store import RunStore

MOST_SECONDS = 2.0  # of processor time, for one file
CHUNKS = tuple(ChunkRecord(f"{chunk:064x}", (decision(chunk),), choice(chunk)) for chunk in range(40))
_BLOCK = ("self_attn", "cross_attn")


@dataclass
class Found:
    """What came of the files: how many of each target were taken and refused, the slowest, and what went wrong."""

    taken: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    wrong: list[str] = field(default_factory=list)


def fuzz(count: int, seed: int) -> Found:
    """Try so many files, in turn of every kind."""
    rng = random.Random(seed)
    found = Found()
    with tempfile.TemporaryDirectory(dir=FAST_DISK) as folder:
        targets = [
            Records(),
            Journals(),
            Chunks(),
            Folders(Path(folder)),
            Profiles(Path(folder)),
            CheckpointFiles(),
            CheckpointTensors(),
        ]
        for number in range(count):
            target = targets[number % len(targets)]
            name = type(target).__name__
            target.make(rng)
            started = thread_time()
            try:
                target.read()
                found.taken[name] += 1
            except (ValueError, RuntimeError) as error:
                found.refused[name] += 1
                if not target.is_told(error):
                    found.wrong.append(f"{name} {number}: {type(error).__name__}: {error}")
            except BaseException as error:  # an abort inside a library is no Exception
                if isinstance(error, KeyboardInterrupt):
                    raise
                found.wrong.append(f"{name} {number}: {type(error).__name__}: {error}")
            taken = thread_time() - started
            found.slowest = max(found.slowest, taken)
            if taken > MOST_SECONDS:
                found.wrong.append(f"{name} {number}: {taken:.1f} s")
    return found


class Target:
    """Files of one kind: `make` one, `read` it."""

    def make(self, rng: random.Random) -> None:
        """Make the next file."""
        raise NotImplementedError

    def read(self) -> None:
        """Read it."""
        raise NotImplementedError

    def is_told(self, error: Exception) -> bool:
        """Whether an error is ours."""
        return is_sentence(str(error))


class Records(Target):
    """run.json by itself."""

    def __init__(self) -> None:
        self.corpus = [dump_record(record) for record in records()]
        self.data = b""

    def make(self, rng: random.Random) -> None:
        self.data = mutated_json(rng, self.corpus) if rng.random() < 0.6 else mutated(rng, self.corpus)
        if rng.random() < 0.8:  # or the seal would be all that is ever looked at
            self.data = sealed_anew(self.data)

    def read(self) -> None:
        again, _ = parse_record(self.data, "fox")
        assert parse_record(dump_record(again), "fox") == (again, None)


class Journals(Target):
    """A journal by itself; its errors are parts of a sentence."""

    def __init__(self) -> None:
        self.corpus = [dump_lines(chunks)[0] for chunks in (CHUNKS, CHUNKS[:1])]
        self.data = b""

    def make(self, rng: random.Random) -> None:
        self.data = mutated(rng, self.corpus)
        if rng.random() < 0.8:  # or the seals would be all that is ever looked at
            lines = rng.choice(self.corpus).decode().splitlines()
            lines[rng.randrange(len(lines))] = mutated_json(rng, [rng.choice(lines).encode()]).decode()
            self.data = sealed_lines(re.sub(r', ?"seal": ?"[0-9a-f]{64}"', "", line) for line in lines)

    def read(self) -> None:
        found = parse_journal(self.data)
        assert parse_journal(dump_lines(found.chunks)[0]).chunks == found.chunks

    def is_told(self, error: Exception) -> bool:
        return isinstance(error, ValueError) and bool(str(error))


class Chunks(Target):
    """The file of a chunk by itself; its errors are parts of a sentence."""

    def __init__(self) -> None:
        self.corpus = [pack_chunk(latent(0)), save({"latent": latent(0).half()}), save({"noise": latent(0)})]
        self.data = b""

    def make(self, rng: random.Random) -> None:
        self.data = mutated_tensors(rng, self.corpus[: 1 + rng.randrange(3)])

    def read(self) -> None:
        tensor = unpack_chunk(self.data, SHAPE)
        assert tensor.shape == SHAPE and bool(torch.isfinite(tensor).all())

    def is_told(self, error: Exception) -> bool:
        return isinstance(error, ValueError) and bool(str(error))


class Folders(Target):
    """A whole run with damaged, missing and exchanged files, by name or at random, opened as the sampler opens it."""

    def __init__(self, folder: Path) -> None:
        self.root, self.good = folder / "runs", folder / "good"
        keep_run(self.good, chunks=3)
        self.ways = cycle(damages(keep_run(folder / "other", seed=2, chunks=3)))

    def make(self, rng: random.Random) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.good, self.root)
        run = self.root / "fox"
        has_name = rng.random() < 0.5
        if has_name:
            next(self.ways).change(run, rng)
        for _ in range(rng.randrange(0 if has_name else 1, 3)):
            path = rng.choice(sorted(path for path in run.iterdir() if path.is_file()))
            data = path.read_bytes()
            if path.name == "run.json" and rng.random() < 0.8:
                path.write_bytes(sealed_anew(mutated_json(rng, [data])))
            else:
                path.write_bytes(mutated_tensors(rng, [data]))

    def read(self) -> None:
        with RunStore.open(self.root, "fox", make_spec(chunks=3)) as store:
            assert all(map(is_sentence, store.notes))
            for chunk in range(store.finished):
                assert torch.equal(store.read(chunk), latent(chunk)), "another chunk than was kept"


class Profiles(Target):
    """Head profiles."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "profile.safetensors"
        labels = (("local", "anchor"), ("memory", "memory"))
        self.corpus: list[bytes] = []
        for masses in (torch.rand(2, 2, 4), None):
            profile = HeadProfile("weights:0", "fast", LabelRule(), labels, masses, {"sink": 1.0, "current": 0.9}, 3)
            save_profile(profile, self.path)
            self.corpus.append(self.path.read_bytes())

    def make(self, rng: random.Random) -> None:
        self.path.write_bytes(mutated_tensors(rng, self.corpus))

    def read(self) -> None:
        profile = load_profile(self.path)
        assert profile.layers and profile.heads and profile.reliability_text and profile.counts


class CheckpointFiles(Target):
    """Checkpoints as safetensors, read by that library and then recognised."""

    def __init__(self) -> None:
        self.corpus = [save({name: torch.zeros(shape) for name, shape in wan_shapes(heads=1, width=1).items()})]
        self.data = b""

    def make(self, rng: random.Random) -> None:
        self.data = mutated_tensors(rng, self.corpus)

    def read(self) -> None:
        try:
            tensors = load(self.data)
        except (SafetensorError, RuntimeError, ValueError, LookupError, TypeError) as error:
            raise ValueError(f"The library says {error}. The host's loader turns that into a sentence.") from error
        assert unwrap(tensors, "made.safetensors").layers


class CheckpointTensors(Target):
    """Checkpoints as the named tensors that a loader hands over, of any shape and nesting."""

    def __init__(self) -> None:
        self.good = {name: torch.empty(shape, device="meta") for name, shape in wan_shapes(heads=2, width=8).items()}
        self.raw: object = {}

    def make(self, rng: random.Random) -> None:
        tensors: dict[object, object] = {**self.good}
        for _ in range(rng.randrange(1, 5)):
            name = rng.choice(list(tensors))
            way = rng.randrange(6)
            if way == 0:
                del tensors[name]
            elif way == 1:
                tensors[hostile_name(rng, str(name))] = tensors.pop(name)
            elif way == 2:
                sizes = [rng.choice((0, 1, 2, 16, 36, 128, 1000)) for _ in range(rng.randrange(6))]
                tensors[name] = torch.empty(1, device="meta").expand(sizes) if sizes else torch.empty((), device="meta")
            elif way == 3:
                tensors[name] = hostile(rng)
            elif way == 4:
                tensors[rng.choice(("generator", "model", "x", 3))] = dict(tensors)
            else:
                prefix = rng.choice(("model.", "diffusion_model.", "model.diffusion_model.", "_fsdp_wrapped_module."))
                tensors = {f"{prefix}{key}": value for key, value in tensors.items()}
        self.raw = hostile(rng) if rng.random() < 0.01 else tensors

    def read(self) -> None:
        assert unwrap(self.raw, "made.pt").heads


def records() -> list[RunRecord]:
    """Records of runs, short and long, with and without what may be missing."""
    plain = begin_record(make_spec())
    scenes = [scene("a, [b] {c}"), scene("\u00e9 \U0001f98a", 3, "soft"), scene("", 5, "cut")]
    rich = begin_record(make_spec(2**64 - 1, 40, scenes, fps=16.0))
    return [
        plain,
        RunRecord(rich.settings, rich.segments, ((0, 1), (7, 2)), None, "0" * 64),
        RunRecord(rich.settings, rich.segments, rich.seeds, rich.profile, None),
    ]


def wan_shapes(heads: int, width: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of a Wan model of two layers; what does not matter has `width` everywhere."""
    shapes: dict[str, tuple[int, ...]] = {
        "patch_embedding.weight": (width, 16, 1, 2, 2),
        "head.modulation": (1, 2, 128 * heads),
        "head.head.weight": (64, width),
    }
    outer = ("text_embedding.0", "text_embedding.2", "time_embedding.0", "time_embedding.2", "time_projection.1")
    inner = [f"{part}.{name}" for part in _BLOCK for name in ("q", "k", "v", "o", "norm_q", "norm_k")]
    for name in (*outer, *(f"blocks.{block}.{part}" for block in range(2) for part in (*inner, "ffn.0", "ffn.2"))):
        shapes[f"{name}.weight"] = (width, width)
    return shapes | {f"blocks.{block}.modulation": (1, 6, width) for block in range(2)}


def mutated(rng: random.Random, corpus: Sequence[bytes]) -> bytes:
    """Bytes of a corpus with a few changes: cut, flipped, inserted, removed, repeated, overwritten, spliced."""
    data = bytearray(rng.choice(corpus))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        way = rng.randrange(9)
        if way == 0:
            del data[at:]
        elif way == 1 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif way == 2:
            data[at:at] = rng.randbytes(rng.randrange(1, 20))
        elif way == 3:
            del data[at:end]
        elif way == 4:
            data[at:at] = data[at : min(end, at + 200)] * rng.randrange(1, 4)
        elif way == 5:
            data[at : at + 8] = struct.pack("<Q", rng.choice((0, 1, 2**31, 2**63, 2**64 - 1, rng.randrange(2**20))))
        elif way == 6:
            data[at:at] = rng.choice((b"[", b"{", b'{"a":', b"[[")) * rng.choice((3, 500, 20_000))
        elif way == 7:
            data[at:at] = rng.choice((b"9" * 400, b"9" * 5000, b"-1", b"1e999", b"NaN", b"\\ud800", b"\xff", b"null"))
        else:
            other = rng.choice(corpus)
            data[at:end] = other[rng.randrange(len(other) + 1) :]
    return bytes(data)


def mutated_json(rng: random.Random, corpus: Sequence[bytes]) -> bytes:
    """A JSON text of a corpus in which some values or names became other ones; still JSON, but for NaN and the like."""
    try:
        value = json.loads(rng.choice(corpus))
    except (ValueError, RecursionError):
        return mutated(rng, corpus)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        value = changed(rng, value)
    return json.dumps(value).encode()


def mutated_tensors(rng: random.Random, corpus: Sequence[bytes]) -> bytes:
    """A safetensors file with changes anywhere, or in its header alone with the right length before it."""
    data = rng.choice(corpus)
    if rng.random() < 0.3 or len(data) < 8:
        return mutated(rng, corpus)
    length = min(struct.unpack("<Q", data[:8])[0], len(data) - 8)
    header, numbers = data[8 : 8 + length], data[8 + length :]
    if b"__metadata__" in header and rng.random() < 0.7:
        header = with_inner_json(rng, header)
    else:
        header = mutated_json(rng, [header]) if rng.random() < 0.7 else mutated(rng, [header])
    return struct.pack("<Q", len(header)) + header + (mutated(rng, [numbers]) if rng.random() < 0.1 else numbers)


def with_inner_json(rng: random.Random, header: bytes) -> bytes:
    """A safetensors header with changes inside the JSON texts of its metadata."""
    try:
        value = json.loads(header)
        described = value["__metadata__"]
        name = rng.choice(sorted(described))
        change = mutated_json if rng.random() < 0.8 else mutated
        described[name] = change(rng, [described[name].encode()]).decode("utf-8", "replace")
        return json.dumps(value).encode()
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return header


def changed(rng: random.Random, value: object) -> object:
    """A JSON value in which one place, at any depth, holds something else."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        name = rng.choice(list(value))
        if rng.random() < 0.15:
            return {key: each for key, each in value.items() if key != name} | {hostile_name(rng, name): value[name]}
        return {**value, name: changed(rng, value[name])}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        way = rng.randrange(5)
        if way == 0:
            return value[:at] + value[at + 1 :]
        if way == 1:
            return [*value, value[at]]
        return [*value[:at], changed(rng, value[at]), *value[at + 1 :]]
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**80 and rng.random() < 0.5:
        return value + rng.choice((-1, 1, 0.5, 2**31, 2**64, -(2**64)))
    return hostile(rng)


def hostile(rng: random.Random) -> object:
    """A value that nobody expects."""
    deep: object = 0
    for _ in range(rng.choice((5, 60, 400))):
        deep = [deep]
    return rng.choice(
        [
            *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**19, 10**400, 0.5, 1e308, -0.0, float("inf"), float("nan")),
            *("", "x", "local", "F32", "\ud800", "a" * 5000, "0" * 64, "headforcing.run/9", "../x", "[", "1e999"),
            *([], {}, [[]], [0] * 300, {"a": {}}, deep, {str(n): n for n in range(300)}, ["local"], [["local"]]),
        ]
    )


def hostile_name(rng: random.Random, name: str) -> str:
    """Another name in place of this one."""
    return rng.choice(
        ("", "x", name + " ", name.upper(), "\ud800", "__metadata__", "latent", "format", "a" * 3000, "0", name[:-1])
        + tuple(f"blocks.{number}.modulation" for number in ("7", "999999", "9" * 12, "9" * 4999))
        + ("lora_A.weight", "vace_x", "patch_embedding.weight")
    )


def main() -> None:
    """The command line."""
    import resource

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 2 * 2**30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    found = fuzz(asked.count, asked.seed)
    for name in sorted({*found.taken, *found.refused}):
        print(f"{name:18} {found.taken[name]:7} taken {found.refused[name]:7} refused")
    print(f"slowest {found.slowest:.3f} s, all {process_time():.0f} s of processor time")
    print(f"{len(found.wrong)} wrong", *found.wrong[:40], sep="\n")
    sys.exit(bool(found.wrong))


if __name__ == "__main__":
    main()
