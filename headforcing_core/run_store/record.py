"""What is written down of a kept run: everything that decided about its chunks, and the chunks themselves
(method.md section 8; docs/files.md)."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from ..files.strict_json import Setting
from ..policy.head_types import Labels
from ..rollout.episodes import Decision
from ..rollout.plan import Segment
from ..rollout.recall import Choice

MOST_CHUNKS = 150_000  # ten hours, a frame a chunk at 16 pictures a second
MOST_SEED = 2**64 - 1
OF_POLICY = "policy_"
"""How the names of those settings begin that are of the policy; what follows is the policy's own name."""
PAST, COMMITTED, CARRIED = "past", "committed", "carried"
"""The setting that says how a run came to the memory of what was there before it: by a pass over each chunk of that, or
as the run before had it."""
NEW = "set on_existing_run to new (the old run stays in its folder)"
ANEW = f"{NEW} or replace (deletes it)"
"""What an error tells to do where a kept run cannot be gone on with; NEW alone where the run is sound."""

Seeds: TypeAlias = tuple[tuple[int, int], ...]
"""(first chunk, seed) of every stretch of chunks under one seed."""


@dataclass(frozen=True)
class RunProfile:
    """The labels of a run's heads, and which profile they are from; if the policy recalls, by which layers and within
    which share."""

    fingerprint: str
    rule: str
    labels: Labels
    recall_layers: tuple[int, ...] | None = None
    recall_share: float | None = None


@dataclass(frozen=True)
class RunSpec:
    """A run as it is wanted now.

    `settings` are the values that must be the same for the chunks to be of one run - so not the length; the text of a
    segment is the SHA-256 of what its prompt is encoded to; `seed` is that of the chunks still to be made;
    `prefix_hash` the SHA-256 of what is committed before chunk 0, or None; `chunks` how many the video has;
    `chunk_shape` (1, channels, frames, height, width) of each, in model space, `window_frames` those that are kept with
    each of the noisy ones behind it.

    `written` gives the text for Prompt Schedule of the segments of a kept run, empty if they are from none.

    `begun_by` names the input that `prefix_hash` is of, for errors: start_image, previous, or one of both.

    For runs of older versions: `meant_before` says of a setting that such a run lacks what it meant then;
    `older_settings` what older versions wrote where today's value stands, and `older_prefix_hashes` for the beginning.
    """

    settings: Mapping[str, Setting]
    segments: tuple[Segment[str], ...]
    seed: int
    profile: RunProfile | None
    prefix_hash: str | None
    chunks: int
    chunk_shape: tuple[int, ...]
    meant_before: Mapping[str, Setting] = field(default_factory=dict)
    older_settings: Mapping[str, Collection[Setting]] = field(default_factory=dict)
    older_prefix_hashes: tuple[str, ...] = ()
    written: Callable[[tuple[Segment[str], ...]], str] | None = None
    window_frames: int = 0
    begun_by: str = ""


@dataclass(frozen=True)
class ChunkRecord:
    """A finished chunk: the SHA-256 of its file, the episodic decisions of its commit pass, and what was chosen of the
    past, if that was chosen here."""

    sha256: str
    decisions: tuple[Decision, ...]
    choice: Choice | None = None


@dataclass(frozen=True)
class RunRecord:
    """All that decided about the chunks of a run: `run.json`. The text of a segment is a SHA-256."""

    settings: Mapping[str, Setting]
    segments: tuple[Segment[str], ...]
    seeds: Seeds
    profile: RunProfile | None
    prefix_hash: str | None

    @property
    def past(self) -> str:
        """How the run came to the memory of what was there before it; older ones do not say."""
        return str(self.settings.get(PAST, COMMITTED))

    def seed_at(self, chunk: int) -> int:
        """The seed of a chunk."""
        return [seed for first, seed in self.seeds if first <= chunk][-1]
