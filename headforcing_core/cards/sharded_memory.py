"""The KV memory of one of several ranks, each of which has some heads of every layer. Only the chunk travels, never the
past.

Exact: every rank computes all tokens, attends for its own heads, and gathers what the others made of theirs; the same
bits as one rank. Otherwise every rank computes its share of the tokens (Ulysses): before attention it gets all tokens
of its own heads, after it all heads of its own tokens.
"""

from collections.abc import Mapping, Sequence
from math import prod

import torch
from torch import Tensor

from ..kv_memory.attention import Attention
from ..kv_memory.frame_slots import pick_heads, put_heads_back
from ..kv_memory.memory import KVMemory
from ..kv_memory.memory_plan import MemoryPlan
from ..kv_memory.rope import Rotate
from .exchange import Exchange
from .head_shares import HeadShares


def token_shares(tokens: int, ranks: int) -> list[int]:
    """How many tokens each rank has."""
    return [tokens // ranks + (rank < tokens % ranks) for rank in range(ranks)]


class ShardedMemory:
    """What a rollout and its model ask of a KVMemory, on one of several ranks, which all have to ask the same in the
    same order. `plan` is that of all heads; what lies here, and its bytes, is of the rank's own."""

    def __init__(
        self,
        plan: MemoryPlan,
        shares: HeadShares,
        exchange: Exchange,
        exact: bool,
        attention: Attention,
        rotate: Rotate,
    ) -> None:
        self.plan = plan
        self._exchange, self._exact, self._heads = exchange, exact, shares.heads
        self._own = KVMemory(shares.plan_of(plan, exchange.rank), attention, rotate)
        self._places: dict[int, list[Tensor]] = {}
        self._captured: dict[int, Tensor] = {}
        self._frames = 0  # of the pass that is running, as are its tokens by rank
        self._tokens = [0] * exchange.ranks

    @property
    def groups(self) -> tuple[str, ...]:
        return self._own.groups

    @property
    def kv_bytes(self) -> int:
        return self._own.kv_bytes

    @property
    def chunk_bytes(self) -> int:
        return self._own.chunk_bytes

    @property
    def missed_layers(self) -> tuple[int, ...]:
        return self._own.missed_layers

    def held(self, group: str) -> tuple[int, ...]:
        return self._own.held(group)

    def begin(
        self, chunk_positions: Sequence[int], history: Mapping[str, Mapping[int, int]], keeps: bool = True
    ) -> None:
        self._frames = len(chunk_positions)
        self._own.begin(chunk_positions, history, keeps)

    def keep(self, kept: Mapping[str, Sequence[int]], chunk: Sequence[int] = ()) -> None:
        self._own.keep(kept, chunk)

    def agreed(self, x: Tensor) -> Tensor:
        return self._exchange.broadcast(x)

    def release(self) -> None:
        self._own.release()
        self._captured.clear()

    def own_tokens(self, x: Tensor, dim: int = 1) -> Tensor:
        """This rank's share of all tokens of a pass, for the model's first block; all of them, where that is exact."""
        if self._exact:
            return x
        self._tokens = token_shares(x.shape[dim], self._exchange.ranks)
        return x.split(self._tokens, dim)[self._exchange.rank]

    def all_tokens(self, x: Tensor) -> Tensor:
        """The opposite, for what the last block made: x (batch, own tokens, ...)."""
        if self._exact:
            return x
        return torch.cat(self._gathered(x, [(x.shape[0], tokens, *x.shape[2:]) for tokens in self._tokens]), dim=1)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor]:
        """As of a KVMemory. Unless all is exact, q, k, v and the output are of the rank's own tokens. The rotated
        queries are of its own heads and all tokens."""
        self._captured.pop(layer, None)
        if self._exact:
            if layer in self.plan.capture:
                self._captured[layer] = k.unflatten(1, (self._frames, -1))
            own = self._places_of(layer, q.device)[self._exchange.rank]
            q, k, v = (pick_heads(x, own) for x in (q, k, v))
            out, turned = self._own.attend(layer, q, k, v, rotation)
            return self._all_heads(layer, out.unflatten(2, (len(own), -1))).flatten(2), turned
        q, k, v = self._own_heads_of_all_tokens(layer, torch.stack((q, k, v)))
        out, turned = self._own.attend(layer, q, k, v, rotation)
        return self._all_heads_of_own_tokens(layer, out.unflatten(2, q.shape[2:])).flatten(2), turned

    def turn_in_place(self, k: Tensor, rotation: Tensor) -> Tensor:
        return self.own_tokens(self._own.turn_in_place(self.all_tokens(k), rotation))

    def captured_keys(self, layer: int) -> Tensor:
        """As of a KVMemory. What was not computed here is fetched when it is first asked for."""
        if layer not in self._captured:
            self._captured[layer] = self._all_heads(layer, self._own.captured_keys(layer))
        return self._captured[layer]

    def _own_heads_of_all_tokens(self, layer: int, x: Tensor) -> Tensor:
        """Of x (3, batch, own tokens, all heads, head_dim)."""
        places = self._places_of(layer, x.device)
        heads, head_dim = len(places[self._exchange.rank]), x.shape[-1]
        parts = [pick_heads(x, each) for each in places]
        got = self._swapped(parts, [(*x.shape[:2], tokens, heads, head_dim) for tokens in self._tokens])
        return torch.cat(got, dim=2)

    def _all_heads_of_own_tokens(self, layer: int, x: Tensor) -> Tensor:
        """Of x (batch, all tokens, own heads, head_dim)."""
        here, places = self._tokens[self._exchange.rank], self._places_of(layer, x.device)
        shapes = [(x.shape[0], here, len(each), x.shape[-1]) for each in places]
        return _put_together(self._swapped(x.split(self._tokens, dim=1), shapes), places)

    def _all_heads(self, layer: int, x: Tensor) -> Tensor:
        """Of x (..., own heads, head_dim)."""
        places = self._places_of(layer, x.device)
        return _put_together(self._gathered(x, [(*x.shape[:-2], len(each), x.shape[-1]) for each in places]), places)

    def _swapped(self, parts: Sequence[Tensor], shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
        """To each rank its part; what each has sent, in these shapes."""
        flat = torch.cat([part.flatten() for part in parts])
        sizes = list(map(prod, shapes))
        return _shaped(self._exchange.all_to_all(flat, [part.numel() for part in parts], sizes), shapes)

    def _gathered(self, x: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
        """What each rank has, in these shapes."""
        return _shaped(self._exchange.all_gather(x.flatten(), list(map(prod, shapes))), shapes)

    def _places_of(self, layer: int, device: torch.device) -> list[Tensor]:
        """The heads of every rank in a layer."""
        if layer not in self._places:
            self._places[layer] = [torch.tensor(each, device=device) for each in self._heads[layer]]
        return self._places[layer]


def _shaped(flat: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    return [part.view(shape) for part, shape in zip(flat.split(list(map(prod, shapes))), shapes, strict=True)]


def _put_together(parts: Sequence[Tensor], places: Sequence[Tensor]) -> Tensor:
    """All heads from those of every rank."""
    out = parts[0].new_empty((*parts[0].shape[:-2], sum(map(len, places)), parts[0].shape[-1]))
    for part, heads in zip(parts, places, strict=True):
        put_heads_back(part, heads, out)
    return out
