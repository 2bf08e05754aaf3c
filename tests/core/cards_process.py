"""One of several ranks that are processes: `python cards_process.py RANK RANKS FILE`. Ends with 0 if all is right."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[2])]

import torch  # noqa: E402
from cards_on_threads import Group, alone, check_same  # noqa: E402
from test_cards_rollout import MIXED, NEAR, SETTINGS, case_of, model_of  # noqa: E402

from headforcing_core.cards.exchange import Exchange  # noqa: E402
from headforcing_core.cards.torch_exchange import join  # noqa: E402

TYPES = (torch.float32, torch.bfloat16, torch.int8, torch.float8_e4m3fn)


def numbers(rank: int, sizes: Sequence[int], kind: torch.dtype) -> torch.Tensor:
    return (torch.arange(sum(sizes)) % 7 + 10 * rank).to(kind)


def check_exchange(exchange: Exchange) -> None:
    """Uneven shares, some of them empty, of numbers of any type."""
    ranks, rank = range(exchange.ranks), exchange.rank
    sizes = [[(3 * source + 5 * target + 1) % 4 for target in ranks] for source in ranks]
    for kind in TYPES:
        before = exchange.sent_bytes
        all_sent = [numbers(source, sizes[source], kind) for source in ranks]
        got = exchange.all_to_all(all_sent[rank], sizes[rank], [sizes[source][rank] for source in ranks])
        expected = [x.float().split(sizes[source])[rank] for source, x in enumerate(all_sent)]
        assert got.dtype == kind and got.float().equal(torch.cat(expected))
        away = sum(sizes[rank]) - sizes[rank][rank]
        assert exchange.sent_bytes - before == away * kind.itemsize
        gathered = exchange.all_gather(all_sent[rank], list(map(sum, sizes)))
        assert gathered.float().equal(torch.cat([x.float() for x in all_sent]))
        away += sum(sizes[rank]) * (len(ranks) - 1)
        assert exchange.sent_bytes - before == away * kind.itemsize
        agreed = exchange.broadcast(torch.full((2, 3), rank + 1).to(kind).T)
        assert agreed.shape == (3, 2) and agreed.float().equal(torch.ones(3, 2))
        assert exchange.sent_bytes - before == (away + (0 if rank else 6 * (len(ranks) - 1))) * kind.itemsize
    assert [exchange.any(rank == who) for who in (*ranks, len(ranks))] == [*(True for _ in ranks), False]


def check_films(exchange: Exchange) -> None:
    """Both designs make the film that one makes."""
    for preset, exact in (("recall", True), ("paper", False)):
        setting = next(each for each in SETTINGS if each.preset == preset)
        case, model = case_of(setting._replace(labels=MIXED)), model_of(MIXED)
        made = Group(case, model, exchange.ranks, exact).on_rank(exchange)
        latents = torch.stack([chunk.latent for chunk in made.chunks]).flatten()
        everyones = exchange.all_gather(latents, [len(latents)] * exchange.ranks)
        assert all(each.equal(latents) for each in everyones.split(len(latents)))
        check_same(alone(case, model), [made], 0.0 if exact else NEAR)


def main() -> None:
    torch.set_num_threads(1)
    exchange = join(sys.argv[3], int(sys.argv[1]), int(sys.argv[2]), torch.device("cpu"), 60.0)
    check_exchange(exchange)
    check_films(exchange)
    if exchange.rank == 0:
        os._exit(0)  # as one that is lost
    try:
        while True:
            exchange.any(False)
    except RuntimeError:
        os._exit(0)


if __name__ == "__main__":
    main()
