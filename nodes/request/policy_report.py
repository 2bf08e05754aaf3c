"""What a policy keeps, in words, before it has met a model."""

from __future__ import annotations

from ...headforcing_core.checkpoint.wan_weights import HEAD_DIM
from ...headforcing_core.geometry import latent_size, tokens_per_frame
from ...headforcing_core.kv_memory.memory_plan import FrameOfHead
from ...headforcing_core.policy.cache_policy import CachePolicy
from ...headforcing_core.policy.head_types import HEAD_TYPES

# the model of the report: Wan 2.1 1.3B at 832 x 480, 16 bit, heads as the paper's rule counts them, chunk 3
_REPORT_HEADS = {"local": 54, "anchor": 90, "memory": 216}
_REPORT_CHUNK, _REPORT_WINDOW, _REPORT_SIZE, _REPORT_BYTES = 3, 21, (832, 480), 2


def policy_report(policy: CachePolicy) -> str:
    """What a policy keeps, and what that takes of the usual model."""
    kept = "" if policy.kv_precision == "model" else f" in {policy.kv_precision}"
    if policy.keep_everything:
        return f"{policy.name}: every head keeps every frame{kept}. Memory and time grow with the video."
    frame_of_head = FrameOfHead(tokens_per_frame(*latent_size(*_REPORT_SIZE)), HEAD_DIM, _REPORT_BYTES)
    frame_head_bytes = frame_of_head.kv_bytes(policy.kv_precision)
    modes = f"rope {policy.rope}, commit context {policy.commit_context}, episode {policy.episode}"
    if policy.memory.episodes:
        modes += f", chosen by {policy.episode_choice}"
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
        f"Wan 2.1 1.3B at {_REPORT_SIZE[0]} x {_REPORT_SIZE[1]}, 16 bit: history {history / 1e9:.2f} GB{kept} "
        f"whatever the length; {share:.3f} of the attention work of a {_REPORT_WINDOW}-frame window. The sampler's "
        "report has the real figures."
    )
    return "\n".join(lines)
