"""Head Cache Policy: what every head type keeps of the past."""

from __future__ import annotations

from dataclasses import replace

from comfy_api.latest import io
from typing_extensions import override

from ..headforcing_core.policy.cache_policy import (
    COMMIT_CONTEXTS,
    EPISODE_CHOICES,
    EPISODES,
    KV_PRECISIONS,
    CachePolicy,
)
from ..headforcing_core.policy.positions import ROPE_MODES
from ..headforcing_core.policy.presets import PRESETS
from .request.policy_report import policy_report
from .sockets import CATEGORY, CachePolicySocket

_PRESET = "preset"
_KEEP = -1
_KEEP_CHUNK = -2
_PERCENTILE = 60.0
DEFAULT_PRESET = "recall"  # of a new node; execute keeps paper, for API workflows that leave the input out


def _tier(name: str, what: str, typical: str) -> io.Int.Input:
    return io.Int.Input(
        name,
        default=_KEEP,
        min=_KEEP,
        max=64,
        optional=True,
        advanced=True,
        tooltip=f"{what} -1 leaves the preset alone. Typical: {typical}",
    )


def _mode(name: str, known: tuple[str, ...], tooltip: str) -> io.Combo.Input:
    return io.Combo.Input(
        name, options=[_PRESET, *known], default=_PRESET, optional=True, advanced=True, tooltip=tooltip
    )


class HeadCachePolicy(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HeadForcingCachePolicy",
            display_name="Head Cache Policy",
            category=CATEGORY,
            description="Chooses how much of the past each kind of attention head keeps: what the video remembers, and "
            "how much memory it takes.",
            search_aliases=["kv cache", "memory", "vram"],
            is_experimental=True,
            inputs=[
                io.Combo.Input(
                    "preset",
                    options=list(PRESETS),
                    default=DEFAULT_PRESET,
                    optional=True,
                    tooltip="paper: three kinds of heads. enhanced: the same, but far memory is not read while a "
                    "chunk is stored. low_vram: little memory, forgets sooner. max: keeps most. recall: as paper, but "
                    "looks at each prompt change which old moments show the place, and brings those back. tiny: as "
                    "recall, in half the memory. uniform, uniform_21 and full treat all heads alike, for comparison. "
                    "Typical: recall",
                ),
                _tier("local_sink", "First frames that local heads keep. More ties detail to the first picture.", "0"),
                _tier(
                    "local_recent",
                    "Newest frames that local heads keep. 0 is refused: the video would jump at every chunk.",
                    "1",
                ),
                _tier(
                    "anchor_sink",
                    "First frames that anchor heads keep. They hold colours and layout in place.",
                    "3",
                ),
                _tier("anchor_recent", "Newest frames that anchor heads keep.", "1"),
                _tier("memory_sink", "First frames that memory heads keep.", "3"),
                _tier(
                    "memory_episodes",
                    "Room, in frames, for what memory heads pick of the past, so that places can come back. Only whole "
                    "episodes are kept: with chunks of 3 frames, a value of 7 keeps no more than 6.",
                    "6",
                ),
                _tier("memory_recent", "Newest frames that memory heads keep.", "6"),
                _mode(
                    "rope",
                    ROPE_MODES,
                    "Where old frames seem to stand in time. absolute is the plain model, which falls apart "
                    "past 5 s. Typical: preset (compact)",
                ),
                _mode(
                    "commit_context",
                    COMMIT_CONTEXTS,
                    "What a finished chunk reads while it is stored: everything, or recent frames alone. "
                    "Typical: preset (full)",
                ),
                io.Int.Input(
                    "compress_from_chunk",
                    default=_KEEP_CHUNK,
                    min=_KEEP_CHUNK,
                    max=1000,
                    optional=True,
                    advanced=True,
                    tooltip="Chunk from which old frames are dropped; before it the video equals the base model's. "
                    "Earlier saves memory. Under recall and tiny, heads that have room still keep all for a while. "
                    "-2 = preset, -1 = as late as the model allows. Typical: -2",
                ),
                io.Float.Input(
                    "novelty_percentile",
                    default=_PERCENTILE,
                    min=0.0,
                    max=100.0,
                    step=1.0,
                    optional=True,
                    advanced=True,
                    tooltip="How unusual a moment must be to be remembered. Higher keeps fewer, more different ones. "
                    "Typical: 60",
                ),
                io.Int.Input(
                    "trained_frames",
                    default=0,
                    min=0,
                    max=1024,
                    optional=True,
                    advanced=True,
                    tooltip="Frames that the model was trained on; what it reads stays within. Typical: 0 = from the "
                    "model (21)",
                ),
                _mode(
                    "episode",
                    EPISODES,
                    "What one episode is. chunk: all frames of a chunk. frame: its middle frame, so that more "
                    "moments fit. Typical: preset (chunk; low_vram: frame)",
                ),
                _mode(
                    "episode_choice",
                    EPISODE_CHOICES,
                    "How memory heads pick old moments. novelty: keeps what was unlike the rest. recall: looks at each "
                    "prompt change which moments show the place that comes now. Typical: preset (novelty; recall: "
                    "recall)",
                ),
                io.Float.Input(
                    "recall_share",
                    default=_KEEP,
                    min=_KEEP,
                    max=0.99,
                    step=0.01,
                    optional=True,
                    advanced=True,
                    tooltip="How alike an old moment must be for recall; of those that are, the newest are read. "
                    "Lower: only the most alike. Higher: newer ones, also of other places. Typical: -1 = from the "
                    "profile (0.2)",
                ),
                _mode(
                    "kv_precision",
                    KV_PRECISIONS,
                    "In how many bits the past is kept. model: as the model computes. int8: 8 bits a number, which "
                    "takes about half the memory of 16, rounds a little and costs a few percent of speed. Typical: "
                    "preset (model; tiny: int8)",
                ),
            ],
            outputs=[
                CachePolicySocket.Output(
                    display_name="policy", tooltip="What each kind of head keeps; for the sampler."
                ),
                io.String.Output(display_name="report", tooltip="The frames that each kind of head keeps, in words."),
            ],
        )

    @classmethod
    @override
    def execute(
        cls,
        preset: str = "paper",
        local_sink: int = _KEEP,
        local_recent: int = _KEEP,
        anchor_sink: int = _KEEP,
        anchor_recent: int = _KEEP,
        memory_sink: int = _KEEP,
        memory_episodes: int = _KEEP,
        memory_recent: int = _KEEP,
        rope: str = _PRESET,
        commit_context: str = _PRESET,
        compress_from_chunk: int = _KEEP_CHUNK,
        novelty_percentile: float = _PERCENTILE,
        trained_frames: int = 0,
        episode: str = _PRESET,
        episode_choice: str = _PRESET,
        recall_share: float = _KEEP,
        kv_precision: str = _PRESET,
    ) -> io.NodeOutput:
        chosen = PRESETS[preset]
        sizes = {
            "local_sink": local_sink,
            "local_recent": local_recent,
            "anchor_sink": anchor_sink,
            "anchor_recent": anchor_recent,
            "memory_sink": memory_sink,
            "memory_episodes": memory_episodes,
            "memory_recent": memory_recent,
        }
        sizes = {name: size for name, size in sizes.items() if size != _KEEP}
        starts = ("compress_from_chunk",) * (compress_from_chunk != _KEEP_CHUNK)
        tiers_changed = bool(sizes or starts) or novelty_percentile != _PERCENTILE
        tiers_changed = tiers_changed or episode != _PRESET or episode_choice != _PRESET or recall_share != _KEEP
        if chosen.keep_everything and tiers_changed:
            raise ValueError(
                f"The preset {preset} keeps every frame, so there are no tiers, episodes or warm-up to change. "
                "One was set. Set those widgets back, or choose another preset."
            )
        if episode_choice == _PRESET:
            episode_choice = chosen.episode_choice
        if episode == _PRESET:  # single frames are not recalled, so that a preset which keeps them takes whole chunks
            episode = "chunk" if episode_choice == "recall" else chosen.episode
        policy = replace(
            chosen.with_sizes(sizes),
            rope=chosen.rope if rope == _PRESET else rope,
            commit_context=chosen.commit_context if commit_context == _PRESET else commit_context,
            compress_from_chunk=compress_from_chunk if starts else chosen.compress_from_chunk,
            novelty_percentile=novelty_percentile,
            trained_frames=trained_frames,
            episode=episode,
            episode_choice=episode_choice,
            recall_share=recall_share,
            kv_precision=chosen.kv_precision if kv_precision == _PRESET else kv_precision,
            by_hand=(*sizes, *starts),
        )
        idle = _idle(policy, novelty_percentile != _PERCENTILE, recall_share != _KEEP)
        return io.NodeOutput(policy, "\n".join([policy_report(policy), *idle]))


def _idle(policy: CachePolicy, has_percentile: bool, has_share: bool) -> list[str]:
    """Sentences on what is set and does nothing."""
    if policy.recalls and not policy.memory.episodes:
        return ["episode_choice is recall, but memory_episodes is 0, so that nothing is recalled."]
    idle = "novelty_percentile" if policy.recalls and has_percentile else ""
    idle = "recall_share" if not policy.recalls and has_share else idle
    return [f"{idle} does nothing, since episode_choice is {policy.episode_choice}."] if idle else []
