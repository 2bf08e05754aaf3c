"""The benchmark for cards, which runs there once in a long while and must not fail then for a change made meanwhile."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY

TOY = ("--layers", "1", "--heads", "3", "--width", "64", "--height", "64", "--chunk", "12", "--rounds", "1")
SECTIONS = ("arithmetic", "machine", "correctness", "speed", "variants", "waits", "kernels", "pass")
DECODING = ("decoding", "decoding rounds")


def test_the_benchmark_for_cards_runs_at_toy_size(tmp_path: Path) -> None:
    found = tmp_path / "gpu.json"
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "gpu.py"), "--device", "cpu", "--threads", "1", *TOY]
    finished = subprocess.run(
        [*command, "--sections", *SECTIONS, DECODING[0], "--json", str(found)],
        check=False,
        capture_output=True,
        text=True,
        env=dict(os.environ),
        timeout=120,
    )
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    tables = json.loads(found.read_text())["tables"]
    assert "errors" not in tables
    assert tables.keys() == {*SECTIONS, *DECODING}
    assert [row["note"] for row in tables["pass"][1:3]] == ["bits equal: yes"] * 2
    assert float(tables["correctness"][0]["worst"]) < 1e-5
    assert {row["what"].split(",")[0] for row in tables["speed"]} == {"paper", "low_vram", "max", "uniform_21", "tiny"}
    ways = [row["note"] for row in tables[DECODING[1]] if row["note"]]
    assert len(ways) == 4 and all(note.startswith("pictures apart by ") for note in ways)
