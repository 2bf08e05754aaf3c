"""Spread over Cards, measured where cards are: seconds of a chunk on several cards against one and against the bound.

python dev.py run -- python benchmarks/cards/spread.py [--cards N ...] [--checkpoint FILE] [--json FILE]

The artist's own nodes make the same film on one card, on several, and on several exactly, in turns. Without a
checkpoint: Wan 2.1 1.3B at full size with random weights, 2.8 GB in the temporary folder. Without a card the ranks are
processes of this processor, at toy size, and everything is marked "processors, not cards". See docs/performance.md.
"""

from __future__ import annotations

import argparse
import logging
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from benchmarks.cards.dealing import by_cost, evenness
from benchmarks.cards.paper import Paper
from benchmarks.cards.stage_of_cards import EXACT, ONE, SHARED, STEADY, CardStage, Seen
from benchmarks.shared.host_process import HEAD_DIM, WanShape
from benchmarks.shared.stage import CHUNK_FRAMES, Size
from benchmarks.shared.tables import Cell, Findings, Row, Target, say
from benchmarks.soak.soak_host import Film

GIGA, MEGA = 1e9, 1e6
MOST_APART = 1e-5  # of a latent value whose spread is about 1, in 32 bits
NOT_CARDS = "processors, not cards"
Key = tuple[int, str]
"""(cards, way)"""


@dataclass(frozen=True)
class Films:
    """The films of one number of cards in one way: the first, in which the processes begin, and those after it."""

    first: Seen
    later: list[Seen]

    @property
    def seconds(self) -> float:
        """Of a chunk with full tiers."""
        return median(film.steady for film in self.later)


def main(words: Sequence[str] | None = None) -> Findings:
    """Make films in turns, compare, show, write."""
    given = _options(words)
    on_cards = torch.cuda.is_available()
    names = sorted({torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())})
    cards = given.cards or ([torch.cuda.device_count()] if on_cards else [2])
    film = _film(given, on_cards)
    logging.disable(logging.WARNING)
    findings = Findings(
        given.json,
        {
            "marked": ", ".join(names) if on_cards else NOT_CARDS,
            "system": platform.platform(),
            "torch": torch.__version__,
            "size": film.size,
            "chunks": film.chunks,
            "rounds": given.rounds,
        },
    )
    say(", ".join(f"{name} {value}" for name, value in findings.settings.items()))
    with tempfile.TemporaryDirectory(prefix="head-forcing-cards-") as place:
        stage = CardStage(Path(place), given.checkpoint, on_cards)
        made = make_all(stage, film, cards, given.rounds)
        paper = _paper(stage, film)
    findings.add("speed", "Seconds of a chunk with full tiers, and one card's over them", speed_rows(made, paper))
    findings.add("start", "The first film, in which processes and model begin", _start_rows(made))
    findings.add("memory", "Bytes on each card", _memory_rows(made, on_cards))
    findings.add("difference", "Latents beside those of one card", difference_rows(made))
    findings.judge(_targets(made, findings, on_cards))
    return findings


def make_all(stage: CardStage, film: Film, cards: Sequence[int], rounds: int) -> dict[Key, Films]:
    """The first film of each way, then as many rounds, in which they take turns."""
    keys: list[Key] = [(1, ONE), *((count, way) for count in cards for way in (SHARED, EXACT))]
    made: dict[Key, Films] = {}
    for key in keys:
        made[key] = Films(stage.make(film, *key), [])
        say(f"  {key[0]} {key[1]}: {made[key].first.whole:.1f} s with the start")
    for _ in range(rounds):
        for key, films in made.items():
            films.later.append(stage.make(film, *key))
            say(f"  {key[0]} {key[1]}: {films.later[-1].steady:.3f} s a chunk")
    return made


def speed_rows(made: dict[Key, Films], paper: Paper) -> list[Row]:
    """A row for each way, with the bound that arithmetic sets if talk takes no time."""
    one, rows = made[1, ONE].seconds, list[Row]()
    for (cards, way), films in made.items():
        waited = [film.share_waited for film in films.later if film.share_waited is not None]
        faster, bound = one / films.seconds, _bound(paper, cards, way)
        row: Row = {"cards": cards, "way": way, "seconds": films.seconds}
        row |= {"least": min(min(film.chunks[STEADY:]) for film in films.later)}
        row |= {"greatest": max(max(film.chunks[STEADY:]) for film in films.later)}
        row |= {"times as fast": faster, "bound": bound, "of the bound": faster / bound}
        row |= {"share of waiting": median(waited) if waited else None}
        sent: list[Cell] = [None, None]
        if cards > 1:
            of_ranks = paper.sent_bytes(cards, way == EXACT)
            sent = [min(of_ranks) / MEGA, max(of_ranks) / MEGA]
        rows.append(row | dict(zip(("MB sent in a pass at 2 bytes, least", "most"), sent, strict=True)))
    return rows


def _bound(paper: Paper, cards: int, way: str) -> float:
    return 1.0 if cards == 1 else paper.faster(cards, way == EXACT, evenness(paper.heads, by_cost(paper.heads, cards)))


def _start_rows(made: dict[Key, Films]) -> list[Row]:
    rows: list[Row] = []
    for (cards, way), films in made.items():
        usual = median(film.whole for film in films.later)
        first, later = films.first.chunks[0], median(film.chunks[0] for film in films.later)
        row: Row = {"cards": cards, "way": way, "first film s": films.first.whole, "later film s": usual}
        rows.append(row | {"start s": films.first.whole - usual, "its first chunk s": first, "a later one's s": later})
    return rows


def _memory_rows(made: dict[Key, Films], on_cards: bool) -> list[Row]:
    unit, name = (GIGA, "GB") if on_cards else (MEGA, "MB")
    rows: list[Row] = []
    for (cards, way), films in made.items():
        for number in range(cards):
            kv = max(film.kv_bytes[number] for film in films.later)
            used = [film.card_bytes[number] for film in films.later if film.card_bytes]
            row: Row = {"cards": cards, "way": way, "card": number + 1, f"K and V, most {name}": kv / unit}
            rows.append(row | {f"all in use, most {name}": max(used) / unit if used else None})
    return rows


def difference_rows(made: dict[Key, Films]) -> list[Row]:
    """The greatest difference of any latent value, in the first chunk and in all."""
    expected = made[1, ONE].first.latent
    rows: list[Row] = []
    for (cards, way), films in made.items():
        apart = [(film.latent - expected).abs() for film in (films.first, *films.later)]
        first = max(float(each[:, :, :CHUNK_FRAMES].max()) for each in apart)
        whole, spread = max(float(each.max()) for each in apart), float(expected.std())
        rows.append(
            {"cards": cards, "way": way, "first chunk": f"{first:.1e}", "all": f"{whole:.1e}", "spread": spread}
        )
    return rows


def _targets(made: dict[Key, Films], findings: Findings, on_cards: bool) -> list[Target]:
    apart = {(row["cards"], row["way"]): float(str(row["all"])) for row in findings.tables["difference"]}
    targets: list[Target] = []
    for cards, way in made:
        if cards > 1 and (way == EXACT or not on_cards):  # in 16 bits its size is told, not judged
            most = 0 if way == EXACT else MOST_APART
            targets.append(Target(f"{cards} cards, {way}: difference to one card", apart[cards, way], most=most))
    if on_cards:
        speed = {(row["cards"], row["way"]): float(row["times as fast"] or 0) for row in findings.tables["speed"]}
        targets += [Target(f"{n} cards, {way}: times as fast", speed[n, way], least=1.0) for n, way in made if n > 1]
    return targets


def _paper(stage: CardStage, film: Film) -> Paper:
    layers, heads = stage.shape
    wide: int = stage.studio.model.model.diffusion_model.blocks[0].ffn[0].out_features
    return Paper(WanShape(heads * HEAD_DIM, layers, wide), Size(film.width, film.height))


def _film(given: argparse.Namespace, on_cards: bool) -> Film:
    width, height = (832, 480) if on_cards else (128, 128)
    return Film(given.chunks, given.width or width, given.height or height)


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to a file")
    parser.add_argument("--cards", type=int, nargs="+", help="numbers of cards; default: all that are there")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="a real one; default: random weights")
    parser.add_argument("--width", type=int)
    parser.add_argument("--height", type=int)
    parser.add_argument("--chunks", type=int, default=STEADY + 6)
    parser.add_argument("--rounds", type=int, default=2)
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
