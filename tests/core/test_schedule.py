"""The grammar of the schedule text, its errors, and where scenes begin."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headforcing_core.geometry import chunk_start_second, nearest_chunk
from headforcing_core.rollout.transitions import TRANSITIONS
from headforcing_core.schedule.reading import MOST_SOFT_CHUNKS, parse_schedule
from headforcing_core.schedule.scenes import Scene, ScheduleError, place_scenes, write_schedule

BAD = {
    "": "The schedule is empty",
    " \n ": "The schedule is empty",
    "a fox\n[0s] b": "Schedule line 1 has text before the first scene, which begins at 0: 'a fox'. Write it like: // a "
    "fox; or put it behind [0s]",
    "[5s] a": "line 1 starts the first scene at 5 s, not at 0: '[5s] a'. Write it like: [0s] a",
    "[0s] a\n[0s] b": "line 2 starts at 0 s, but the scene above it starts at 0 s",
    "[0s] a\n[9s] b\n[7s] c": "line 3 starts at 7 s, but the scene above it starts at 9 s",
    "[0-12s] a\n[10s] b": "line 2 starts at 10 s, but the scene above it ends at 12 s: '[10s] b'. Write it like: "
    "[12s] b",
    "[0-12s] a\n[14s] b": "line 2 starts at 14 s, but the scene above it ends at 12 s",
    "[0s] a\n[9-9s] b": "line 2 ends at 9 s, not after its start",
    "[0s] a\n[wide shot] b": "line 2 begins with [wide shot], which is not a time",
    "[0s] a\n[12] b": "line 2 begins with [12], which is not a time",
    "[0s] a\n[1:75] b": "line 2 begins with [1:75], which is not a time",
    "[-1s] a": "line 1 begins with [-1s], which is not a time",
    "[0s] a\n[12s fade] b": "line 2 names the transition 'fade'; known are recache, flush, soft, cut, shot",
    "[0s] a\n[12-20s fade] b": "soft, cut, shot: '[12-20s fade] b'. Write it like: [12-20s cut] b",
    "[0s] a\n[12s cut 6] b": "line 2 gives cut a number of chunks; only soft fades over chunks: '[12s cut 6] b'. "
    "Write it like: [12s cut] b",
    "[0s] a\n[12-20s soft 0] b": "line 2 fades over 0 chunks; soft takes 1 to 64: '[12-20s soft 0] b'. Write it like: "
    "[12-20s soft 4] b",
    "[0s] a\n[12s soft 65] b": "line 2 fades over 65 chunks; soft takes 1 to 64",
    "[0s] a\n[12s soft six] b": "line 2 begins with [12s soft six], which is not a time",
    "[0s] a\n[12s 6] b": "line 2 begins with [12s 6], which is not a time",
    "[0s] a\n[12s soft 1234567] b": "line 2 begins with [12s soft 1234567], which is not a time",
    "[0s a": "line 1 opens a scene with [ but never closes it",
    "[0s]\n[3s] b": "line 1 has no prompt",
    "[0s] a\n\n[3s]\n   \n": "line 3 has no prompt",
}


def test_text_without_a_header_is_one_scene() -> None:
    (scene,) = parse_schedule("a red fox\n  in deep snow ", TRANSITIONS)
    assert (scene.start_second, scene.prompt, scene.transition, scene.line) == (0.0, "a red fox in deep snow", None, 0)


def test_a_shot_is_a_word_as_the_others() -> None:
    scenes = parse_schedule("[0s] a\n[12s shot] b\n[20-30s SHOT] c", TRANSITIONS)
    assert [scene.transition for scene in scenes] == [None, "shot", "shot"]
    with pytest.raises(ScheduleError, match="gives shot a number of chunks; only soft fades"):
        parse_schedule("[0s] a\n[12s shot 2] b", TRANSITIONS)


def test_scenes_have_times_prompts_over_lines_and_transitions() -> None:
    scenes = parse_schedule(
        "[0s] a red fox\nin snow\n\n[12.5s] a river\n  [0:30 cut] a city\n[1:05.5 soft] rain", TRANSITIONS
    )
    assert [(s.start_second, s.prompt, s.transition, s.line) for s in scenes] == [
        (0.0, "a red fox in snow", None, 1),
        (12.5, "a river", None, 4),
        (30.0, "a city", "cut", 5),
        (65.5, "rain", "soft", 6),
    ]


def test_a_soft_scene_may_say_over_how_many_chunks_it_fades() -> None:
    scenes = parse_schedule("[0s soft 2] a\n[9s soft] b\n[12s SOFT  6] c\n[15-20s soft 64] d", TRANSITIONS)
    assert [(s.transition, s.soft_chunks) for s in scenes] == [("soft", 2), ("soft", None), ("soft", 6), ("soft", 64)]


def test_ranges_may_be_written_and_must_meet() -> None:
    scenes = parse_schedule("[0-12s] a\n[12s-0:20 flush] b\n[20s] c", TRANSITIONS)
    assert [(s.start_second, s.end_second) for s in scenes] == [(0, 12), (12, 20), (20, None)]


@pytest.mark.parametrize("text", BAD)
def test_an_error_names_the_line_shows_it_and_shows_a_right_one(text: str) -> None:
    with pytest.raises(ValueError) as error:
        parse_schedule(text, TRANSITIONS)
    assert BAD[text] in str(error.value)
    assert "Write" in str(error.value) and len(str(error.value)) < 400


@settings(derandomize=True, deadline=None, max_examples=400)
@given(st.text(alphabet="[]0123456789:.-s cutsoftfadex\n\t", max_size=80) | st.text(max_size=60))
def test_any_text_is_read_or_refused_with_a_sentence(text: str) -> None:
    try:
        scenes = parse_schedule(text, TRANSITIONS)
    except ValueError as error:
        assert str(error)
    else:
        assert scenes[0].start_second == 0 and all(scene.prompt for scene in scenes)


@settings(derandomize=True, deadline=None)
@given(
    st.lists(st.integers(1, 9999), unique=True, max_size=6),
    st.integers(1, 12),
    st.floats(1, 120),
    st.integers(1, MOST_SOFT_CHUNKS),
)
def test_a_written_schedule_is_read_as_the_scenes_that_it_was_written_from(
    chunks: list[int], chunk_frames: int, fps: float, soft_chunks: int
) -> None:
    wanted = [
        Scene(
            chunk_start_second(chunk, chunk_frames, fps),
            None,
            f"[prompt] {i}: 50% (more)",
            [*TRANSITIONS][i % 4],
            soft_chunks=soft_chunks if [*TRANSITIONS][i % 4] == "soft" else None,
        )
        for i, chunk in enumerate((0, *sorted(chunks)))
    ]
    scenes = parse_schedule(write_schedule(wanted), TRANSITIONS)
    assert [nearest_chunk(scene.start_second, chunk_frames, fps) for scene in scenes] == [0, *sorted(chunks)]
    assert [scene.prompt for scene in scenes] == [scene.prompt for scene in wanted]
    assert [(scene.transition, scene.soft_chunks) for scene in scenes] == [
        (None, None),
        *((scene.transition, scene.soft_chunks) for scene in wanted[1:]),
    ]


def test_scenes_begin_at_the_nearest_chunk() -> None:
    assert nearest_chunk(12.0, 3, 16.0) == 16 and chunk_start_second(16, 3, 16.0) == 11.8125
    assert [nearest_chunk(second, 3, 16.0) for second in (0.0, 0.2, 0.3, 0.6, 1.0)] == [0, 0, 1, 1, 2]


@settings(derandomize=True, deadline=None)
@given(st.floats(0, 3600), st.integers(1, 12), st.floats(1, 60), st.integers(0, 30))
def test_no_other_chunk_lies_nearer(second: float, chunk_frames: int, fps: float, prefix: int) -> None:
    chunk = nearest_chunk(second, chunk_frames, fps, prefix)
    nearest = abs(chunk_start_second(chunk, chunk_frames, fps, prefix) - second)
    for other in range(max(0, chunk - 2), chunk + 3):
        assert nearest <= abs(chunk_start_second(other, chunk_frames, fps, prefix) - second)


def test_moved_scenes_and_scenes_after_the_end_are_noted() -> None:
    scenes = parse_schedule("[0s] a\n[1s] b\n[9s] c", TRANSITIONS)
    placed, notes = place_scenes(scenes, 4, lambda chunk: chunk_start_second(chunk, 3, 16.0), [0, 1, 12])
    assert placed == tuple(zip([0, 1], scenes[:2], strict=True))
    assert notes == (
        "The scene at 1 s begins at 0.56 s (chunk 1).",
        "The scene at 9 s begins after the end of the video and is not shown.",
    )
