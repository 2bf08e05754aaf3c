"""Kernels, bytes and operations of a chunk at full size, counted without a card: nothing is computed.

python dev.py run -- python benchmarks/counts/count.py [--json FILE] [--labels FILE]

Wan 2.1 1.3B through the host's own model class and the pack's own forward, memory and chunk loop, on tensors without
numbers. See docs/performance.md.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.counts.counting import ATTENTION, GIGA, TERA, Kernel, gigabytes
from benchmarks.counts.decoder import decoder_rows
from benchmarks.counts.on_meta import COMMIT, FIRST, KEEP, LATER, MetaStage
from benchmarks.shared.host_process import enter_host
from benchmarks.shared.stage import FOUR_STEPS, Rolling, Size
from benchmarks.shared.tables import Cell, Findings, Row, Target, add_common_options, counted, labels_from, say
from headforcing_core.policy.presets import PRESETS

POLICIES = ("paper", "recall", "tiny", "low_vram", "uniform_21")
WARM_UP, STEADY = "warm-up", "steady"
PARTS = (FIRST, LATER, COMMIT, KEEP)
LONGEST = 200  # chunks in which the episodic bank has to fill
VAE_WIDTH = 96
MOST_KERNELS, MOST_GB, MOST_DECODER_GB = 500, 36.0, 2.9


@dataclass(frozen=True)
class Bytes:
    """The most that the memory's tensors took, and that with all that reading, turning and moving takes beside them."""

    history: int = 0
    beside: int = 0
    alive: int = 0


@dataclass
class Counts:
    """What one policy took: bytes in warm-up and after it, and the kernels of some chunks in the steady state."""

    policy: str
    bytes: dict[str, Bytes] = field(default_factory=dict)
    chunks: list[list[Kernel]] = field(default_factory=list)

    def kernels(self, part: str, owner: str | None = None) -> list[list[Kernel]]:
        """Those of a part of a chunk, for each of the chunks; of the later passes those of one."""
        later = len(FOUR_STEPS) - 2
        found = []
        for chunk in self.chunks:
            these = [kernel for kernel in chunk if kernel.phase == part and owner in (None, kernel.owner)]
            found.append(these[: len(these) // later] if part == LATER else these)
        return found

    def chunk(self, owner: str | None = None) -> list[list[Kernel]]:
        """Those of whole chunks."""
        return [[kernel for kernel in chunk if owner in (None, kernel.owner)] for chunk in self.chunks]


def main(words: Sequence[str] | None = None) -> Findings:
    """Count, show, write."""
    given = _options(words)
    labels = labels_from(given.labels, given.layers, given.heads)
    size = Size(given.width, given.height)
    stage = MetaStage(enter_host(given.threads, "pytorch"), labels, size, FOUR_STEPS)
    settings: dict[str, Cell] = {
        "size": str(size),
        "tokens_per_frame": size.tokens,
        "layers": len(labels),
        "heads": len(labels[0]),
        "labels": counted(labels),
        "chunks": given.repeats,
    }
    say(", ".join(f"{name} {value}" for name, value in settings.items()))
    findings = Findings(given.json, settings)
    found = [count(stage, policy, given.repeats) for policy in given.policies]
    findings.add("parts", "A chunk of four steps, part by part", [row for each in found for row in _parts(each)])
    findings.add("kinds", "The pack's own kernels by kind", [row for each in found for row in _kinds(each)])
    findings.add("memory", "Bytes of the KV memory", [_memory(each) for each in found])
    findings.add("decoder", "Decoding a chunk", decoder_rows(size, given.vae_width))
    findings.judge(_targets(findings))
    return findings


def count(stage: MetaStage, policy: str, chunks: int) -> Counts:
    """Roll from the first chunk to a full bank, and count some chunks after it and the last of warm-up."""
    stage.stays_alike = PRESETS[policy].episode_choice == "recall"
    made: set[int] = set()
    rolling = Rolling(stage, PRESETS[policy], LONGEST, made.__contains__)
    counts = Counts(policy)
    made.add(rolling.fitted.compress_from_chunk - 1)
    with stage.open():
        while not _next(rolling, stage, counts):
            pass
        made.update(range(rolling.chunk, rolling.chunk + chunks))
        for _ in range(chunks):
            _next(rolling, stage, counts)
            counts.chunks.append(stage.counting.kernels)
    rolling.close()
    return counts


def _next(rolling: Rolling, stage: MetaStage, counts: Counts) -> bool:
    """Make a chunk; whether it filled the episodic bank."""
    when = STEADY if rolling.chunk >= rolling.fitted.compress_from_chunk else WARM_UP
    stage.counting.begin()
    made = rolling.next()
    known = counts.bytes.get(when, Bytes())
    most = max((known.history, known.beside), stage.read_bytes)
    counts.bytes[when] = Bytes(*most, max(known.alive, stage.counting.most_alive))
    return rolling.fills_bank(made)


def _parts(counts: Counts) -> list[Row]:
    rows = [_part(counts, part, counts.kernels(part), counts.kernels(part, "ours")) for part in PARTS]
    return [*rows, _part(counts, "whole chunk", counts.chunk(), counts.chunk("ours"))]


def _part(counts: Counts, name: str, every: list[list[Kernel]], ours: list[list[Kernel]]) -> Row:
    """A row: means over the chunks."""
    kernels, own = mean(map(len, every)), mean(map(len, ours))
    moved, own_moved = [gigabytes(each) for each in every], [gigabytes(each) for each in ours]
    attention = mean(sum(kernel.flop for kernel in each if kernel.name == ATTENTION) for each in every) / TERA
    return {
        "policy": counts.policy,
        "part": name,
        "kernels": round(kernels),
        "host's": round(kernels - own),
        "ours": round(own),
        "host's GB": mean(moved) - mean(own_moved),
        "our GB": mean(own_moved),
        "at most": max(own_moved),
        "products TFLOP": mean(sum(kernel.flop for kernel in each) for each in every) / TERA - attention,
        "attention TFLOP": attention,
    }


def _kinds(counts: Counts) -> list[Row]:
    ours = counts.chunk("ours")
    names = sorted({kernel.name for chunk in ours for kernel in chunk})
    rows: list[Row] = []
    for name in names:
        row: Row = {"policy": counts.policy, "kind": name}
        for part in PARTS:
            found = [[kernel for kernel in each if kernel.name == name] for each in counts.kernels(part, "ours")]
            row[part] = round(mean(map(len, found)))
        row["GB a chunk"] = mean(sum(kernel.moved for kernel in each if kernel.name == name) for each in ours) / GIGA
        rows.append(row)
    return rows


def _memory(counts: Counts) -> Row:
    warm_up, steady = (counts.bytes.get(when, Bytes()) for when in (WARM_UP, STEADY))
    return {
        "policy": counts.policy,
        "warm-up: history and beside GB": (warm_up.history + warm_up.beside) / GIGA,
        "most alive GB": warm_up.alive / GIGA,
        "steady: history GB": steady.history / GIGA,
        "beside GB": steady.beside / GIGA,
        "both GB": (steady.history + steady.beside) / GIGA,
        "most alive then GB": steady.alive / GIGA,
    }


def _targets(findings: Findings) -> list[Target]:
    parts = {(row["policy"], row["part"]): row for row in findings.tables["parts"]}
    targets = []
    for policy in {str(policy): None for policy, _ in parts}:
        kernels, moved = parts[policy, LATER]["ours"], parts[policy, "whole chunk"]["our GB"]
        targets += [
            Target(f"{policy}: our kernels in a later pass", float(kernels or 0), most=MOST_KERNELS),
            Target(f"{policy}: our memory-bound GB in a chunk", float(moved or 0), most=MOST_GB),
        ]
    decoder = max(float(row["most alive GB"] or 0) for row in findings.tables["decoder"])
    return [*targets, Target("decoder: most alive, GB", decoder, most=MOST_DECODER_GB)]


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_options(parser)
    parser.set_defaults(layers=30, heads=12, repeats=4)
    parser.add_argument("--width", type=int, default=832)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--policies", nargs="+", choices=tuple(PRESETS), default=POLICIES)
    parser.add_argument("--vae-width", type=int, default=VAE_WIDTH, help="channels of the VAE's last layers")
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
