"""Kernels of NVIDIA's compiler inside a library: for each kind of card machine code, and PTX, a text to compile anew.

A card takes the machine code that was made for it, and PTX only where there is none. PTX is compressed already, so it
is most of what a library weighs once its machine code is compressed, too.
"""

import struct
from collections.abc import Iterator

_MAGIC = struct.pack("<I", 0xBA55ED50)
_CONTAINER = struct.Struct("<IHHQ")  # magic, version, bytes of this header, bytes of all entries
_ENTRY = struct.Struct("<HHIQ")  # kind, version, bytes of this header, bytes of what follows
_PTX, _MACHINE_CODE = 1, 2


def without_ptx(library: bytes) -> bytes:
    """The same library with zeros in place of its PTX; nothing else changes, nor moves. A container that is not of the
    known form, or has no machine code, stays as it is."""
    made = bytearray(library)
    at = library.find(_MAGIC)
    while at >= 0:
        entries = list(_entries(library, at))
        if {_PTX, _MACHINE_CODE} == {kind for kind, _, _ in entries}:
            for start, end in ((start, end) for kind, start, end in entries if kind == _PTX):
                made[start:end] = bytes(end - start)
        at = library.find(_MAGIC, at + len(_MAGIC))
    return bytes(made)


def _entries(library: bytes, container: int) -> Iterator[tuple[int, int, int]]:
    """(kind, start, end) of the parts of a container, none if they do not fill it."""
    if container + _CONTAINER.size > len(library):
        return
    _, version, header, size = _CONTAINER.unpack_from(library, container)
    at, end = container + header, container + header + size
    found: list[tuple[int, int, int]] = []
    while version == 1 and header >= _CONTAINER.size and at + _ENTRY.size <= end <= len(library):
        kind, _, own, follows = _ENTRY.unpack_from(library, at)
        found.append((kind, at + own, at + own + follows))
        at += max(own, _ENTRY.size) + follows
    if at == end:
        yield from found
