"""The host with a model that several cards can load, films on one card and on several, and what is seen of both."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from threading import Event, Thread
from time import perf_counter
from typing import Any
from unittest.mock import patch

from safetensors.torch import save_file
from torch import Tensor

from benchmarks.shared.host_process import TEXT_DIM, model_shape, repeated_layers, start_host
from benchmarks.soak.soak_host import CHECKPOINT, Film, Studio, module
from devtools.server.base_directory import link_file

ONE, SHARED, EXACT = "one card", "tokens shared", "exact"
REAL_TEXT_DIM = 4096
STEADY = 8  # chunks before this one are warm-up, or fill the tiers
_RANDOM = "self_forcing_dmd_random.safetensors"
_EVERY = 0.5  # seconds between two looks at the cards


@dataclass(frozen=True)
class Seen:
    """One film: seconds until it was whole, of each chunk, and that each card waited for others in one, on average; the
    most bytes of K and V by rank, and of all on each card; the latent."""

    whole: float
    chunks: tuple[float, ...]
    waited: tuple[float, ...]
    kv_bytes: tuple[int, ...]
    card_bytes: tuple[int, ...]
    latent: Tensor

    @property
    def steady(self) -> float:
        """Seconds of a chunk once the tiers are full."""
        return median(self.chunks[STEADY:])

    @property
    def share_waited(self) -> float | None:
        """Of those chunks."""
        return None if not self.waited else sum(self.waited[STEADY:]) / sum(self.chunks[STEADY:])


class CardStage:
    """A model, real or of random weights at full size or, without a card, of the tests; and films of it."""

    def __init__(self, folder: Path, checkpoint: Path | None, on_cards: bool) -> None:
        self.on_cards = on_cards
        device, text_dim = ("cuda", REAL_TEXT_DIM) if on_cards else ("cpu", TEXT_DIM)
        name, models = CHECKPOINT, folder / "host" / "models" / "diffusion_models"
        if checkpoint is not None:
            name, text_dim = checkpoint.name, REAL_TEXT_DIM
            link_file(checkpoint, models / name)
        elif on_cards:
            name = _RANDOM
            _write_random(models / name, device)
        self.studio = Studio(folder / "host", name, text_dim, device)
        self._folder, self._films, self._groups = folder, 0, dict[int, Any]()

    @property
    def shape(self) -> tuple[int, int]:
        """Layers and heads."""
        return module("nodes.host.model").layers_and_heads(self.studio.model)

    def make(self, film: Film, cards: int, way: str) -> Seen:
        """A film on so many cards, which keep their processes for the next one."""
        group = None
        if cards > 1:
            group = self._groups.setdefault(cards, self.studio.cards(cards, exact=False))
            group.exact = way == EXACT
        self._films += 1
        output = self._folder / f"film_{self._films}"
        with _overheard() as talks, _watched_cards(self.on_cards) as most:
            started = perf_counter()
            made = self.studio.make(film, output, cards=group, vae=None, run_name="")
            whole = perf_counter() - started
        chunks = made.report["chunks"]
        assert isinstance(chunks, list)
        seconds = tuple(float(chunk["seconds"]) for chunk in chunks)
        kv_bytes = (max(int(chunk["kv_bytes"]) for chunk in chunks),)
        if talks:
            kv_bytes = tuple(talks[0].peak_bytes)
        waited = tuple(pace.waited for talk in talks for pace in talk.paces)
        return Seen(whole, seconds, waited, kv_bytes, tuple(most), made.latent)


@contextmanager
def _overheard() -> Iterator[list[Any]]:
    """What the page's process hears of its ranks in the films that are made inside."""
    makers, talks = module("nodes.run.chunk_makers"), list[Any]()

    def heard(*given: object) -> object:
        talks.append(module("nodes.cards.rank_talk").RankTalk(*given))
        return talks[-1]

    with patch.object(makers, "RankTalk", heard):
        yield talks


@contextmanager
def _watched_cards(on_cards: bool) -> Iterator[list[int]]:
    """The most bytes in use on each card inside, of all processes; nothing without cards."""
    most, over = list[int](), Event()

    def watch() -> None:
        while on_cards and not over.wait(_EVERY):
            used = _bytes_in_use()
            most[:] = [max(pair) for pair in zip(most or used, used, strict=True)]

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def _bytes_in_use() -> list[int]:
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [int(line) * 2**20 for line in told.split()]


def _write_random(path: Path, device: str) -> None:
    """Wan 2.1 1.3B at full size, random numbers."""
    start_host(1, "pytorch", device)
    path.parent.mkdir(parents=True)
    about = {"config": json.dumps({"transformer": {"causal_ar": True, "text_dim": REAL_TEXT_DIM}})}
    save_file(repeated_layers(model_shape(30, 12), REAL_TEXT_DIM), path, about)
