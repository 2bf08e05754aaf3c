"""A farm on this machine whose workers and ComfyUIs are killed while it makes twenty films.

python dev.py run -- python benchmarks/cards/farm_kills.py [--kills N] [--jobs N] [--workers N] [--json FILE]

The command as artists give it, with tiny models on the processor. SIGKILL to a worker or to its ComfyUI by turns, at
random moments from a fixed seed; the next kill comes only after a chunk was made since the last. See
docs/reliability.md.
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from time import monotonic, sleep

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.shared.host_process import REPOSITORY
from benchmarks.shared.tables import Findings, Row, Target, others, say, tell, yes
from benchmarks.soak.soak_process import files_of
from devtools.server.base_directory import temporary_base_directory
from devtools.server.tiny_workflow import load, only_node, tiny
from devtools.setup.installation import Installation

SEED, SECONDS = 22, 4.0
CHUNKS = 6  # of such a film
WORKER, COMFYUI = "worker", "ComfyUI"
LONGEST_WAIT = 900.0
_READY = re.compile(r"worker on \S+ \(process (\d+), ComfyUI (\d+)\) is ready")


class FarmRun:
    """The command while it runs; `lines` are those that it says."""

    def __init__(self, folder: Path, output: Path, base: Path, workers: int) -> None:
        host = Installation.from_environment().host
        of_farm = ("--workers", str(workers), "--output", str(output), "--comfyui", str(host))
        of_host = ("--", "--cpu", "--disable-api-nodes", "--base-directory", str(base))
        command = ("-m", "headforcing_core.farm", str(folder / "workflow.json"), str(folder / "jobs.csv"))
        self.lines: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, *command, *of_farm, *of_host],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Process ids of all workers so far and of their ComfyUIs."""
        return [(int(found[1]), int(found[2])) for line in self.lines if (found := _READY.match(line))]

    @property
    def live(self) -> list[tuple[int, int]]:
        """Those that are there with both."""
        return [pair for pair in self.pairs if all(map(runs, pair))]

    def end(self) -> tuple[int, list[dict[str, object]]]:
        """Wait for its end: its exit code, and the jobs of its summary."""
        assert self._process.stdout is not None
        told = self._process.stdout.read()
        code = self._process.wait(LONGEST_WAIT)
        self._reader.join()
        start = told.find('{\n "output"')
        if start:
            say(f"  stdout is not the summary alone: {told[: max(0, start)][:200]}")
        return code, json.loads(told[start:])["jobs"]

    def stop(self) -> None:
        """End it as somebody at the keyboard would, if it still runs."""
        if not self.is_over:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(60)

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.lines.append(line.rstrip())


def main(words: Sequence[str] | None = None) -> Findings:
    """Make one film unbroken, then all with kills, compare, show, write."""
    given = _options(words)
    settings = {"marked": "processors, no cards", "jobs": given.jobs, "workers": given.workers, "kills": given.kills}
    findings = Findings(given.json, dict(settings))
    with (
        tempfile.TemporaryDirectory(prefix="head-forcing-farm-kills-") as place,
        temporary_base_directory(Installation.from_environment().models) as base,
    ):
        folder = Path(place)
        _write_workflow(folder)
        began = monotonic()
        expected = _unbroken(folder, base)
        say(f"  an unbroken film and the start take {monotonic() - began:.0f} s")
        _write_jobs(folder, [f"film_{number:02d}" for number in range(given.jobs)])
        rows, jobs, left = _killed(folder, base, expected, given)
    findings.add("kills", f"Kills while {given.workers} workers make {given.jobs} films of {CHUNKS} chunks", rows)
    findings.add("films", "What became of the films", jobs)
    findings.judge(
        [
            Target("films that are not done", others(jobs, "state", "done"), most=0),
            Target("films whose chunks are not bit for bit those of the unbroken one", others(jobs, "equal"), most=0),
            Target("kills after which a kept chunk was gone", others(rows, "none lost"), most=0),
            Target("kills", len(rows), least=given.kills),
            Target("processes left at the end", left, most=0),
        ]
    )
    return findings


def _unbroken(folder: Path, base: Path) -> dict[str, str]:
    _write_jobs(folder, ["whole"])
    farm = FarmRun(folder, folder / "output", base, 1)
    try:
        code, _ = farm.end()
    finally:
        farm.stop()
    chunks = _chunks_of(folder / "output", "whole")
    if code or len(chunks) != CHUNKS:
        raise RuntimeError("The unbroken film was not made:\n" + "\n".join(farm.lines))
    return chunks


def _killed(
    folder: Path, base: Path, expected: dict[str, str], given: argparse.Namespace
) -> tuple[list[Row], list[Row], int]:
    """Rows of the kills and of the films, and how many processes are left."""
    generator, output = random.Random(SEED), folder / "output"
    farm = FarmRun(folder, output, base, given.workers)
    rows: list[Row] = []
    kept = _kept(output)
    try:
        end = monotonic() + LONGEST_WAIT * given.jobs
        while not farm.is_over and len(rows) < given.kills and monotonic() < end:
            sleep(0.05)
            if sum(_kept(output).values()) == sum(kept.values()) or not farm.live:
                continue
            sleep(generator.uniform(0, 1.5))
            live = farm.live
            if not live:
                continue
            kept = _kept(output)
            which = (WORKER, COMFYUI)[len(rows) % 2]
            os.kill(generator.choice(live)[which == COMFYUI], signal.SIGKILL)
            later = _kept(output)
            lost = [name for name, count in kept.items() if later.get(name, 0) < count]
            rows.append(
                {"kill": len(rows) + 1, "killed": which, "chunks kept": sum(kept.values()), "none lost": yes(not lost)}
            )
            tell(rows[-1])
        _, summary = farm.end()
    finally:
        farm.stop()
    jobs: list[Row] = [
        {
            "film": str(job["name"]),
            "state": str(job["state"]),
            "workers lost": int(str(job["workers lost"])),
            "equal": yes(_chunks_of(output, str(job["name"])) == expected),
        }
        for job in summary
    ]
    return rows, jobs, sum(runs(pid) for pair in farm.pairs for pid in pair)


def runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _kept(output: Path) -> dict[str, int]:
    """How many chunks each run has in its journal."""
    journals = output.glob("head_forcing/*/journal.jsonl")
    return {path.parent.name: path.read_bytes().count(b"\n") for path in journals}


def _chunks_of(output: Path, name: str) -> dict[str, str]:
    found = files_of(output / "head_forcing" / name)
    return {file: bits for file, bits in found.items() if file.startswith("chunk_")}


def _write_workflow(folder: Path) -> None:
    workflow = tiny(load(REPOSITORY / "workflows" / "api" / "kept_film.json"))
    workflow[only_node(workflow, "HeadForcingSampler")]["inputs"]["seconds"] = SECONDS
    (folder / "workflow.json").write_text(json.dumps(workflow), encoding="ascii")


def _write_jobs(folder: Path, names: Sequence[str]) -> None:
    (folder / "jobs.csv").write_text("\n".join(["name", *names, ""]), encoding="ascii")


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to a file")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
