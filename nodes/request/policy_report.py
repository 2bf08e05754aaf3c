"""What a policy keeps, in words, before it has met a model."""

from __future__ import annotations

from ...headforcing_core.checkpoint.wan_weights import HEAD_DIM
from ...headforcing_core.families.self_forcing import SELF_FORCING
from ...headforcing_core.geometry import latent_size, tokens_per_frame
from ...headforcing_core.kv_memory.memory_plan import FrameOfHead
from ...headforcing_core.policy.cache_policy import CachePolicy
from ...headforcing_core.policy.head_types import HEAD_TYPES

# the model of the report, which the node does not know: the usual family, 16 bit, heads as the paper's rule counts them
_REPORT_HEADS = {"local": 54, "anchor": 90, "memory": 216}
_REPORT_CHUNK, _REPORT_WINDOW = SELF_FORCING.chunk_frames, SELF_FORCING.trained_frames
_REPORT_SIZE, _REPORT_BYTES = (832, 480), 2


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
        f"{SELF_FORCING.size.name} at {_REPORT_SIZE[0]} x {_REPORT_SIZE[1]}, 16 bit: history {history / 1e9:.2f} GB"
        f"{kept} whatever the length; {share:.3f} of the attention work of a {_REPORT_WINDOW}-frame window. "
        "The sampler's report has the real figures."
    )
    return "\n".join(lines)


def told_of_family(asked: CachePolicy, policy: CachePolicy, chunk_frames: int, family: str) -> tuple[str, ...]:
    """A sentence on the sizes that a family gave a policy, if it gave any."""
    if policy == asked:
        return ()
    sizes = {name: policy.whole_tiers(name, chunk_frames) for name in HEAD_TYPES}
    kept = "; ".join(f"{name} {tiers.sink}, {tiers.episodes}, {tiers.recent}" for name, tiers in sizes.items())
    early = policy.compress_from_chunk != asked.compress_from_chunk
    drops = f"; old frames are dropped from chunk {policy.compress_from_chunk} on" if early else ""
    nothing = policy.recalls and asked.memory.episodes and not policy.memory.episodes
    recalls = "; nothing is recalled, since no whole chunk fits beside a recent one" if nothing else ""
    named = f"{policy.name} for {family} in chunks of {chunk_frames}"
    return (f"{named} (sink, episodes, recent): {kept}{drops}{recalls}.",)
