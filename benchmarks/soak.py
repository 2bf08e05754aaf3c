"""What a kept run withstands: kills, thousands of chunks, full disks, interrupts, a second run, damaged folders.

python dev.py run -- python benchmarks/soak.py [--json FILE] [--parts NAME ...] [--quick]

Runs on the real host with the tiny test models, for about an hour. See docs/reliability.md.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.soak_host import Film, Studio
from benchmarks.tables import Target, say
from benchmarks.workbench import Findings


def main() -> None:
    """Prove part by part; show and write after each."""
    given = _options()
    findings = Findings(given.json, {"quick": str(given.quick), "cores": os.cpu_count(), "system": platform.platform()})
    targets: list[Target] = []
    with tempfile.TemporaryDirectory(prefix="head-forcing-soak-") as place:
        studios: list[Studio] = []

        def studio() -> Studio:
            if not studios:
                logging.disable(logging.WARNING)
                studios.append(Studio(Path(place) / "host"))
            return studios[0]

        for name in given.parts:
            say(f"\n{name}")
            started = perf_counter()
            folder = Path(place) / name
            folder.mkdir()
            targets += _PARTS[name](given.quick, studio, folder, findings)
            findings.figures[f"{name}, minutes"] = (perf_counter() - started) / 60
            findings.targets = targets
            findings.write()
    findings.judge(targets)


def _killed(quick: bool, studio: Callable[[], Studio], folder: Path, findings: Findings) -> list[Target]:
    from benchmarks.soak_killed import prove_killed

    return prove_killed(studio(), folder, Film(12 if quick else 40), 6 if quick else 22, findings)


def _long(quick: bool, studio: Callable[[], Studio], folder: Path, findings: Findings) -> list[Target]:
    from benchmarks.soak_long import prove_long

    return prove_long(folder, Film(200 if quick else 2000, sigmas=(1.0, 0.0)), findings)


def _disk(quick: bool, studio: Callable[[], Studio], folder: Path, findings: Findings) -> list[Target]:
    from benchmarks.soak_disk import prove_disk

    return prove_disk(studio(), folder, Film(12 if quick else 24), findings)


def _mutated(quick: bool, studio: Callable[[], Studio], folder: Path, findings: Findings) -> list[Target]:
    from benchmarks.soak_mutated import prove_mutated

    return prove_mutated(studio(), folder, Film(12 if quick else 18), findings)


def _servers(quick: bool, studio: Callable[[], Studio], folder: Path, findings: Findings) -> list[Target]:
    from benchmarks.soak_server import prove_servers_killed

    return prove_servers_killed(Film(12 if quick else 40), 1 if quick else 3, findings)


def _interrupted(quick: bool, studio: Callable[[], Studio], folder: Path, findings: Findings) -> list[Target]:
    from benchmarks.soak_server import prove_interrupted

    return prove_interrupted(Film(60, 64, 64), Film(9, 64, 64), 4 if quick else 50, findings)


def _twice(quick: bool, studio: Callable[[], Studio], folder: Path, findings: Findings) -> list[Target]:
    from benchmarks.soak_server import prove_twice

    return prove_twice(Film(12 if quick else 40), findings)


_PARTS = {
    "killed": _killed,
    "servers": _servers,
    "long": _long,
    "disk": _disk,
    "interrupted": _interrupted,
    "twice": _twice,
    "mutated": _mutated,
}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything found to a file, after each part")
    parser.add_argument("--parts", nargs="+", choices=_PARTS, default=list(_PARTS), help="which; default: all")
    parser.add_argument("--quick", action="store_true", help="short films and few cases, for a first look")
    return parser.parse_args()


if __name__ == "__main__":
    main()
