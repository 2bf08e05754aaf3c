"""A preset meets the family of the model that is there: sizes, report, kept runs, the line on the node, profiles."""

import json
from pathlib import Path

import pytest

from tests.host.conftest import conditioning

RECALL = {"local": (0, 0, 1), "anchor": (3, 0, 1), "memory": (3, 3, 3)}  # in chunks of 3, of 12 frames in all


@pytest.fixture(scope="module")
def memflow(load):
    return load("self_forcing_dmd.safetensors", family="memflow")


@pytest.fixture(scope="module")
def its_labels(pack, memflow):
    return pack.run("HeadForcingProfileHeads", model=memflow, rule="random")[0]


def kept(report: dict) -> dict[str, tuple[int, ...]]:
    return {name: tuple(report["settings"][name].values()) for name in RECALL}


def notes_on_policy(report: dict) -> list[str]:
    return [note for note in report["notes"] if " in chunks of " in note and "(sink, episodes, recent)" in note]


@pytest.mark.parametrize(
    ("by_hand", "memory"),
    [
        ({}, (3, 3, 3)),
        ({"memory_recent": 2}, (3, 3, 2)),
        ({"memory_episodes": 0, "memory_sink": 1, "memory_recent": 6}, (1, 0, 6)),
        ({"trained_frames": 21}, (3, 6, 6)),
    ],
)
def test_a_video_is_made_with_the_familys_sizes_and_says_so(
    pack, memflow, its_labels, video, by_hand: dict[str, int], memory: tuple[int, ...]
) -> None:
    policy = pack.run("HeadForcingCachePolicy", preset="paper", **by_hand)[0]
    report = json.loads(video(memflow, conditioning(1), seconds=1.5, policy=policy, profile=its_labels)[3])
    assert kept(report) == {**RECALL, "memory": memory}
    told = ", ".join(map(str, memory))
    expected = (
        f"paper for memflow in chunks of 3 (sink, episodes, recent): local 0, 0, 1; anchor 3, 0, 1; memory {told}."
    )
    changed = memory not in ((3, 6, 6), (1, 0, 6))
    assert notes_on_policy(report) == [expected] * changed


def test_what_does_not_fit_by_hand_is_refused_by_the_familys_range(pack, memflow, its_labels, video) -> None:
    policy = pack.run("HeadForcingCachePolicy", preset="paper", memory_recent=6)[0]
    with pytest.raises(
        ValueError, match=r"memory heads keep 12 frames \(sink 3, episodes 3, recent 6\).*trained on 12"
    ):
        video(memflow, conditioning(1), seconds=1.5, policy=policy, profile=its_labels)


def test_the_usual_family_is_told_nothing_and_keeps_what_it_kept(pack, model, labelled, video) -> None:
    report = json.loads(video(model, conditioning(1), seconds=1.5, preset="paper", profile=labelled)[3])
    assert kept(report)["memory"] == (3, 6, 6) and notes_on_policy(report) == []


def test_by_hand_are_the_numbers_that_were_set(pack) -> None:
    def by_hand(**given: object) -> tuple[str, ...]:
        return pack.run("HeadForcingCachePolicy", preset="recall", **given)[0].by_hand

    assert by_hand() == by_hand(rope="clamp", novelty_percentile=50.0, trained_frames=18) == ()
    assert by_hand(memory_sink=3, local_recent=1) == ("local_recent", "memory_sink")
    assert by_hand(compress_from_chunk=-1, anchor_recent=2) == ("anchor_recent", "compress_from_chunk")


def test_a_kept_run_records_its_sizes_and_not_who_set_them(pack, memflow, its_labels, video, runs: Path) -> None:
    def make(seconds: float, **by_hand: int) -> dict:
        policy = pack.run("HeadForcingCachePolicy", preset="paper", **by_hand)[0]
        given = {"policy": policy, "profile": its_labels, "run_name": "film"}
        return json.loads(video(memflow, conditioning(1), seconds=seconds, **given)[3])

    make(0.7)
    settings = json.loads((runs / "film" / "run.json").read_bytes())["settings"]
    assert settings["policy_memory"] == {"sink": 3, "episodes": 3, "recent": 3} and settings["trained_frames"] == 12
    assert not {"policy_name", "policy_by_hand"} & set(settings)
    longer = make(1.3, memory_episodes=3, memory_recent=3, anchor_sink=3)  # the same, by hand
    assert len(longer["chunks"]) == 2 and kept(longer) == RECALL


def test_the_line_and_the_advice_reckon_with_the_familys_sizes(pack) -> None:
    widget_cost = pack.module("nodes.web_api.widget_cost")
    facts_for = pack.module("headforcing_core.checkpoint.ar_facts").facts_for
    wanted = widget_cost.SamplerWidgets(20.0, 0.0, 832, 480, "", "resume", "none", 0)

    def parts(family: str, preset: str, **by_hand: int) -> list[str]:
        policy = pack.run("HeadForcingCachePolicy", preset=preset, **by_hand)[0]
        return [part for part, _ in widget_cost.cost_parts(wanted, facts_for("", family, 0, "")[0], policy)]

    # frames of a head are 2 x 128 numbers of 16 bits for each of 1560 tokens, and 22 of 128 once more
    frame = 1560 * 128 * 2 * 2 * (1 + 22 / 128) / 1e9
    assert f"up to {360 * 12 * frame:.1f} GB" in parts("memflow", "paper")[1]
    assert f"up to {360 * 21 * frame:.1f} GB" in parts("self_forcing", "paper")[1]
    # 24 heads, 390 tokens; 108 local, 180 anchor and 432 memory heads with 3, 19 (a pinned
    # chunk of a shot among them) and 24 frames, and a chunk of 8
    longlive2 = 108 * 11 + 180 * 27 + 432 * 32
    assert f"up to {longlive2 * frame / 4:.1f} GB" in parts("longlive2", "paper")[1]
    assert f"up to {720 * 32 * frame / 4:.1f} GB" in parts("longlive2", "paper", compress_from_chunk=-1)[1]
    assert any(part.startswith("recall up to") for part in parts("longlive2", "recall"))
    with pytest.raises(ValueError, match=r"memory heads keep 28 frames.*trained on 32"):
        parts("longlive2", "paper", memory_sink=12)


@pytest.mark.parametrize(
    ("family", "sink"), [("memflow", 3), ("aad_1", 1), ("self_gradient_forcing_framewise", 4), ("self_forcing", 3)]
)
def test_the_familys_own_first_frames_count_as_the_sink_unless_set(pack, load, family: str, sink: int) -> None:
    given = {"model": load("self_forcing_dmd.safetensors", family=family), "rule": "random"}
    for sink_frames, expected in ((0, sink), (2, 2), (3, 3)):
        labelled = pack.run("HeadForcingProfileHeads", **given, sink_frames=sink_frames)[0]
        assert labelled.sink_frames == expected


def test_heads_are_measured_within_the_familys_range(pack, load, clip) -> None:
    schedule = pack.run("HeadForcingPromptSchedule", clip=clip, text="[0s] a red fox in snow")[0]
    model = load("self_forcing_dmd.safetensors", family="aad_1")  # chunks of 4, of which 3 and 4 are watched
    given = {"model": model, "schedule": schedule, "width": 64, "height": 48, "reuse_saved": False}
    profile = pack.run("HeadForcingProfileHeads", **given)[0]
    assert profile.masses is not None and profile.sink_frames == 1
    assert profile.masses[..., :3].sum(dim=-1).allclose(profile.masses.new_ones(()), atol=0.05)


def test_out_of_memory_offers_presets_as_the_family_takes_them(pack) -> None:
    run_cost, families = pack.module("nodes.request.run_cost"), pack.module("headforcing_core.families.table").FAMILIES
    presets = pack.module("headforcing_core.policy.presets").PRESETS
    for_family = pack.module("headforcing_core.policy.family_presets").for_family
    fit_policy = pack.module("headforcing_core.policy.fitting").fit_policy
    plan_memory = pack.module("headforcing_core.rollout.memory_size").plan_memory
    frame = pack.module("headforcing_core.kv_memory.memory_plan").FrameOfHead(1560, 128, 2)
    labels = (("local",) * 2 + ("anchor",) * 3 + ("memory",) * 7,) * 30
    offered = {}
    for name in ("memflow", "lingbot_world_v2", "longlive2", "self_forcing"):
        family = families[name]
        n, trained = family.chunk_frames, family.trained_frames
        video = pack.module("headforcing_core.geometry").VideoShape(20.0, 16.0, 832, 480, n)
        fitted = fit_policy(for_family(presets["paper"], n, family), n, trained, video.frames)
        memory = plan_memory(fitted, labels, video.chunks)
        offered[name] = list(run_cost.run_cost(fitted, memory, True, video, frame, family).smaller)
    early = ["low_vram", "tiny"]  # paper drops from chunk 1 on, as recall
    usual = ["recall", *early]
    assert offered == {"memflow": usual, "lingbot_world_v2": usual, "longlive2": early, "self_forcing": usual}
