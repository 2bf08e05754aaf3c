"""What a run takes: the memory of its policy, of the presets that need less, and of what lies beside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ...headforcing_core.families.family import Family
from ...headforcing_core.files.byte_words import bytes_in_words
from ...headforcing_core.geometry import VideoShape
from ...headforcing_core.heads.rules import LabelRule, label_heads
from ...headforcing_core.kv_memory.memory_plan import FrameOfHead, MemoryPlan
from ...headforcing_core.policy.family_presets import for_family
from ...headforcing_core.policy.fitting import FittedPolicy, fit_policy
from ...headforcing_core.policy.presets import PRESETS
from ...headforcing_core.rollout.memory_size import plan_memory
from ...headforcing_core.rollout.recall_bound import RecallBound
from ...headforcing_core.run_store.chunk_file import most_bytes


@dataclass(frozen=True)
class RunCost:
    """The most bytes that the KV memory of a run takes, and those of the presets that take less, the next best first;
    beside it the model's weights, one pass of it, and what the VAE remembers of a video that is made meanwhile. On
    several cards it is what that one takes which takes most."""

    policy: str
    video: VideoShape
    memory_bytes: int
    smaller: Mapping[str, int]
    weights_bytes: int = 0
    pass_bytes: int = 0
    vae_bytes: int = 0

    @property
    def peak_bytes(self) -> int:
        """All of it together."""
        return self.memory_bytes + self.weights_bytes + self.pass_bytes + self.vae_bytes

    def over(self, most: int) -> RunCost:
        """The same on several cards, of which none holds more of the KV memory than this; presets are reckoned to come
        out as even."""
        smaller = {name: round(size * most / self.memory_bytes) for name, size in self.smaller.items()}
        return replace(self, memory_bytes=most, smaller=smaller)

    def told(self, free_bytes: int, total_bytes: int) -> str:
        """What the run will take, beside what is there."""
        return self._told("", f"{bytes_in_words(free_bytes)} of {bytes_in_words(total_bytes)}")

    def told_of_cards(self, rooms: Sequence[tuple[int, int]]) -> str:
        """What the run will take, beside what is there on each card: bytes that are free, and all."""
        there = [f"{bytes_in_words(free)} of {bytes_in_words(total)}" for free, total in rooms]
        on_cards = (f"{room} on card {number}" for number, room in enumerate(there, 1))
        return self._told(f" on each of {len(rooms)} cards", ", ".join(on_cards))

    def _told(self, where: str, there: str) -> str:
        parts = [f"the model ({bytes_in_words(self.weights_bytes)})"]
        parts.append(f"its pass over a chunk ({bytes_in_words(self.pass_bytes)})")
        parts += [f"the VAE ({bytes_in_words(self.vae_bytes)})"] if self.vae_bytes else []
        return (
            f"{self.video.chunks} chunks, {self.video.frames} frames. Memory{where}: up to "
            f"{bytes_in_words(self.memory_bytes)} for keys and values, {bytes_in_words(self.peak_bytes)} in all with "
            f"{', '.join(parts[:-1])} and {parts[-1]}; {there} are free."
        )

    def warning(self, total_bytes: int) -> str:
        """What to say when the device cannot hold the run; nothing when it can."""
        if self.memory_bytes > total_bytes:
            there = bytes_in_words(total_bytes)
            return f"Keys and values alone take more than the {there} of memory. {self._advice(total_bytes)}"
        if self.peak_bytes > total_bytes:
            return "All together is more than there is: ComfyUI will move the model in and out, which takes time."
        return ""

    def out_of_memory(self, free_bytes: int) -> str:
        """What to say when the memory ran out; `free_bytes` were free without this run."""
        beside = "beside the model"
        if self.vae_bytes:
            beside += f", the VAE remembers {bytes_in_words(self.vae_bytes)} of the video"
        return (
            f"Out of memory. At {self.video.width} x {self.video.height} the memory of policy {self.policy} takes "
            f"{bytes_in_words(self.memory_bytes)} {beside}, and {bytes_in_words(free_bytes)} are free without it. "
            f"{self._advice(free_bytes)}"
        )

    def _advice(self, there: int) -> str:
        room = there - self.pass_bytes - self.vae_bytes
        fitting = next((name for name, size in self.smaller.items() if size < room), None)
        if fitting is None:
            return "Choose a smaller width and height."
        taken = bytes_in_words(self.smaller[fitting])
        return f"Choose the preset {fitting} in Head Cache Policy ({taken}), or a smaller size."


def run_cost(
    fitted: FittedPolicy, memory: MemoryPlan, profiled: bool, video: VideoShape, frame: FrameOfHead, family: Family
) -> RunCost:
    """What the KV memory of a run will take, by what one `frame` is in one head, and that of the presets as the family
    takes them. Labels that were not `profiled` say nothing about those: they are reckoned at the usual shares."""
    most = memory.expected_bytes(frame)
    labels = memory.labels
    if not profiled:
        labels = label_heads(LabelRule("random"), len(labels), len(labels[0]), None)
    sizes: dict[str, int] = {}
    for name, preset in PRESETS.items():
        if not preset.needs_profile:
            continue  # those that tell no heads apart are there for comparison
        asked = for_family(replace(preset, trained_frames=fitted.trained_range), video.chunk_frames, family)
        try:
            trained, n = fitted.trained_range, video.chunk_frames
            other = fit_policy(asked, n, trained, video.frames, fitted.shots, fitted.ahead)
        except ValueError:
            continue  # it does not fit this model
        planned = plan_memory(other, labels, video.chunks, video.prefix_frames)
        sizes[name] = planned.expected_bytes(frame)
    smaller = {name: sizes[name] for name in sorted(sizes, key=_best_first(fitted, sizes)) if sizes[name] < most}
    return RunCost(fitted.asked.name, video, most, smaller)


def _best_first(fitted: FittedPolicy, sizes: Mapping[str, int]) -> Callable[[str], tuple[bool, int, bool]]:
    """A run that recalls is to go on recalling. Then the more is kept the better, and of equals one that recalls."""
    return lambda name: (
        not (fitted.recalls and PRESETS[name].recalls),
        -sizes[name],
        not PRESETS[name].recalls,
    )


def chunk_bytes(video: VideoShape, ahead: int = 0) -> int:
    """Bytes of the file of one chunk, at most, behind which stand so many noisy frames."""
    return most_bytes(video.chunk_shape, ahead)


def recall_in_words(bound: RecallBound) -> str:
    """The most passes that recalling takes, beside those of the run itself."""
    known = (
        f"Recall: at most {_counted(bound.looks, 'look')} and {_counted(bound.loads, 'chunk')} read again "
        f"({_counted(bound.passes, 'pass', 'es')}, beside {bound.made_anyway})"
    )
    if not bound.views:
        return f"{known}; a live prompt adds up to {bound.a_choice}."
    return (
        f"{known}, and {_counted(bound.views, 'time')} more where the view changes without a new prompt; each of "
        f"those, or a live prompt, adds up to {bound.a_choice}."
    )


def _counted(number: int, word: str, ending: str = "s") -> str:
    return f"{number} {word}{'' if number == 1 else ending}"
