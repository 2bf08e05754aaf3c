"""Presets as families take them, with chunks of 3, 4 and 8 frames, give the latents of the naive reference."""

from dataclasses import replace

import pytest
from reference_tiers import Rules, Sizes
from side_by_side import Case, compare, soft

from headforcing_core.families.table import FAMILIES
from headforcing_core.policy.cache_policy import CachePolicy
from headforcing_core.policy.family_presets import for_family
from headforcing_core.policy.presets import PRESETS


def rules_of(policy: CachePolicy) -> Rules:
    """The same for the reference."""
    local, anchor, memory = (
        Sizes(tiers.sink, tiers.episodes, tiers.recent) for tiers in (policy.local, policy.anchor, policy.memory)
    )
    return Rules(
        local,
        anchor,
        memory,
        policy.rope,
        policy.commit_context,
        policy.compress_from_chunk,
        policy.novelty_percentile,
        policy.trained_frames,
        policy.episode,
        policy.episode_choice,
        fills=policy.fills,
    )


@pytest.mark.parametrize(
    ("preset", "family", "chunks", "prefix"),
    [
        ("paper", "longlive2", 24, 0),  # 64 frames pass before an episode is forced
        ("recall", "longlive2", 16, 0),
        ("low_vram", "longlive2", 8, 9),
        ("uniform_21", "longlive2", 6, 0),
        ("recall", "lingbot_world_v2", 16, 1),
        ("low_vram", "lingbot_world_v2", 12, 0),
        ("max", "aad_1", 16, 0),
        ("enhanced", "memflow", 16, 1),
    ],
)
def test_a_familys_preset_gives_the_latents_of_the_reference(
    preset: str, family: str, chunks: int, prefix: int
) -> None:
    record = FAMILIES[family]
    policy = for_family(PRESETS[preset], record.chunk_frames, record)
    policy = replace(policy, trained_frames=record.trained_frames, novelty_percentile=15.0)
    changes = soft(chunks // 2, chunks - 2)
    compare(Case(rules_of(policy), policy, record.chunk_frames, chunks, changes=changes, prefix_frames=prefix))
