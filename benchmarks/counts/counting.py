"""Kernels that a card would be given, whose they are and what they move, and the bytes that are alive meanwhile.

Tensors without numbers (meta tensors) stand for the card's: each operation of PyTorch that is no view is one kernel.
What comes from tensors of the processor alone is not counted.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

Given = ParamSpec("Given")
Result = TypeVar("Result")

ATTENTION = "attention"
TERA, GIGA = 1e12, 1e9
NO_KERNEL = frozenset(("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view"))
_WRITES_ALONE = frozenset(("copy_", "fill_", "zero_", "index_copy_"))  # what they write they do not read
_PRODUCTS = frozenset(("linear", "conv2d", "conv3d"))
_PICKS = frozenset(("index_select", "index_copy_", "index", "gather"))  # read as much as they write


@dataclass(frozen=True)
class Kernel:
    """One kernel: in which phase and whose, what it is called, the bytes that it moves, and its floating-point
    operations, if it is a product or attention."""

    phase: str
    owner: str
    name: str
    moved: int
    flop: int

    @property
    def is_bound_by_memory(self) -> bool:
        """Whether its bytes and not its arithmetic take the time."""
        return not self.flop


class Counting(TorchDispatchMode):
    """Inside, every kernel counts for the phase and the owner that are innermost, and of what the owner `ours` makes
    it is known how many bytes are alive."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[Kernel] = []
        self.phase, self.owner = "", "host"
        self.alive = self.most_alive = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        made = _on_card(out)
        for tensor in made:
            self._watch(tensor)
        if self.phase and made and not _is_view(func):
            self.add(func._schema.name.split("::")[1], _moved(func, args, kwargs, made), _flop(func, args, kwargs, out))
        return out

    def add(self, name: str, moved: int, flop: int = 0) -> None:
        """Count a kernel."""
        self.kernels.append(Kernel(self.phase, self.owner, name, moved, flop))

    def one_kernel(self, name: str, like: Tensor, read: Sequence[Tensor], flop: int = 0) -> Tensor:
        """The result of what has one kernel on a card and no form here: it reads these, and gives a tensor like one."""
        out = torch.empty_like(like)
        if self.phase:
            self.add(name, nbytes(*read, out), flop)
        return out

    @contextmanager
    def within(self, phase: str | None = None, owner: str | None = None) -> Iterator[None]:
        """What happens inside is of this phase and this owner."""
        before = self.phase, self.owner
        self.phase, self.owner = phase or self.phase, owner or self.owner
        try:
            yield
        finally:
            self.phase, self.owner = before

    def counted(
        self, function: Callable[Given, Result], phase: str | None = None, owner: str = "ours"
    ) -> Callable[Given, Result]:
        """The same function, whose kernels are of this phase and this owner."""

        def call(*args: Given.args, **kwargs: Given.kwargs) -> Result:
            with self.within(phase, owner):
                return function(*args, **kwargs)

        return call

    def begin(self) -> None:
        """Forget all kernels, and look for the most that is alive from here on."""
        self.kernels, self.most_alive = [], self.alive

    def _watch(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if self.owner != "ours" or key in self._known:
            return
        size = storage.nbytes()

        def gone(_: object) -> None:
            del self._known[key]
            self.alive -= size

        self._known[key] = weakref.ref(storage, gone)
        self.alive += size
        self.most_alive = max(self.most_alive, self.alive)


def gigabytes(kernels: Iterable[Kernel]) -> float:
    """What those move that are bound by it."""
    return sum(kernel.moved for kernel in kernels if kernel.is_bound_by_memory) / GIGA


def nbytes(*tensors: Tensor) -> int:
    """Bytes of tensors, of expanded ones those that are there."""
    there = [[n for n, step in zip(each.shape, each.stride(), strict=True) if step] for each in tensors]
    return sum(each.element_size() * math.prod(sizes) for each, sizes in zip(tensors, there, strict=True))


def _on_card(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor) and leaf.is_meta]


def _is_view(func: Any) -> bool:
    aliases = [each.alias_info for each in func._schema.returns]
    is_view = bool(aliases) and all(alias is not None and not alias.is_write for alias in aliases)
    return is_view or func._schema.name.split("::")[1] in NO_KERNEL


def _flop(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    name = func._schema.name.split("::")[1]
    if name in _PRODUCTS:  # of a number of the result, as many products as its weights have
        return 2 * out.numel() * args[1][0].numel()
    known = flop_registry.get(func.overloadpacket)
    return known(*args, **kwargs, out_val=out) if known is not None else 0


def _moved(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], made: list[Tensor]) -> int:
    name = func._schema.name.split("::")[1]
    if name in _PICKS:
        return 2 * nbytes(*(made if name != "index_copy_" else _on_card(args[3:])))
    given = _on_card(args[1:] if name in _WRITES_ALONE else args) + _on_card({**kwargs, "out": None})
    return nbytes(*given, *made)
