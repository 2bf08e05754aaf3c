"""Tier sizes, presets, and what they come to on a model (method.md section 3)."""

import re
from dataclasses import replace

import pytest

from headforcing_core.kv_memory.memory_plan import PRECISIONS
from headforcing_core.policy.cache_policy import KV_PRECISIONS, CachePolicy
from headforcing_core.policy.fitting import fit_policy
from headforcing_core.policy.presets import PRESETS
from headforcing_core.policy.tiers import Tiers, all_frames, kept_frames
from headforcing_core.rollout.memory_size import plan_memory

PAPER = PRESETS["paper"]
ALL_TYPES = [["local", "anchor", "memory"]]


def sizes(policy: CachePolicy) -> dict[str, tuple[int, int, int]]:
    types = {"local": policy.local, "anchor": policy.anchor, "memory": policy.memory}
    return {name: (tiers.sink, tiers.episodes, tiers.recent) for name, tiers in types.items()}


@pytest.mark.parametrize(
    ("name", "local", "anchor", "memory", "commit_context", "compress_from_chunk"),
    [
        ("paper", (0, 0, 1), (3, 0, 1), (3, 6, 6), "full", -1),
        ("enhanced", (0, 0, 1), (3, 0, 1), (3, 6, 6), "recent", -1),
        ("low_vram", (0, 0, 1), (3, 0, 1), (3, 3, 3), "full", 1),
        ("max", (0, 0, 1), (3, 0, 1), (3, 9, 6), "full", -1),
        ("uniform", (3, 0, 7), (3, 0, 7), (3, 0, 7), "full", -1),
        ("uniform_21", (3, 0, 15), (3, 0, 15), (3, 0, 15), "full", -1),
        ("recall", (0, 0, 1), (3, 0, 1), (3, 6, 6), "full", 1),
        ("tiny", (0, 0, 1), (3, 0, 1), (3, 6, 6), "full", 1),
    ],
)
def test_a_preset_has_the_sizes_of_the_table(
    name: str,
    local: tuple[int, int, int],
    anchor: tuple[int, int, int],
    memory: tuple[int, int, int],
    commit_context: str,
    compress_from_chunk: int,
) -> None:
    preset = PRESETS[name]
    assert preset.name == name
    assert sizes(preset) == {"local": local, "anchor": anchor, "memory": memory}
    assert (preset.commit_context, preset.compress_from_chunk) == (commit_context, compress_from_chunk)
    assert (preset.rope, preset.novelty_percentile, preset.keep_everything) == ("compact", 60.0, False)


def test_all_but_low_vram_keep_whole_chunks() -> None:
    assert {name for name, preset in PRESETS.items() if preset.episode == "frame"} == {"low_vram"}


@pytest.mark.parametrize(
    ("episode", "chunk_frames", "asked", "room"),
    [("frame", 3, 7, 7), ("chunk", 3, 7, 6), ("chunk", 3, 3, 3), ("chunk", 1, 7, 7), ("chunk", 3, 0, 0)],
)
def test_room_that_no_whole_episode_would_fill_is_left_out(
    episode: str, chunk_frames: int, asked: int, room: int
) -> None:
    fitted = fit_policy(replace(PAPER, memory=Tiers(3, asked, 6), episode=episode), chunk_frames, 21, 240)
    assert fitted.memory == Tiers(3, room, 6)
    assert plan_memory(fitted, ALL_TYPES, 80).capacity["memory"] == 9 + room


def test_room_for_less_than_a_chunk_is_refused() -> None:
    with pytest.raises(ValueError, match=r"memory_episodes is 2 frames.*chunk of 3\. None.*to 3 or more, or to 0, or"):
        fit_policy(replace(PAPER, memory=Tiers(3, 2, 6)), 3, 21, 240)


@pytest.mark.parametrize(
    ("preset", "asked", "chunk_frames"), [("recall", 2, 3), ("recall", 3, 4), ("paper", 1, 2), ("low_vram", 4, 5)]
)
def test_what_recalls_is_not_told_to_keep_single_frames(preset: str, asked: int, chunk_frames: int) -> None:
    policy = replace(PRESETS[preset], memory=Tiers(3, asked, 3), episode="chunk", episode_choice="recall")
    with pytest.raises(ValueError, match=rf"chunk of {chunk_frames}\. None.*to {chunk_frames} or more, or to 0\.$"):
        fit_policy(policy, chunk_frames, 21, 240)


def test_there_are_nine_presets_in_the_order_of_saved_workflows() -> None:
    names = ["paper", "enhanced", "low_vram", "max", "uniform", "uniform_21", "full", "recall", "tiny"]
    assert list(PRESETS) == names


def test_recall_and_tiny_alone_recall_and_fill() -> None:
    for does in ("recalls", "fills"):
        assert {name for name, preset in PRESETS.items() if getattr(preset, does)} == {"recall", "tiny"}
    start = PRESETS["recall"].compress_from_chunk
    recall = replace(PAPER, name="recall", episode_choice="recall", compress_from_chunk=start, fills=True)
    assert PRESETS["recall"] == recall
    assert PRESETS["tiny"] == replace(recall, name="tiny", kv_precision="int8")


def test_tiny_alone_keeps_fewer_bits() -> None:
    assert KV_PRECISIONS == PRECISIONS
    assert {name for name, preset in PRESETS.items() if preset.kv_precision != "model"} == {"tiny"}
    for name in ("tiny", "recall"):
        fitted = fit_policy(PRESETS[name], 3, 21, 240)
        assert plan_memory(fitted, ALL_TYPES, 80).precision == fitted.kv_precision == PRESETS[name].kv_precision


def test_only_three_presets_need_no_profile() -> None:
    assert {name for name, preset in PRESETS.items() if not preset.needs_profile} == {"uniform", "uniform_21", "full"}


@pytest.mark.parametrize(("head_type", "keys"), [("local", 4), ("anchor", 7), ("memory", 18)])
def test_a_head_sees_as_many_frames_with_a_chunk_of_3_as_the_table_says(head_type: str, keys: int) -> None:
    assert PAPER.tiers(head_type).frames + 3 == keys


def test_uniform_sees_as_much_on_average_as_paper() -> None:
    heads = {"local": 54, "anchor": 90, "memory": 216}
    seen = sum(count * (PAPER.tiers(head_type).frames + 3) for head_type, count in heads.items()) / 360
    assert seen == pytest.approx(13.15, abs=0.005)
    assert PRESETS["uniform"].memory.frames + 3 == 13


@pytest.mark.parametrize(("chunk_frames", "trained", "first"), [(3, 21, 7), (1, 21, 21), (2, 21, 10), (3, 12, 4)])
def test_compression_starts_as_late_as_the_trained_range_allows(chunk_frames: int, trained: int, first: int) -> None:
    policy = replace(PAPER, memory=Tiers(3, 1, 2), episode="frame")
    fitted = fit_policy(policy, chunk_frames, trained, 210)
    assert fitted.compress_from_chunk == first
    assert plan_memory(fitted, ALL_TYPES, 100).warm_up_frames == (first - 1) * chunk_frames
    assert (first - 1) * chunk_frames + chunk_frames <= trained < first * chunk_frames + chunk_frames


def test_the_warm_up_reads_18_frames_at_most() -> None:
    fitted = fit_policy(PAPER, 3, 21, 240)
    assert plan_memory(fitted, ALL_TYPES, 80).warm_up_frames == 18
    assert plan_memory(fitted, ALL_TYPES, 4).warm_up_frames == 9


def test_compression_that_would_start_past_the_trained_range_is_refused() -> None:
    assert fit_policy(replace(PAPER, compress_from_chunk=7), 3, 21, 240).compress_from_chunk == 7
    with pytest.raises(ValueError, match=r"compress_from_chunk is 8.*Use 7 or less"):
        fit_policy(replace(PAPER, compress_from_chunk=8), 3, 21, 240)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"memory": Tiers(3, 13, 6)}, r"memory heads keep 21 frames.*24 frames.*21.*Shrink memory_episodes by 3\."),
        ({"memory": Tiers(3, 3, 15)}, r"memory heads keep 21 frames.*Shrink memory_recent by 3\."),
        ({"anchor": Tiers(19, 0, 1)}, r"anchor heads keep 20 frames.*23 frames.*Shrink anchor_sink by 2\."),
        ({"local": Tiers(0, 0, 19)}, r"local heads keep 19 frames.*Shrink local_recent by 1\."),
    ],
)
def test_a_policy_beyond_the_trained_range_names_the_tier_to_shrink(change: dict[str, Tiers], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_policy(replace(PAPER, **change), 3, 21, 240)


@pytest.mark.parametrize("episode", ["chunk", "frame"])
@pytest.mark.parametrize("chunk_frames", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("trained", [10, 14, 21])
def test_what_the_error_says_makes_a_policy_fit(trained: int, chunk_frames: int, episode: str) -> None:
    policy = replace(PAPER, memory=Tiers(4, 7, 9), episode=episode)
    for _ in range(4):  # an error names one head type
        try:
            fit_policy(policy, chunk_frames, trained, 240)
        except ValueError as error:
            assert "Shrink" in str(error)
            for head_type, tier, frames in re.findall(r"(local|anchor|memory)_(\w+) by (\d+)", str(error)):
                tiers = policy.whole_tiers(head_type, chunk_frames)
                smaller = replace(tiers, **{tier: getattr(tiers, tier) - int(frames)})
                policy = replace(policy, **{head_type: smaller})
        else:
            return
    raise AssertionError(f"{policy} still does not fit")


def test_a_policy_may_fill_the_trained_range_exactly() -> None:
    fitted = fit_policy(replace(PAPER, memory=Tiers(3, 9, 6)), 3, 21, 240)
    assert fitted.memory.frames + 3 == 21


def test_the_same_policy_can_fit_one_chunk_length_and_not_another() -> None:
    policy = replace(PAPER, memory=Tiers(3, 9, 8))
    fit_policy(policy, 1, 21, 240)
    with pytest.raises(ValueError, match="Shrink memory_episodes by 3"):
        fit_policy(policy, 3, 21, 240)


def test_a_policy_may_set_its_own_trained_range() -> None:
    assert fit_policy(replace(PAPER, trained_frames=24), 3, 21, 240).trained_frames == 24
    assert fit_policy(PAPER, 3, 21, 240).trained_frames == 21
    with pytest.raises(ValueError, match="trained on 15"):
        fit_policy(replace(PAPER, trained_frames=15), 3, 21, 240)


def test_full_is_sized_from_the_length() -> None:
    fitted = fit_policy(PRESETS["full"], 3, 21, 21)
    assert plan_memory(fitted, ALL_TYPES, 7).capacity == {"local": 21, "anchor": 21, "memory": 21}


@pytest.mark.parametrize("rope", ["compact", "clamp", "tied"])
def test_full_beyond_the_trained_range_is_refused_unless_absolute(rope: str) -> None:
    fit_policy(replace(PRESETS["full"], rope=rope), 3, 21, 21)
    with pytest.raises(ValueError, match=r"full keeps all 24 frames.*21.*absolute"):
        fit_policy(replace(PRESETS["full"], rope=rope), 3, 21, 24)
    assert fit_policy(replace(PRESETS["full"], rope="absolute"), 3, 21, 240).memory.frames == 240


def test_capacities_name_only_the_types_that_occur() -> None:
    fitted = fit_policy(PAPER, 3, 21, 240)
    planned = plan_memory(fitted, [["memory", "local"], ["local", "local"]], 80)
    assert planned.capacity == {"local": 1, "memory": 15}


@pytest.mark.parametrize("tiers", [(-1, 0, 1), (0, -1, 1), (0, 0, 0)])
def test_impossible_tiers_are_refused(tiers: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"memory_(sink is -1|episodes is -1|recent is 0) frames"):
        replace(PRESETS["paper"], memory=Tiers(*tiers))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rope": "spiral"}, "rope is 'spiral'.*compact, clamp, tied, absolute"),
        ({"commit_context": "none"}, "commit_context is 'none'.*full, recent"),
        ({"episode": "scene"}, "episode is 'scene'.*frame, chunk"),
        ({"compress_from_chunk": -2}, "compress_from_chunk is -2"),
        ({"kv_precision": "int4"}, "kv_precision is 'int4'. Known are model, int8"),
        ({"novelty_percentile": 101.0}, "novelty_percentile is 101"),
    ],
)
def test_an_unknown_mode_or_number_is_refused_with_what_is_known(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(PAPER, **change)


def test_a_short_history_is_recent_before_it_is_sink() -> None:
    tiers = Tiers(3, 6, 6)
    assert [kept_frames(tiers, 6, []).tier(frame) for frame in range(6)] == ["recent"] * 6
    kept = kept_frames(tiers, 8, [])
    assert [kept.tier(frame) for frame in kept.frames] == ["sink"] * 2 + ["recent"] * 6
    kept = kept_frames(tiers, 12, [4])
    assert kept.frames == (0, 1, 2, 4, 6, 7, 8, 9, 10, 11)
    assert [kept.tier(frame) for frame in kept.frames] == ["sink"] * 3 + ["episode"] + ["recent"] * 6


def test_every_frame_counts_as_recent_in_warm_up() -> None:
    kept = all_frames(18)
    assert kept.frames == tuple(range(18))
    assert {kept.tier(frame) for frame in kept.frames} == {"recent"}


IN_0_1_0 = {
    # local, anchor, memory; commit context, compressed from chunk, episode, whether everything is kept
    "paper": (Tiers(0, 0, 1), Tiers(3, 0, 1), Tiers(3, 6, 6), "full", -1, "chunk", False),
    "enhanced": (Tiers(0, 0, 1), Tiers(3, 0, 1), Tiers(3, 6, 6), "recent", -1, "chunk", False),
    "low_vram": (Tiers(0, 0, 1), Tiers(3, 0, 1), Tiers(3, 3, 3), "full", 1, "frame", False),
    "max": (Tiers(0, 0, 1), Tiers(3, 0, 1), Tiers(3, 9, 6), "full", -1, "chunk", False),
    "uniform": (Tiers(3, 0, 7), Tiers(3, 0, 7), Tiers(3, 0, 7), "full", -1, "chunk", False),
    "uniform_21": (Tiers(3, 0, 15), Tiers(3, 0, 15), Tiers(3, 0, 15), "full", -1, "chunk", False),
    "full": (Tiers(0, 0, 21), Tiers(0, 0, 21), Tiers(0, 0, 21), "full", -1, "chunk", True),
}


@pytest.mark.parametrize("name", IN_0_1_0)
def test_what_a_preset_of_0_1_0_means_never_changes(name: str) -> None:
    local, anchor, memory, context, start, episode, everything = IN_0_1_0[name]
    policy = CachePolicy(
        name, local, anchor, memory, "compact", context, start, 60.0, 0, everything, episode, "novelty"
    )
    assert policy == PRESETS[name]
    if not everything:
        first = [fit_policy(policy, chunk, 21, 240).compress_from_chunk for chunk in (3, 1)]
        assert first == ([1, 1] if start == 1 else [7, 21])
