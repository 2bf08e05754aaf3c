"""GB that the KV memory takes with every preset and family, reckoned from the buffers that a run would make.

python dev.py run -- python benchmarks/counts/memory_of_families.py [--width W --height H] [--json FILE]

Each cell: the most that a video takes, and what it takes once frames are dropped. Heads at the usual shares, 16 bits a
number but for int8, no prefix, room for a pinned chunk where the family knows shots. Families that take the same stand
in one row. See docs/performance.md.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.counts.counting import GIGA
from benchmarks.shared.tables import Findings, Row
from headforcing_core.checkpoint.wan_weights import HEAD_DIM
from headforcing_core.families.family import Family
from headforcing_core.families.table import FAMILIES
from headforcing_core.geometry import latent_size, tokens_per_frame
from headforcing_core.heads.rules import LabelRule, label_heads
from headforcing_core.kv_memory.memory_plan import FrameOfHead
from headforcing_core.policy.family_presets import for_family
from headforcing_core.policy.fitting import fit_policy
from headforcing_core.policy.presets import PRESETS
from headforcing_core.rollout.memory_size import plan_memory

CHUNKS, NUMBER_BYTES = 100, 2


def main(words: Sequence[str] | None = None) -> Findings:
    """Reckon, show, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to a file")
    parser.add_argument("--width", type=int, default=832)
    parser.add_argument("--height", type=int, default=480)
    given = parser.parse_args(words)
    size = f"{given.width}x{given.height}"
    findings = Findings(given.json, {"size": size, "chunks": CHUNKS, "number_bytes": NUMBER_BYTES})
    rows: dict[Family, Row] = {}
    for name, family in FAMILIES.items():
        alike = _what_decides(family)
        if alike in rows:
            rows[alike]["family"] = f"{rows[alike]['family']}, {name}"
            continue
        taken = {preset: _in_words(*gigabytes(preset, family, given.width, given.height)) for preset in _presets()}
        rows[alike] = {"family": name, "model": family.size.name, **taken}
    findings.add("memory", f"GB at {size}, at most / later", list(rows.values()))
    return findings


def gigabytes(preset: str, family: Family, width: int, height: int) -> tuple[float, float]:
    """The most that a preset takes with a family, and what it takes once frames are dropped."""
    labels = label_heads(LabelRule("random"), family.size.layers, family.size.heads, None)
    n = family.chunk_frames
    policy = for_family(PRESETS[preset], n, family)
    fitted = fit_policy(policy, n, family.trained_frames, n * CHUNKS, family.shots, family.ahead(n))
    frame = FrameOfHead(tokens_per_frame(*latent_size(width, height, family.space)), HEAD_DIM, NUMBER_BYTES)
    plan = plan_memory(fitted, labels, CHUNKS)
    later = replace(plan, warm_up_frames=0)
    return plan.expected_bytes(frame) / GIGA, later.expected_bytes(frame) / GIGA


def _presets() -> list[str]:
    return [name for name, policy in PRESETS.items() if not policy.keep_everything]


def _what_decides(family: Family) -> Family:
    """The family without all that its memory does not depend on."""
    usual = FAMILIES["self_forcing"]
    return replace(
        usual,
        chunk_frames=family.chunk_frames,
        trained_frames=family.trained_frames,
        solver=family.solver if family.ahead(1) else usual.solver,
        steps=family.steps if family.ahead(1) else usual.steps,
        window=family.window,
        space=family.space,
        size=family.size,
        shots=family.shots,
    )


def _in_words(most: float, later: float) -> str:
    return f"{most:.1f}" if f"{most:.1f}" == f"{later:.1f}" else f"{most:.1f} / {later:.1f}"


if __name__ == "__main__":
    main()
