"""The pack's own routes on the host's server: what they answer, and what they turn away."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping

import pytest

from headforcing_core.farm.loopback import request
from headforcing_core.farm.process import Server

QUESTION = {
    "text": "[0s] a red fox\n[12s cut] a river\n[40s] a city",
    "is_drawn": True,
    "transition": "recache",
    "seconds": 20.0,
    "fps": 16.0,
    "beginning": "none",
    "model_name": "self_forcing_dmd.pt",
    "family": "auto",
    "chunk_frames": 0,
}
BEYOND_BOUNDS = {
    "a field is missing": {name: value for name, value in QUESTION.items() if name != "fps"},
    "a field is unknown": {**QUESTION, "path": "/etc/passwd"},
    "a text is a number": {**QUESTION, "text": 3},
    "a transition is unknown": {**QUESTION, "transition": "fade"},
    "a length is a word": {**QUESTION, "seconds": "20"},
    "a length is not positive": {**QUESTION, "seconds": 0},
    "a length is beyond ten hours": {**QUESTION, "seconds": 36001},
    "a flag is a number": {**QUESTION, "is_drawn": 1},
    "a rate is true": {**QUESTION, "fps": True},
    "a rate is below zero": {**QUESTION, "fps": -1},
    "a family is unknown": {**QUESTION, "family": "vace"},
    "a chunk is longer than what any family was trained on": {**QUESTION, "chunk_frames": 32},
    "it is a list": [QUESTION],
}
BODIES = {
    "nothing": b"",
    "not JSON": b"{",
    "not UTF-8": b'{"text": "\xff"}',
    "a name twice": b'{"text": "", "text": ""}',
    "nested deeply": b"[" * 60_000,
    "more than 64 KiB": json.dumps({**QUESTION, "text": "x" * 65_536}).encode(),
}


def ask(server: Server, question: object, **changes: object) -> Mapping[str, object]:
    """What the schedule route answers."""
    if changes:
        question = {**QUESTION, **changes}
    return json.loads(request(f"{server.url}/head_forcing/schedule", question))


def refused(server: Server, body: bytes, content_type: str = "application/json", **headers: str) -> tuple[int, str]:
    """The status and the sentence with which a request is turned away."""
    question = urllib.request.Request(
        f"{server.url}/head_forcing/schedule", body, {"Content-Type": content_type, **headers}
    )
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(question, timeout=10)
    answer = refusal.value.read()
    return refusal.value.code, json.loads(answer)["error"] if answer else ""


def test_the_schedule_route_tells_where_scenes_fall(comfyui: Server) -> None:
    answer = ask(comfyui, QUESTION)
    assert answer == {
        "scenes": [
            scene(1, 0.0, 0.0, 0, None, "a red fox"),
            scene(2, 12.0, 11.8125, 16, "cut", "a river"),
            scene(3, 40.0, 40.3125, 54, "recache", "a city"),
        ],
        "chunk_frames": 3,
        "fps": 16,
        "chunk_starts": [0.5625, 1.3125],
        "chunks": 27,
        "end_second": 20.0,
        "notes": [
            "The scene at 12 s begins at 11.81 s (chunk 16).",
            "The scene at 40 s begins after the end of the video and is not shown.",
        ],
        "habits": [],
    }


def test_the_schedule_route_tells_over_how_many_chunks_a_scene_fades_if_the_text_does(comfyui: Server) -> None:
    answer = ask(comfyui, QUESTION, text="[0s soft 2] a\n[12s soft 6] b\n[40s] c", transition="soft")
    assert answer["scenes"] == [
        scene(1, 0.0, 0.0, 0, None, "a"),
        scene(2, 12.0, 11.8125, 16, "soft", "b", soft_chunks=6),
        scene(3, 40.0, 40.3125, 54, "soft", "c"),
    ]


@pytest.mark.parametrize(
    ("text", "is_drawn", "told"),
    [
        ("[0s] a {red|blue} fox", True, "{red|blue} is drawn when you press Run."),
        ("[0s] a {red|blue} fox", False, "The scene at 0 s: '{red|blue}' is read as it stands."),
        ("// film\n[0s] a fox // <lora:x:1>\n__hat__", True, "The scene at 0 s: '__hat__' is read as it stands"),
    ],
)
def test_habits_are_told_beside_the_scenes(comfyui: Server, text: str, is_drawn: bool, told: str) -> None:
    (habit,) = ask(comfyui, QUESTION, text=text, is_drawn=is_drawn)["habits"]
    assert habit.startswith(told)


def test_a_choice_that_decides_about_times_is_told_in_place_of_scenes(comfyui: Server) -> None:
    text = "[0s] a fox\n[{5|8}s] a river"
    assert ask(comfyui, QUESTION, text=text) == {"drawn": "{5|8}"}
    assert ask(comfyui, QUESTION, text=text, is_drawn=False)["error"]["line"] == 2


def test_the_chunk_is_that_of_the_loader(comfyui: Server) -> None:
    named = {"model_name": "causal_forcing-framewise.safetensors"}
    assert ask(comfyui, QUESTION, **named)["chunk_frames"] == 1
    assert ask(comfyui, QUESTION, **named, chunk_frames=4)["chunk_frames"] == 4
    assert ask(comfyui, QUESTION, **named, family="longlive")["chunk_frames"] == 3
    assert ask(comfyui, QUESTION, model_name="")["chunk_frames"] == 3


@pytest.mark.parametrize(
    ("family", "chunk_frames", "most"),
    [("auto", 21, 20), ("memflow", 12, 11), ("lingbot_world_v2", 18, 17), ("longlive", 31, 20)],
)
def test_a_chunk_that_only_another_family_can_be_given_is_told_in_the_words_of_the_loader(
    comfyui: Server, family: str, chunk_frames: int, most: int
) -> None:
    told = ask(comfyui, QUESTION, family=family, chunk_frames=chunk_frames)["error"]
    assert told["line"] == 0 and told["message"].startswith(f"chunk_frames is {chunk_frames}. A chunk and its history")
    assert f"Use 1 to {most};" in told["message"]
    assert ask(comfyui, QUESTION, family="longlive2", chunk_frames=31)["chunk_frames"] == 31


def test_without_a_length_no_scene_is_too_late(comfyui: Server) -> None:
    answer = ask(comfyui, QUESTION, seconds=None)
    assert (answer["end_second"], answer["chunks"], len(answer["notes"])) == (None, None, 2)
    assert not any("after the end" in note for note in answer["notes"])


@pytest.mark.parametrize(("beginning", "end"), [("start_image", 19.9375), ("previous", 20.0)])
def test_times_are_counted_from_the_end_of_what_a_video_goes_on_from(
    comfyui: Server, beginning: str, end: float
) -> None:
    answer = ask(comfyui, QUESTION, beginning=beginning)
    assert [scene["start_second"] for scene in answer["scenes"]] == [0.0, 12.0, 39.75]
    assert (answer["end_second"], answer["chunk_starts"]) == (end, [0.75, 1.5])


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("[0s] a red fox\n[soon] a river", 2, "begins with [soon], which is not a time"),
        ("[0s] a\n[1s] b\n\n[1.1s] c", 4, "both begin on chunk 2 (1.31 s)"),
        ("", 0, "The schedule is empty."),
    ],
)
def test_an_error_of_the_text_is_an_answer_with_its_line(comfyui: Server, text: str, line: int, part: str) -> None:
    error = ask(comfyui, QUESTION, text=text)["error"]
    assert error["line"] == line and part in error["message"]


@pytest.mark.parametrize("question", BEYOND_BOUNDS.values(), ids=BEYOND_BOUNDS.keys())
def test_a_question_beyond_bounds_is_turned_away(comfyui: Server, question: object) -> None:
    status, message = refused(comfyui, json.dumps(question).encode())
    assert status == 400
    assert message.startswith("/head_forcing/schedule cannot answer: ") and message.endswith("reload the page.")


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_body_that_cannot_be_read_is_turned_away(comfyui: Server, body: bytes) -> None:
    assert refused(comfyui, body)[0] == 400


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_what_a_plain_form_can_send_is_turned_away(comfyui: Server, content_type: str) -> None:
    status, message = refused(comfyui, json.dumps(QUESTION).encode(), content_type)
    assert status == 400 and "not application/json" in message


def test_another_site_is_turned_away(comfyui: Server) -> None:
    assert refused(comfyui, json.dumps(QUESTION).encode(), Origin="http://example.com")[0] == 403


def scene(
    line: int,
    asked: float,
    start: float,
    chunk: int,
    transition: str | None,
    prompt: str,
    soft_chunks: int | None = None,
) -> Mapping[str, object]:
    """One scene of an answer."""
    return {
        "line": line,
        "asked_second": asked,
        "start_second": start,
        "chunk": chunk,
        "transition": transition,
        "soft_chunks": soft_chunks,
        "prompt": prompt,
    }
