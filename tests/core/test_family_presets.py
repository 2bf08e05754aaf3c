"""What the presets come to with every family (docs/method_decisions.md, presets and families)."""

from dataclasses import replace

import pytest

from benchmarks.counts.memory_of_families import gigabytes
from headforcing_core.families.family import Family, Window
from headforcing_core.families.self_forcing import SELF_FORCING
from headforcing_core.families.table import FAMILIES
from headforcing_core.policy.cache_policy import CachePolicy
from headforcing_core.policy.family_presets import for_family
from headforcing_core.policy.fitting import FittedPolicy, fit_policy
from headforcing_core.policy.head_types import HEAD_TYPES
from headforcing_core.policy.presets import PRESETS

UNTOUCHED = [name for name, each in FAMILIES.items() if (each.trained_frames, each.window) == (21, Window(3, 7))]
OTHERS = [name for name in FAMILIES if name not in UNTOUCHED]


def fitted(preset: str, family: Family, chunk_frames: int, **by_hand: int) -> FittedPolicy:
    """A preset with sizes that are set by hand, met by a family; a video that the range holds."""
    policy = replace(PRESETS[preset].with_sizes(by_hand), by_hand=tuple(by_hand))
    ahead = family.ahead(chunk_frames)
    total = (family.trained_frames - ahead) // chunk_frames * chunk_frames
    asked = for_family(policy, chunk_frames, family)
    return fit_policy(asked, chunk_frames, family.trained_frames, total, ahead=ahead)


def sizes(policy: CachePolicy | FittedPolicy) -> tuple[tuple[int, int, int], ...]:
    """(sink, episodes, recent) of local, anchor and memory heads."""
    tiers = [policy.tiers(head_type) for head_type in HEAD_TYPES]
    return tuple((each.sink, each.episodes, each.recent) for each in tiers)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_preset_fits_every_family_and_tells_heads_apart_as_ever(family: str, preset: str) -> None:
    record = FAMILIES[family]
    policy = fitted(preset, record, record.chunk_frames)
    usual = PRESETS[preset]
    assert policy.asked.needs_profile == usual.needs_profile
    if usual.needs_profile:
        assert sizes(policy)[0][2] >= 1 and policy.anchor.sink >= 1 and policy.memory.episodes >= 1


@pytest.mark.parametrize("family", UNTOUCHED)
def test_the_usual_range_and_window_change_nothing_whatever_the_chunk(family: str) -> None:
    for policy in PRESETS.values():
        for other in (policy, replace(policy, trained_frames=18), replace(policy, by_hand=("memory_sink",))):
            for chunk in (1, 2, 3, 5, 8, 13, 20):
                assert for_family(other, chunk, FAMILIES[family]) is other


@pytest.mark.parametrize("family", OTHERS)
def test_presets_fit_any_chunk_that_is_set_by_hand(family: str) -> None:
    record = FAMILIES[family]
    for chunk in range(1, record.most_chunk_frames + 1):
        for preset, usual in PRESETS.items():
            policy = fitted(preset, record, chunk)
            if not usual.keep_everything:
                assert max(map(sum, sizes(policy))) + chunk + record.ahead(chunk) <= record.trained_frames
                assert policy.memory.episodes % policy.episode_frames == 0


LONGLIVE2, LINGBOT_V2, MEMFLOW = FAMILIES["longlive2"], FAMILIES["lingbot_world_v2"], FAMILIES["memflow"]
TABLE = {
    ("paper", "longlive2"): ((0, 0, 3), (8, 0, 3), (8, 8, 8)),
    ("paper", "lingbot_world_v2"): ((0, 0, 2), (4, 0, 2), (4, 4, 6)),
    ("paper", "memflow"): ((0, 0, 1), (3, 0, 1), (3, 3, 3)),
    ("paper", "self_forcing"): ((0, 0, 1), (3, 0, 1), (3, 6, 6)),
    ("paper", "infinite_forcing"): ((0, 0, 1), (1, 0, 1), (1, 6, 6)),
    ("paper", "aad_1"): ((0, 0, 2), (1, 0, 2), (1, 4, 6)),
    ("paper", "rolling_forcing"): ((0, 0, 1), (3, 0, 1), (0, 3, 3)),
    ("paper", "self_gradient_forcing_framewise"): ((0, 0, 1), (4, 0, 1), (4, 6, 6)),
    ("low_vram", "longlive2"): ((0, 0, 1), (4, 0, 1), (4, 4, 8)),
    ("low_vram", "lingbot_world_v2"): ((0, 0, 1), (4, 0, 1), (4, 2, 4)),
    ("low_vram", "memflow"): ((0, 0, 1), (3, 0, 1), (3, 1, 3)),
    ("low_vram", "rolling_forcing"): ((0, 0, 1), (3, 0, 1), (0, 3, 3)),
    ("recall", "causal_forcing_longvideo"): ((0, 0, 1), (3, 0, 1), (0, 3, 3)),
    ("max", "longlive2"): ((0, 0, 3), (8, 0, 3), (8, 8, 8)),
    ("max", "infinite_forcing"): ((0, 0, 1), (1, 0, 1), (1, 9, 6)),
    ("uniform", "longlive2"): ((8, 0, 16),) * 3,
    ("uniform", "lingbot_world_v2"): ((6, 0, 8),) * 3,
    ("uniform", "rolling_forcing"): ((3, 0, 3),) * 3,
    ("uniform_21", "rolling_forcing"): ((3, 0, 3),) * 3,
    ("uniform", "memflow"): ((3, 0, 6),) * 3,
    ("uniform_21", "longlive2"): ((8, 0, 16),) * 3,
    ("uniform_21", "infinite_forcing"): ((1, 0, 17),) * 3,
}


@pytest.mark.parametrize(("preset", "family"), TABLE)
def test_sizes_are_those_of_the_table(preset: str, family: str) -> None:
    record = FAMILIES[family]
    assert sizes(fitted(preset, record, record.chunk_frames)) == TABLE[preset, family]


@pytest.mark.parametrize("preset", [name for name, policy in PRESETS.items() if not policy.keep_everything])
@pytest.mark.parametrize("chunk_frames", [3, 1])
def test_reckoned_for_the_usual_range_a_preset_is_what_it_is_by_itself(preset: str, chunk_frames: int) -> None:
    nearly = replace(SELF_FORCING, window=Window(3, 7), trained_frames=22)  # reckoned, since the range is another
    asked = replace(PRESETS[preset], trained_frames=21)
    assert for_family(asked, chunk_frames, nearly) == asked


@pytest.mark.parametrize("preset", ["recall", "tiny"])
@pytest.mark.parametrize(("family", "chunks"), [("longlive2", 1), ("memflow", 1), ("lingbot_world", 2), ("aad_1", 1)])
def test_as_many_old_chunks_are_read_as_leave_a_recent_one(preset: str, family: str, chunks: int) -> None:
    policy = fitted(preset, FAMILIES[family], FAMILIES[family].chunk_frames)
    assert policy.episodes == chunks and policy.memory.recent >= FAMILIES[family].chunk_frames


@pytest.mark.parametrize("preset", PRESETS)
def test_frames_are_dropped_from_chunk_1_on_where_the_range_is_longer(preset: str) -> None:
    usual = PRESETS[preset].compress_from_chunk
    early = 1 if preset in ("paper", "enhanced", "max") else usual
    for chunk in (8, 4):
        assert for_family(PRESETS[preset], chunk, LONGLIVE2).compress_from_chunk == early
        assert for_family(replace(PRESETS[preset], trained_frames=21), chunk, LONGLIVE2).compress_from_chunk == usual
    by_hand = replace(PRESETS[preset], compress_from_chunk=2, by_hand=("compress_from_chunk",))
    assert for_family(by_hand, 8, LONGLIVE2).compress_from_chunk == 2
    assert for_family(PRESETS[preset], 4, LINGBOT_V2).compress_from_chunk == usual


@pytest.mark.parametrize(
    ("by_hand", "expected"),
    [
        ({"memory_recent": 6}, (8, 8, 6)),
        ({"memory_sink": 3}, (3, 8, 8)),  # as the preset has it elsewhere
        ({"memory_episodes": 0, "memory_recent": 16}, (8, 0, 16)),
        ({"anchor_sink": 3, "local_recent": 1}, (8, 8, 8)),
    ],
)
def test_what_was_set_by_hand_stays(by_hand: dict[str, int], expected: tuple[int, int, int]) -> None:
    policy = fitted("recall", LONGLIVE2, 8, **by_hand)
    assert sizes(policy)[2] == expected
    assert policy.anchor.sink == by_hand.get("anchor_sink", 8) and policy.local.recent == by_hand.get("local_recent", 3)


def test_a_range_that_is_set_by_hand_is_reckoned_with() -> None:
    wider = for_family(replace(PRESETS["uniform_21"], trained_frames=96), 8, LONGLIVE2)
    assert sizes(wider) == ((8, 0, 80),) * 3
    narrower = for_family(replace(PRESETS["paper"], trained_frames=21), 8, LONGLIVE2)
    assert sizes(narrower)[2] == (8, 0, 5) and fit_policy(narrower, 8, 32, 80).trained_frames == 21


@pytest.mark.parametrize("trained", [1, 7, 8])
def test_a_range_no_longer_than_a_chunk_is_refused_as_ever(trained: int) -> None:
    asked = replace(PRESETS["paper"], trained_frames=trained)
    with pytest.raises(ValueError, match=rf"trained on {trained}\. Raise trained_frames, or use a model"):
        fit_policy(for_family(asked, 8, LONGLIVE2), 8, 32, 80)


@pytest.mark.parametrize(
    ("preset", "change", "memory"),
    [
        ("low_vram", {"episode": "chunk"}, (4, 8, 8)),
        ("low_vram", {"episode": "chunk", "episode_choice": "recall"}, (4, 8, 8)),
        ("paper", {"episode": "frame"}, (8, 8, 8)),
    ],
)
def test_episodes_are_as_was_asked_for(preset: str, change: dict[str, str], memory: tuple[int, int, int]) -> None:
    policy = for_family(replace(PRESETS[preset], **change), 8, LONGLIVE2)  # pyright: ignore[reportArgumentType]
    assert sizes(fit_policy(policy, 8, 32, 80))[2] == memory


def test_a_policy_of_another_name_is_nobodys_preset() -> None:
    mine = replace(PRESETS["paper"], name="mine")
    assert for_family(mine, 8, LONGLIVE2) is mine


@pytest.mark.parametrize(
    ("preset", "family", "size", "most", "later"),
    [
        # frames of a chunk's own and of history times heads times the bytes of one; later by shares of 15, 25, 60 %
        ("uniform", "longlive2", (1280, 704), 12.17, 12.17),
        ("uniform", "longlive2", (832, 480), 5.39, 5.39),
        ("uniform", "memflow", (832, 480), 4.04, 4.04),
        ("uniform", "lingbot_world_v2", (832, 480), 26.96, 26.96),
        ("paper", "lingbot_world_v2", (832, 480), 23.96, 21.27),
        ("low_vram", "self_forcing", (832, 480), 3.22, 3.22),
        ("paper", "self_forcing", (832, 480), 7.08, 4.43),
    ],
)
def test_memory_of_families_is_reckoned_from_their_shapes(
    preset: str, family: str, size: tuple[int, int], most: float, later: float
) -> None:
    assert gigabytes(preset, FAMILIES[family], *size) == pytest.approx((most, later), abs=0.005)
