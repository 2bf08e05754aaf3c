"""Head Cache Policy: what every head type keeps of the past."""

from __future__ import annotations

from dataclasses import replace

from comfy_api.latest import io
from typing_extensions import override

from ..headforcing_core.checkpoint.wan_weights import HEAD_DIM
from ..headforcing_core.geometry import latent_size, tokens_per_frame
from ..headforcing_core.policy.cache_policy import COMMIT_CONTEXTS, EPISODES, CachePolicy
from ..headforcing_core.policy.head_types import HEAD_TYPES
from ..headforcing_core.policy.positions import ROPE_MODES
from ..headforcing_core.policy.presets import PRESETS
from ..headforcing_core.policy.tiers import Tiers
from .inputs import DEFAULT_HEIGHT, DEFAULT_WIDTH
from .sockets import CATEGORY, CachePolicySocket

_PRESET = "preset"
_KEEP = -1
_KEEP_CHUNK = -2
_PERCENTILE = 60.0
# the model of the report: Wan 2.1 1.3B at 832 x 480, 16 bit, heads as the paper's rule counts them, chunk 3
_REPORT_HEADS = {"local": 54, "anchor": 90, "memory": 216}
_REPORT_CHUNK, _REPORT_WINDOW, _REPORT_SIZE, _REPORT_BYTES = 3, 21, (DEFAULT_WIDTH, DEFAULT_HEIGHT), 2


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
                    default="paper",
                    optional=True,
                    tooltip="paper: three kinds of heads. enhanced: the same, but far memory is not read while a "
                    "chunk is stored. low_vram: least memory, forgets sooner. max: keeps most. uniform, "
                    "uniform_21 and full treat all heads alike, for comparison. Typical: paper",
                ),
                _tier(
                    "local_sink",
                    "First frames that local heads keep. More ties detail to the first picture.",
                    "0",
                ),
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
                    "Earlier saves memory. -2 = preset, -1 = as late as the model allows. Typical: -2",
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
    ) -> io.NodeOutput:
        chosen = PRESETS[preset]
        tiers_changed = any(
            size != _KEEP
            for size in (
                local_sink,
                local_recent,
                anchor_sink,
                anchor_recent,
                memory_sink,
                memory_episodes,
                memory_recent,
            )
        )
        tiers_changed = tiers_changed or compress_from_chunk != _KEEP_CHUNK or novelty_percentile != _PERCENTILE
        tiers_changed = tiers_changed or episode != _PRESET
        if chosen.keep_everything and tiers_changed:
            raise ValueError(
                f"The preset {preset} keeps every frame, so there are no tiers, episodes or warm-up to change. "
                "One was set. Set those widgets back, or choose another preset."
            )
        policy = replace(
            chosen,
            local=_changed(chosen.local, local_sink, _KEEP, local_recent),
            anchor=_changed(chosen.anchor, anchor_sink, _KEEP, anchor_recent),
            memory=_changed(chosen.memory, memory_sink, memory_episodes, memory_recent),
            rope=chosen.rope if rope == _PRESET else rope,
            commit_context=chosen.commit_context if commit_context == _PRESET else commit_context,
            compress_from_chunk=chosen.compress_from_chunk
            if compress_from_chunk == _KEEP_CHUNK
            else compress_from_chunk,
            novelty_percentile=novelty_percentile,
            trained_frames=trained_frames,
            episode=chosen.episode if episode == _PRESET else episode,
        )
        return io.NodeOutput(policy, _report(policy))


def _changed(tiers: Tiers, sink: int, episodes: int, recent: int) -> Tiers:
    return Tiers(
        *(
            old if new == _KEEP else new
            for old, new in ((tiers.sink, sink), (tiers.episodes, episodes), (tiers.recent, recent))
        )
    )


def _report(policy: CachePolicy) -> str:
    if policy.keep_everything:
        return f"{policy.name}: every head keeps every frame. Memory and time grow with the video."
    frame_head_bytes = 2 * tokens_per_frame(*latent_size(*_REPORT_SIZE)) * HEAD_DIM * _REPORT_BYTES
    modes = f"rope {policy.rope}, commit context {policy.commit_context}, episode {policy.episode}"
    lines, history, attended = [f"{policy.name}: {modes}"], 0, 0
    for head_type in HEAD_TYPES:
        tiers, heads = policy.whole_tiers(head_type, _REPORT_CHUNK), _REPORT_HEADS[head_type]
        history += heads * tiers.frames * frame_head_bytes
        attended += heads * (tiers.frames + _REPORT_CHUNK)
        lines.append(
            f"{head_type}: sink {tiers.sink}, episodes {tiers.episodes}, recent {tiers.recent}; reads "
            f"{tiers.frames + _REPORT_CHUNK} frames with a chunk of {_REPORT_CHUNK}"
        )
    share = attended / (sum(_REPORT_HEADS.values()) * _REPORT_WINDOW)
    lines.append(
        f"Wan 2.1 1.3B at {_REPORT_SIZE[0]} x {_REPORT_SIZE[1]}, 16 bit: history {history / 1e9:.2f} GB whatever "
        f"the length; {share:.3f} of the attention work of a {_REPORT_WINDOW}-frame window. The sampler's report "
        "has the real figures."
    )
    return "\n".join(lines)
