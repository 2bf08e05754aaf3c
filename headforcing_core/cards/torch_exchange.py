"""Ranks that are processes of one machine, by torch.distributed: NCCL between cards, gloo between processors."""

import os
from collections.abc import Sequence
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

_LOOPBACK = "lo"


class TorchExchange:
    """This process among those that have joined. Tensors travel as bytes, so that every type does."""

    def __init__(self, side: dist.ProcessGroup) -> None:
        self.rank, self.ranks, self.sent_bytes = dist.get_rank(), dist.get_world_size(), 0
        self._side = side

    def all_to_all(self, x: Tensor, sent: Sequence[int], got: Sequence[int]) -> Tensor:
        self.sent_bytes += (x.numel() - sent[self.rank]) * x.itemsize
        return self._all_to_all(x, sent, got)

    def all_gather(self, x: Tensor, sizes: Sequence[int]) -> Tensor:
        self.sent_bytes += x.nbytes * (self.ranks - 1)
        return self._all_to_all(x.repeat(self.ranks), [len(x)] * self.ranks, sizes)

    def broadcast(self, x: Tensor) -> Tensor:
        if self.rank == 0:
            self.sent_bytes += x.nbytes * (self.ranks - 1)
        out = x.contiguous() if self.rank == 0 else torch.empty_like(x, memory_format=torch.contiguous_format)
        dist.broadcast(out.view(-1).view(torch.uint8), 0, self._group_of(x))
        return out

    def any(self, flag: bool) -> bool:
        said = torch.tensor([flag], dtype=torch.uint8)
        dist.all_reduce(said, dist.ReduceOp.MAX, self._side)
        return bool(said)

    def _all_to_all(self, x: Tensor, sent: Sequence[int], got: Sequence[int]) -> Tensor:
        out = x.new_empty(sum(got))
        got, sent = ([count * x.itemsize for count in counts] for counts in (got, sent))
        dist.all_to_all_single(out.view(torch.uint8), x.view(torch.uint8), got, sent, self._group_of(x))
        return out

    def _group_of(self, x: Tensor) -> dist.ProcessGroup | None:
        return self._side if x.device.type == "cpu" else None


def join(store_file: str, rank: int, ranks: int, device: torch.device, seconds: float) -> TorchExchange:
    """Meet the other ranks by a file that is not there yet, on this machine alone; the device is that of what travels.
    Whoever is not there within so many seconds, now or later, ends it for all."""
    os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = _LOOPBACK
    backend, card = ("gloo", None) if device.type == "cpu" else ("nccl", device)
    wait = timedelta(seconds=seconds)
    store = dist.FileStore(store_file, ranks)  # pyright: ignore[reportPrivateImportUsage]
    dist.init_process_group(backend, store=store, rank=rank, world_size=ranks, timeout=wait, device_id=card)
    side = dist.group.WORLD if card is None else dist.new_group(backend="gloo", timeout=wait)
    assert isinstance(side, dist.ProcessGroup)
    return TorchExchange(side)
