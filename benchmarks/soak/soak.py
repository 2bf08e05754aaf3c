"""What a kept run withstands: kills, thousands of chunks, full disks, interrupts, a second run, damaged folders.

python dev.py run -- python benchmarks/soak/soak.py [--json FILE] [--parts NAME ...] [--quick]

Runs on the real host with the tiny test models, for more than an hour on one core. See docs/reliability.md.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.shared.tables import Findings, Target, say
from benchmarks.soak.soak_disk import prove_disk
from benchmarks.soak.soak_host import Film, Studio
from benchmarks.soak.soak_killed import prove_killed
from benchmarks.soak.soak_long import prove_long
from benchmarks.soak.soak_mutated import prove_mutated
from benchmarks.soak.soak_server import prove_interrupted, prove_servers_killed, prove_twice


@dataclass
class Soak:
    """What the parts share; the host is entered when it is first wanted."""

    quick: bool
    place: Path
    findings: Findings

    @cached_property
    def studio(self) -> Studio:
        """The host in this process."""
        logging.disable(logging.WARNING)
        return Studio(self.folder("host"))

    def size(self, quick: int, whole: int) -> int:
        """One of two sizes."""
        return quick if self.quick else whole

    def folder(self, name: str) -> Path:
        """A new folder."""
        folder = self.place / name
        folder.mkdir()
        return folder


def main() -> None:
    """Prove part by part; show and write after each."""
    given = _options()
    findings = Findings(given.json, {"quick": str(given.quick), "cores": os.cpu_count(), "system": platform.platform()})
    targets: list[Target] = []
    with tempfile.TemporaryDirectory(prefix="head-forcing-soak-") as place:
        soak = Soak(given.quick, Path(place), findings)
        for name in given.parts:
            say(f"\n{name}")
            started = perf_counter()
            targets += _PARTS[name](soak)
            findings.figures[f"{name}, minutes"] = (perf_counter() - started) / 60
            findings.targets = targets
            findings.write()
    findings.judge(targets)


def _killed(soak: Soak) -> list[Target]:
    film, kills = Film(soak.size(12, 40)), soak.size(6, 22)
    return prove_killed(soak.studio, soak.folder("killed"), film, kills, soak.findings)


def _servers(soak: Soak) -> list[Target]:
    return prove_servers_killed(Film(soak.size(12, 40)), soak.size(1, 3), soak.findings)


def _long(soak: Soak) -> list[Target]:
    return prove_long(soak.folder("long"), Film(soak.size(200, 2000), sigmas=(1.0, 0.0)), soak.findings)


def _disk(soak: Soak) -> list[Target]:
    return prove_disk(soak.studio, soak.folder("disk"), Film(soak.size(12, 24)), soak.findings)


def _interrupted(soak: Soak) -> list[Target]:
    return prove_interrupted(Film(60, 64, 64), Film(9, 64, 64), soak.size(4, 50), soak.findings)


def _twice(soak: Soak) -> list[Target]:
    return prove_twice(Film(soak.size(12, 40)), soak.findings)


def _mutated(soak: Soak) -> list[Target]:
    return prove_mutated(soak.studio, soak.folder("mutated"), Film(soak.size(12, 18)), soak.findings)


_PARTS: dict[str, Callable[[Soak], list[Target]]] = {
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
