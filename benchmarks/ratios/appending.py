"""What a chunk costs to keep, early and late in a run: the same store at chunk 100 and at chunk 48,000 (ten hours).

python benchmarks/ratios/appending.py [--json FILE] [--repeats 500] [--folder FOLDER]

Both runs take turns, one chunk each. Their records are synthetic: nobody waits for 48,000 chunks. See
docs/reliability.md.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.shared.stopwatch import in_turns
from benchmarks.shared.tables import Findings, Target
from headforcing_core.rollout.episodes import Decision
from headforcing_core.rollout.plan import Segment
from headforcing_core.run_store.journal import write_journal
from headforcing_core.run_store.ledger import Ledger
from headforcing_core.run_store.lock import lock_folder
from headforcing_core.run_store.opening import OpenedRun
from headforcing_core.run_store.record import ChunkRecord, RunSpec
from headforcing_core.run_store.record_json import begin_record
from headforcing_core.run_store.store import RunStore

EARLY, LATE = 100, 48_000
MOST_RATIO = 1.2
SHAPE = (1, 16, 3, 60, 104)  # 832 x 480
WARM = 20


def main() -> None:
    """Measure, show, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to a file")
    parser.add_argument("--repeats", type=int, default=500, metavar="N", help="chunks of each run that are timed")
    parser.add_argument("--folder", type=Path, help="a folder of the disk that is to be written; default: temporary")
    given = parser.parse_args()
    latent = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    decisions = (Decision(4, 0.3, 0.1, True, None),)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        stores = {chunks: store_at(Path(folder) / str(chunks), chunks, decisions) for chunks in (EARLY, LATE)}

        def append(store: RunStore) -> None:
            store.append(latent, decisions)
            (store.folder / f"chunk_{store.finished - 1:05d}.safetensors").unlink()  # a thousand would fill the disk

        turns = {chunks: lambda store=store: append(store) for chunks, store in stores.items()}
        taken = in_turns(turns, WARM, given.repeats)
        sizes = {chunks: (store.folder / "journal.jsonl").stat().st_size for chunks, store in stores.items()}
    medians = {chunks: median(each.clock for each in times) for chunks, times in taken.items()}
    ratio = medians[LATE] / medians[EARLY]
    findings = Findings(given.json, {"chunks appended": given.repeats, "chunk": str(SHAPE)})
    findings.add(
        "appending",
        "A chunk appended, seconds over those at chunk 100, medians",
        [{"at chunk": c, "ratio": round(medians[c] / medians[EARLY], 3), "journal, bytes": sizes[c]} for c in medians],
    )
    findings.judge([Target(f"chunk {LATE} over chunk {EARLY}, median of {given.repeats}", ratio, most=MOST_RATIO)])


def store_at(folder: Path, chunks: int, decisions: Sequence[Decision]) -> RunStore:
    """An open run that has so many chunks by its journal."""
    folder.mkdir(parents=True)
    segments = (Segment(0, "0" * 64, prompt="a red fox"),)
    spec = RunSpec({"width": 832}, segments, 1, None, None, 2 * LATE, SHAPE)
    Ledger.begin(folder, begin_record(spec))
    write_journal(folder / "journal.jsonl", [ChunkRecord("0" * 64, tuple(decisions))] * chunks)
    ledger = Ledger.read(folder)
    return RunStore(folder, spec, lock_folder(folder), OpenedRun(ledger, ledger.record, chunks, []))


if __name__ == "__main__":
    main()
