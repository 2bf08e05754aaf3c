"""KV memory of all layers, grouped by head type: fixed buffers in time order (method.md section 3).

A buffer holds the kept frames and, right behind them, the chunk being denoised, so that K and V are read where they
lie. K stands rotated; its temporal pairs are kept unrotated beside it, from which a frame is turned anew, once a chunk,
when its position has changed (section 5).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from .attention import Attention, attend_all
from .carried_kv import CarriedKV
from .coded_buffer import CodedBuffer, Workspace
from .frame_slots import FrameSlots
from .head_buffer import HeadBuffer
from .memory_plan import MODEL, MemoryPlan
from .read_frames import ReadFrames, slots_of
from .rope import Rotate, temporal_pairs, temporal_rotation

EVERY_HEAD = "every head"

Observer = Callable[[int, Tensor, Tensor], None]
"""(layer, q, k), both rotated: q (batch, tokens, heads, head_dim), k (batch, keys, heads, head_dim)."""


class KVMemory:
    """The history of a rollout as attention sees it. One group of all heads in warm-up, one per head type after.

    Buffers are allocated at the first forward, on its device, in its dtype, as large as the `plan` says.
    """

    def __init__(
        self, plan: MemoryPlan, attention: Attention, rotate: Rotate, observer: Observer | None = None
    ) -> None:
        self.plan = plan
        self._attention = attention
        self._rotate = rotate
        self._observer = observer
        self._captured: dict[int, Tensor] = {}
        self._reached: set[int] = set()
        self._layers: list[dict[str, FrameSlots]] = [{} for _ in plan.labels]
        self._workspaces: dict[str, Workspace] = {}
        self._carried: CarriedKV | None = None  # what layers begin with whose attention has not come by yet
        self._held: dict[str, tuple[int, ...]] = {EVERY_HEAD: ()}
        self._read_frames: dict[str, ReadFrames] = {}
        self._chunk_positions: tuple[int, ...] = ()
        self._keeps = True
        self._host_rotation: Tensor | None = None
        self._chunk_rotation = torch.empty(0)
        self._rotations: dict[tuple[int, ...], Tensor] = {}

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups in use: one for every head in warm-up, the head types afterwards."""
        return tuple(self._held)

    @property
    def kv_bytes(self) -> int:
        """Bytes of history K and V in the buffers as they now stand, without the chunk's own slots."""
        return sum((buffer.slots - self.plan.chunk_frames) * buffer.frame_bytes for buffer in self._buffers())

    @property
    def chunk_bytes(self) -> int:
        """Bytes beside the history's K and V: the chunk's own slots, what is kept to turn keys anew, and where a layer
        reads what is kept in fewer bits."""
        buffers = sum(self.plan.chunk_frames * buffer.frame_bytes + buffer.beside_bytes for buffer in self._buffers())
        return buffers + sum(workspace.nbytes for workspace in self._workspaces.values())

    @property
    def missed_layers(self) -> tuple[int, ...]:
        """Layers whose attention has not come by since `begin`: what they read and wrote is not of this chunk."""
        return tuple(layer for layer in range(len(self.plan.labels)) if layer not in self._reached)

    def held(self, group: str) -> tuple[int, ...]:
        """Ids of the frames that a group holds, in time order."""
        return self._held[group]

    def begin(
        self, chunk_positions: Sequence[int], history: Mapping[str, Mapping[int, int]], keeps: bool = True
    ) -> None:
        """Say what the next passes read: positions of the chunk's frames, and per group the held frames that are read,
        each with its position. What a group reads in one piece is read where it lies; of several pieces, as when
        frames in between are left out for a pass, copies are made for it. Without `keeps` nothing of the chunk is kept
        after them, so what turns it anew later is not written."""
        self._chunk_positions = tuple(chunk_positions)
        self._keeps = keeps
        self._reached.clear()
        self._read_frames = {
            group: ReadFrames.of(self._held[group], read, chunk_positions) for group, read in history.items()
        }
        self._forget_rotations()

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor]:
        """Self-attention of one layer over history and chunk. Returns its output (batch, tokens, heads * head_dim) and
        the rotated queries.

        q, k, v: (batch, tokens, heads, head_dim), normalised, not rotated. `rotation`: the host's for this chunk,
        (1, tokens, 1, pairs, 2, 2), of which only the spatial pairs are used.
        """
        by_frame = (len(self._chunk_positions), -1)
        self._reached.add(layer)
        plain, v = k.unflatten(1, by_frame), v.unflatten(1, by_frame)
        if layer in self.plan.capture:
            self._captured[layer] = plain
        rotation = self._rotation_of_chunk(rotation)
        q, k = self._rotate(q, rotation), self._rotate(k, rotation).unflatten(1, by_frame)
        unturned = plain[..., : 2 * temporal_pairs(plain.shape[-1])] if self._keeps else None
        buffers = self._buffers_of(layer, plain)
        in_time = partial(self._in_time, tokens=plain.shape[2], head_dim=plain.shape[-1], device=plain.device)
        calls: list[Callable[[], Tensor]] = []
        for group, buffer in buffers.items():
            reads = self._read_frames[group]
            buffer.write(reads.held, k, v, unturned, self._chunk_positions)
            keys, values = buffer.read(reads.slots, reads.positions, in_time)
            queries = buffer.pick(q)
            if self._observer is not None:
                self._observer(layer, queries, keys.unflatten(2, queries.shape[2:]))
            calls.append(partial(self._attention, queries.flatten(2), keys, values, queries.shape[2]))
        out = torch.empty_like(q)
        for buffer, seen in zip(buffers.values(), attend_all(calls), strict=True):
            if buffer.heads is None:
                return seen, q
            buffer.put_back(seen.unflatten(2, (-1, q.shape[3])), out)
        return out.flatten(2), q

    def turn_in_place(self, k: Tensor, rotation: Tensor) -> Tensor:
        """The chunk's keys as the plain model turns them, in space and time: same arguments as `attend`."""
        return self._rotate(k, self._rotation_of_chunk(rotation))

    def keep(self, kept: Mapping[str, Sequence[int]], chunk: Sequence[int] = ()) -> None:
        """Keep exactly these frames of the history and of the chunk, whose K and V the last pass wrote; of a frame of
        the chunk that a group holds, what it holds. The groups named in `kept` are those in use from now on."""
        if tuple(kept) != self.groups:
            self._regroup(chunk, kept)
            return
        for group, frames in kept.items():
            slots = slots_of((*self._held[group], *chunk), frames)
            for layer in self._layers:
                if group in layer:
                    layer[group].arrange(slots)
            self._held[group] = tuple(frames)

    def captured_keys(self, layer: int) -> Tensor:
        """The chunk's keys in a captured layer as the last pass computed them, before any rotation:
        (batch, frames, tokens, heads, head_dim)."""
        return self._captured[layer]

    def agreed(self, x: Tensor) -> Tensor:
        """What all ranks go on with in place of what each computed; here there is one."""
        return x

    @property
    def held_bytes(self) -> int:
        """Bytes of all that is held now, without room for more."""
        frames = {group: len(held) for group, held in self._held.items()}
        return sum(each.bytes_of(frames[group]) for layer in self._layers for group, each in layer.items())

    def hand_over(self) -> CarriedKV:
        """Move what is held to main memory, layer by layer, for another memory; here nothing of it is left."""
        carried = CarriedKV(self._held, [])
        for layer in self._layers:
            carried.layers.append({group: buffer.taken(len(self._held[group])) for group, buffer in layer.items()})
            layer.clear()
        self.release()
        return carried

    def take_over(self, carried: CarriedKV) -> None:
        """Hold what another memory of the same heads held. Each layer copies its part at its first forward."""
        self._held, self._carried = dict(carried.held), carried

    def release(self) -> None:
        """Drop every buffer."""
        self._carried = None
        self._workspaces.clear()
        self._layers = [{} for _ in self.plan.labels]
        self._captured.clear()
        self._forget_rotations()

    def _forget_rotations(self) -> None:
        self._host_rotation = None
        self._rotations.clear()

    def _buffers(self) -> list[FrameSlots]:
        return [buffer for layer in self._layers for buffer in layer.values()]

    def _buffers_of(self, layer: int, like: Tensor) -> dict[str, FrameSlots]:
        if not self._layers[layer]:
            carried = {} if self._carried is None else self._carried.layers[layer]
            buffers = {group: self._new_buffer(layer, group, like) for group in carried or (EVERY_HEAD,)}
            for group, held in carried.items():
                buffers[group].put_in(held)
            self._layers[layer] = buffers
            self._carried = self._carried if not all(self._layers) else None
        return self._layers[layer]

    def _new_buffer(self, layer: int, group: str, like: Tensor) -> FrameSlots:
        every, plan = group == EVERY_HEAD, self.plan
        own = [head for head, label in enumerate(plan.labels[layer]) if every or label == group]
        heads = None if len(own) == len(plan.labels[layer]) else torch.tensor(own, device=like.device)
        slots = plan.chunk_frames + (plan.warm_up_frames if every else plan.capacity[group])
        if plan.precision == MODEL:
            return HeadBuffer(heads, slots, like)
        if group not in self._workspaces:
            most_heads = max(map(len, plan.labels)) if every else plan.most_heads(group)
            self._workspaces[group] = Workspace(like, slots, most_heads)
        in_all = [label for label in (plan.of or plan.labels)[layer] if every or label == group]
        return CodedBuffer(heads, slots, like, self._workspaces[group], len(in_all) > 1)

    def _rotation_of_chunk(self, rotation: Tensor) -> Tensor:
        """The host's rotation of the chunk with its own positions in time, (1, tokens, 1, pairs, 2, 2)."""
        if self._host_rotation is not rotation:
            tokens = rotation.shape[1] // len(self._chunk_positions)
            in_time = self._in_time(self._chunk_positions, tokens, 2 * rotation.shape[3], rotation.device)
            pairs = in_time.shape[3]
            self._host_rotation = rotation
            self._chunk_rotation = torch.cat((in_time, rotation[..., pairs:, :, :].float()), dim=3)
        return self._chunk_rotation

    def _in_time(self, positions: Sequence[int], tokens: int, head_dim: int, device: torch.device) -> Tensor:
        """Rotation of the temporal pairs of frames at these positions: (1, frames * tokens, 1, pairs, 2, 2)."""
        at = tuple(positions)
        if at not in self._rotations:
            # a copy that blocks would make the host wait for the card in the middle of a chunk
            rotation = temporal_rotation(at, head_dim).to(device, non_blocking=device.type == "cuda")
            self._rotations[at] = rotation.repeat_interleave(tokens, dim=0)[None, :, None]
        return self._rotations[at]

    def _regroup(self, chunk: Sequence[int], kept: Mapping[str, Sequence[int]]) -> None:
        """The end of warm-up: a buffer for each group in place of the one of every head, layer by layer.

        Example: a layer of heads memory, local, memory holds frames 0 to 17 and the chunk 18 to 20. Local heads keep
        20, memory heads 0, 1, 2 and 15 to 20: head 1 gets a buffer with frame 20 in slot 0, heads 0 and 2 share one
        with 0, 1, 2, 15, ..., 20 in slots 0 to 8. Each has slots for all that its tiers may hold, and a chunk.
        """
        slots = {group: slots_of((*self._held[EVERY_HEAD], *chunk), frames) for group, frames in kept.items()}
        for number, layer in enumerate(self._layers):
            whole = layer[EVERY_HEAD]
            regrouped: dict[str, FrameSlots] = {}
            for group in kept:
                if group in self.plan.labels[number]:
                    buffer = self._new_buffer(number, group, whole.like)
                    buffer.fill(whole, slots[group])
                    regrouped[group] = buffer
            self._layers[number] = regrouped
        self._workspaces.pop(EVERY_HEAD, None)
        self._held = {group: tuple(frames) for group, frames in kept.items()}
