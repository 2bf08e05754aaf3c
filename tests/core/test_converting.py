"""Schedules of other tools, converted: the same scenes, at the same times, in the words that were pasted."""

import pytest

from headforcing_core.rollout.transitions import TRANSITIONS
from headforcing_core.schedule.converting import converted, is_convertible
from headforcing_core.schedule.reading import parse_schedule
from headforcing_core.schedule.scenes import ScheduleError
from tests.core.test_text_habits import AS_MEANT, CITY, FOX, ORDINARY, REFUSED, RIVER

FPS = 24.0
MEANT = {  # the scenes of each text of REFUSED that is another tool's
    f'"0": "{FOX}",\n"48": "{RIVER}",\n"96": "{CITY}"': [(0, FOX), (2, RIVER), (4, CITY)],
    f'0: "{FOX}", 24: "{RIVER}"': [(0, FOX), (1, RIVER)],
    f"\u201c0\u201d\uff1a\u201c{FOX}\u201d,\n\u201c16\u201d\uff1a\u201c{RIVER}": [(0, FOX), (0.667, RIVER)],
    f'{{\n "0": "{FOX}",\n "30": "{RIVER} `0.5*t`"\n}}': [(0, FOX), (1.25, f"{RIVER} `0.5*t`")],
    f'(best quality:1.2),\n"0": "{FOX}",\n"12": "{RIVER}"\nsitting': [
        (0, f"(best quality:1.2), {FOX}, sitting"),
        (0.5, f"(best quality:1.2), {RIVER}, sitting"),
    ],
    "0:(0.95), 12:(1.0)": [(0, "0.95"), (0.5, "1.0")],
    f'"0": "(:o:`pw_a`)",\n"23": "(:D:0.6), {FOX}"': [(0, "(:o:`pw_a`)"), (0.958, f"(:D:0.6), {FOX}")],
    f"best quality\n0: {FOX}\n8: {RIVER}\nsnow": [
        (0, f"best quality, {FOX}, snow"),
        (0.333, f"best quality, {RIVER}, snow"),
    ],
    f"0@{FOX}\n10@{RIVER}": [(0, FOX), (0.417, RIVER)],
    '{"prompts": ["a fox", "a river"]}': [(0, "a fox"), (5, "a river")],
    f"0: {FOX}\n8: {RIVER}": [(0, FOX), (0.333, RIVER)],
    f"{FOX} | {RIVER} | {CITY}": [(0, FOX), (5, RIVER), (10, CITY)],
    f"{FOX} |\n{RIVER} |\n{CITY}": [(0, FOX), (5, RIVER), (10, CITY)],
    f"0s: {FOX}\n5s: {RIVER}": [(0, FOX), (5, RIVER)],
    f"0-5s: {FOX}\n5-10s: {RIVER}": [(0, FOX), (5, RIVER)],
    f"0-5: {FOX}\n5-10: {RIVER}": [(0, FOX), (5, RIVER)],
    f"From 0s to 5s: {FOX}\nFrom 5s to 9s: {RIVER}": [(0, FOX), (5, RIVER)],
    f"00:00 {FOX}\n00:05 {RIVER}": [(0, FOX), (5, RIVER)],
    f"0:00 - {FOX}\n1:05 - {RIVER}": [(0, FOX), (65, RIVER)],
    f"(0s) {FOX}\n(5s) {RIVER}": [(0, FOX), (5, RIVER)],
    f"\uff080s\uff09{FOX}\n\uff085s\uff09{RIVER}": [(0, FOX), (5, RIVER)],
    f"- **0s:** {FOX}\n- **5s:** {RIVER}": [(0, FOX), (5, RIVER)],
    f"1\n00:00:00,000 --> 00:00:05,000\n{FOX}\n\n2\n00:00:05,000 --> 00:00:10,000\n{RIVER}": [(0, FOX), (5, RIVER)],
    f"WEBVTT\n\n00:00.000 --> 00:02.500\n{FOX}\n\n00:02.500 --> 00:10.000\n{RIVER}": [(0, FOX), (2.5, RIVER)],
    '{"prompt": "a fox", "seed": 5}': [(0, "a fox")],
}
PARTS_OF = {  # not a whole JSON value; or our own syntax, with something wrong
    text for text in REFUSED if text.startswith(('"class_type"', "[", "#", "My", FOX + "\n[")) and text not in MEANT
}

UNTOLD = (  # of which something would be lost, or made up
    '{"shots": [{"time": "soon", "prompt": "a"}, {"time": "later", "prompt": "b"}]}',
    '{"shots": [{"time": 0, "prompt": "a"}, {"prompt": "b"}]}',
    '{"shots": [{"time": -1, "prompt": "a"}]}',
    '{"shots": [{"prompt": "a", "duration": 3}, {"prompt": "b"}, {"prompt": "c"}]}',
    '{"shots": [{"frame": 0, "prompt": "a"}, {"time": 4, "prompt": "b"}]}',
    '"0": "a fox" at night, "24": "a river"',
    '{"prompts": ' + "[" * 20_000 + "]" * 20_000 + "}",
)
AT_ONE_TIME = (
    '{"shots": [{"time": 5, "prompt": "a"}, {"time": 9, "prompt": "b"}, {"time": 9, "prompt": "c"}]}',
    '{"0": "a", "24": "b", "24": "c"}',
    "1\n00:00:00,000 --> 00:00:05,000\na\n\n2\n00:00:00,000 --> 00:00:10,000\nb",
    '"0": "a", "24": "b", "024": "c"',
)


def scenes(text: str) -> list[tuple[float, str]]:
    """The scenes of a converted text."""
    return [
        (scene.start_second, scene.prompt) for scene in parse_schedule(converted(text, FPS, TRANSITIONS), TRANSITIONS)
    ]


def test_everything_that_is_refused_is_either_converted_or_ours() -> None:
    assert set(MEANT) | PARTS_OF == set(REFUSED) and not set(MEANT) & PARTS_OF


@pytest.mark.parametrize("text", MEANT)
def test_a_schedule_of_another_tool_becomes_what_it_meant(text: str) -> None:
    assert scenes(text) == MEANT[text] and is_convertible(text, TRANSITIONS)


@pytest.mark.parametrize(
    "text", sorted({*PARTS_OF, *AS_MEANT.values(), *ORDINARY, *UNTOLD, "", "{}", '{"seed": [1, {"a": 2}]}'})
)
def test_what_is_no_schedule_of_another_tool_is_left_alone(text: str) -> None:
    with pytest.raises(ScheduleError, match="no schedule of another tool"):
        converted(text, FPS, TRANSITIONS)
    assert not is_convertible(text, TRANSITIONS)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "0s: \u4e00\u53ea\u72d0\u72f8\uff0c\u955c\u5934\uff1a\u7279\u5199\n5s: a \u201cfox\u201d \u2014 \u00bd",
            "[0s] \u4e00\u53ea\u72d0\u72f8\uff0c\u955c\u5934\uff1a\u7279\u5199\n[5s] a \u201cfox\u201d \u2014 \u00bd",
        ),
        ("0s: a {red|blue} fox\r\n5s: \\{x\\}", "[0s] a {red|blue} fox\r\n[5s] \\{x\\}"),
        ("0s: a fox,\nin snow\n5s: a river\n\nat night", "[0s] a fox, in snow\n[5s] a river at night"),
        ("My film\n0s: a fox\n5s: a river", "// My film\n[0s] a fox\n[5s] a river"),
        ('"0": "a \\"big\\" fox",\n"48": "a river\nat night"', '[0s] a "big" fox\n[2s] a river at night'),
        ('{"48": "a river", "0": "a fox"}', "[0s] a fox\n[2s] a river"),
        ('"24": "a fox", "48": "a river"', "[0s] a fox\n[2s] a river"),
        ("1\n00:00:05,500 --> 00:00:09,000\na fox\nin snow\n\n2\n0:09 --> 0:12\n\n3\n0:12 --> 0:15\n3 foxes",
         "[0s] a fox in snow\n[12s] 3 foxes"),
        ('{"shots": [{"time": 0, "prompt": "a"}, {"time": 2.5, "prompt": "b"}]}', "[0s] a\n[2.5s] b"),
        ('{"scenes": [{"frame": 0, "text": "a"}, {"frame": 36, "text": "b"}]}', "[0s] a\n[1.5s] b"),
        ('{"shots": [{"caption": "a"}, {"caption": "b\\nc"}]}', "[0s] a\n[5s] b c"),
        ('[{"time": "0:00", "prompt": "a"}, {"time": "0:12.5", "prompt": "b"}]', "[0s] a\n[12.5s] b"),
        ('{"shots": [{"at": "0-3s", "prompt": "a"}, {"at": "3-8s", "prompt": "b"}]}', "[0s] a\n[3s] b"),
        ('{"shots": [{"text": "a", "duration": 3}, {"text": "b", "duration": 4}, {"text": "c"}]}',
         "[0s] a\n[3s] b\n[7s] c"),
        ('{"shots": [{"prompt": "a"}, {"start": 8, "prompt": "b"}]}', "[0s] a\n[8s] b"),
        ('// shots\n```json\n[\n  "a fox",\n  "a river"\n]\n```', "[0s] a fox\n[5s] a river"),
        ("0: (best:1.2), a fox\n24: [fog|rain], a river", "[0s] (best:1.2), a fox\n[1s] [fog|rain], a river"),
        ('0: "a fox", in snow\n24: "a river"', '[0s] "a fox", in snow\n[1s] "a river"'),
        ("0: 'the fox's den', 24: 'a river'", "[0s] the fox's den\n[1s] a river"),
        ("dusk\n0: a fox\nin snow\n24: a river\nin fog", "[0s] dusk, a fox in snow\n[1s] dusk, a river in fog"),
    ],
)  # fmt: skip
def test_the_words_stay_as_they_are_written(text: str, wanted: str) -> None:
    assert converted(text, FPS, TRANSITIONS) == wanted


@pytest.mark.parametrize("text", AT_ONE_TIME)
def test_of_two_prompts_at_one_time_none_is_left_out(text: str) -> None:
    with pytest.raises(ScheduleError, match="but the scene above it starts at"):
        converted(text, FPS, TRANSITIONS)
    assert not is_convertible(text, TRANSITIONS)


@pytest.mark.parametrize("text", UNTOLD)
def test_what_cannot_be_converted_is_refused_all_the_same(text: str) -> None:
    with pytest.raises(ScheduleError, match="is JSON|counts frames"):
        parse_schedule(text, TRANSITIONS)
