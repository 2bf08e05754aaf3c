"""One of several ranks is killed in the middle of a run that is kept, and the next Run goes on.

python dev.py run -- python benchmarks/cards/kills.py [--kills N] [--ranks N] [--json FILE]

The artist's own nodes, ranks that are processes of this processor: no card is used. SIGKILL at random moments, from a
fixed seed, to a rank drawn at random; a film that is whole is followed by the next one. See docs/reliability.md.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.shared.tables import Findings, Row, Target, others, say, tell, yes
from benchmarks.soak.soak_host import Film, Studio, bits_of, folder_of
from benchmarks.soak.soak_killed import chunks_listed
from benchmarks.soak.soak_process import files_of, hearing

SEED = 21
LEFT = 4  # chunks, the one that is made included, so that the kill is in the middle of a run
MOST_SECONDS = 5.0  # from the kill to the end of the run
GONE_SECONDS = 10.0  # until a killed group's processes are gone


def main(words: Sequence[str] | None = None) -> Findings:
    """Kill, go on, compare, show, write."""
    given = _options(words)
    logging.disable(logging.WARNING)
    findings = Findings(given.json, {"marked": "processors, no cards", "ranks": given.ranks, "kills": given.kills})
    with tempfile.TemporaryDirectory(prefix="head-forcing-kills-") as place:
        folder = Path(place)
        studio, film = Studio(folder / "host"), Film(given.chunks, given.size, given.size)
        rows = killed(studio, film, folder, given)
    findings.add("killed", f"A rank killed {given.kills} times, {film.chunks} chunks of {film.size} a film", rows)
    findings.judge(
        [
            Target("films whose chunks are not bit for bit those of one card", others(rows, "chunks equal"), most=0),
            Target("kills after which a kept chunk was gone", others(rows, "none lost"), most=0),
            Target("errors that do not name the card and what is safe", others(rows, "told"), most=0),
            Target("processes left by a killed group", others(rows, "all gone"), most=0),
            Target("longest from the kill to the error, s", max(_seconds(row) for row in rows), most=MOST_SECONDS),
        ]
    )
    return findings


def killed(studio: Studio, film: Film, folder: Path, given: argparse.Namespace) -> list[Row]:
    """A row for each kill."""
    generator = random.Random(SEED)
    expected = _chunk_files(studio, film, folder / "whole", None)
    cards = studio.cards(given.ranks, exact=True)
    started = monotonic()
    studio.make(film, folder / "first", cards=cards)  # also starts the ranks
    say(f"  a film takes {monotonic() - started:.1f} s with the start of the ranks")
    rows: list[Row] = []
    while len(rows) < given.kills:
        output = folder / f"film_{len(rows)}"
        own: list[Row] = []
        for _ in range(generator.randint(1, 3)):  # kills of this film
            row = _kill(studio, film, output, cards, generator)
            if row is None:  # it was whole before its moment came
                break
            own.append(row)
        same = yes(_chunk_files(studio, film, output, cards) == expected)
        for row in own:
            rows.append({"kill": len(rows) + 1, **row, "chunks equal": same})
            tell(rows[-1])
    return rows[: given.kills]


def _kill(studio: Studio, film: Film, output: Path, cards: Any, generator: random.Random) -> Row | None:
    """Make a film and kill a rank when a chunk drawn at random is being made; None where too few are left for that."""
    before = chunks_listed(output)
    if before > film.chunks - LEFT:
        return None
    chunk, rank = generator.randint(before, film.chunks - LEFT), generator.randrange(cards.cards)
    reached, killer = Event(), _Killer(cards, rank, generator.uniform(0, 0.5))

    def on_chunk(number: int) -> None:
        if number >= chunk and not reached.is_set():
            reached.set()
            killer.start()

    error = ""
    with hearing(on_chunk):
        try:
            studio.make(film, output, cards=cards)
        except RuntimeError as problem:
            error = str(problem)
    ended = monotonic()
    killer.give_up()
    if not error:
        return None
    if not killer.at:
        raise RuntimeError(f"A run ended though nothing was killed: {error}")
    kept = chunks_listed(output)
    return {
        "rank": rank,
        "in chunk": chunk,
        "error after s": ended - killer.at,
        "told": yes(f"Card {rank + 1} of {cards.cards} was lost" in error and f"{kept} chunks are safe" in error),
        "chunks before": before,
        "chunks kept": kept,
        "none lost": yes(kept >= max(before, chunk)),
        "all gone": yes(_are_gone(killer.pids)),
    }


class _Killer(Thread):
    """Kills a rank, `seconds` after it is started, unless the run is over by then."""

    def __init__(self, cards: Any, rank: int, seconds: float) -> None:
        super().__init__(daemon=True)
        self._cards, self._rank, self._seconds = cards, rank, seconds
        self._is_over = Event()
        self.pids: tuple[int, ...] = ()
        self.at = 0.0

    def run(self) -> None:
        self.pids = self._cards.pids
        if not self._is_over.wait(self._seconds) and self.pids:
            self.at = monotonic()
            os.kill(self.pids[self._rank], signal.SIGKILL)

    def give_up(self) -> None:
        """The run is over; wait for it, if it was started at all."""
        self._is_over.set()
        if self.ident is not None:
            self.join()


def _are_gone(pids: Sequence[int]) -> bool:
    end = monotonic() + GONE_SECONDS
    while monotonic() < end:
        if not any(_runs(pid) for pid in pids):
            return True
        sleep(0.1)
    return False


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _chunk_files(studio: Studio, film: Film, output: Path, cards: Any) -> dict[str, str]:
    """Make a film to its end; a hash of its latent, and of every chunk's file by name."""
    made = studio.make(film, output, cards=cards)
    files = {name: bits for name, bits in files_of(folder_of(output)).items() if name.startswith("chunk_")}
    if len(files) != film.chunks:
        raise RuntimeError(f"{output.name} has {len(files)} chunk files, {film.chunks} were made. Run the tests first.")
    return {"latent": bits_of(made.latent), **files}


def _seconds(row: Row) -> float:
    return float(row["error after s"] or 0)


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to a file")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--chunks", type=int, default=16)
    parser.add_argument("--size", type=int, default=32, help="width and height")
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
