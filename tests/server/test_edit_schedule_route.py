"""The route by which the ruler edits a schedule's text."""

import json
import urllib.error
import urllib.request

import pytest

from headforcing_core.farm.loopback import request
from headforcing_core.farm.process import Server
from tests.server.test_routes import QUESTION

TEXT = "// film\n[0s] a red fox\n[0:12 cut] a {frozen|blue} river"
EDITED = {
    "move": ({"kind": "move", "line": 3, "second": 15}, TEXT.replace("0:12", "0:14.812")),
    "add": ({"kind": "add", "second": 5, "prompt": "a lake", "transition": None}, "a red fox\n[5.062s] a lake\n"),
    "split": ({"kind": "split", "second": 15}, TEXT + "\n[0:14.812] a {frozen|blue} river"),
    "delete": ({"kind": "delete", "line": 3}, "// film\n[0s] a red fox"),
    "transition": ({"kind": "transition", "line": 3, "transition": "soft", "soft_chunks": 6}, "[0:12 soft 6]"),
    "prompt": ({"kind": "prompt", "line": 2, "prompt": "a wolf"}, TEXT.replace("red fox", "wolf")),
    "scene_at": ({"kind": "scene_at", "second": 12, "prompt": "a lake"}, "[0:12 cut] a lake"),
}
BEYOND_BOUNDS = {
    "no kind": {},
    "an unknown kind": {"kind": "reverse"},
    "a kind that is a list": {"kind": ["move"]},
    "a list": [],
    "a field too many": {"kind": "convert", "line": 1},
    "a field too few": {"kind": "move", "line": 1},
    "a second beyond ten hours": {"kind": "split", "second": 36001},
    "an unknown transition": {"kind": "add", "second": 1, "prompt": "a", "transition": "fade"},
    "a fade over too many chunks": {"kind": "transition", "line": 1, "transition": "soft", "soft_chunks": 65},
    "a prompt that is a number": {"kind": "prompt", "line": 1, "prompt": 3},
}


def ask(server: Server, edit: object, **changes: object) -> dict[str, object]:
    """What the route answers."""
    question = {**QUESTION, "text": TEXT, **changes, "edit": edit}
    return json.loads(request(f"{server.url}/head_forcing/edit_schedule", question))


@pytest.mark.parametrize("kind", EDITED)
def test_each_edit_is_done_on_the_text(comfyui: Server, kind: str) -> None:
    edit, new = EDITED[kind]
    assert new in str(ask(comfyui, edit)["text"])


def test_frames_are_those_of_the_video(comfyui: Server) -> None:
    text = '0: "a fox", 48: "a river"'
    assert ask(comfyui, {"kind": "convert"}, text=text)["text"] == "[0s] a fox\n[3s] a river"
    assert ask(comfyui, {"kind": "convert"}, text=text, fps=24.0)["text"] == "[0s] a fox\n[2s] a river"


def test_what_can_be_converted_is_told(comfyui: Server) -> None:
    def told(text: str) -> object:
        question = {**QUESTION, "text": text}
        return json.loads(request(f"{comfyui.url}/head_forcing/schedule", question))["error"].get("converts")

    assert [told(text) for text in ('0: "a", 48: "b"', '{"class_type": "X"}', "[0s] a\n[soon] b")] == [True, None, None]


def test_what_cannot_be_done_is_an_answer(comfyui: Server) -> None:
    error = ask(comfyui, {"kind": "move", "line": 2, "second": 5})["error"]
    assert error == {"line": 2, "message": "The first scene begins at 0. Move another one, or add one before it."}
    assert ask(comfyui, {"kind": "delete", "line": 1}, text="[5s] a")["error"]["line"] == 1  # type: ignore[index]
    assert ask(comfyui, {"kind": "convert"}, family="longlive", chunk_frames=31)["error"]["line"] == 0  # type: ignore[index]


@pytest.mark.parametrize("edit", BEYOND_BOUNDS.values(), ids=BEYOND_BOUNDS.keys())
def test_an_edit_beyond_bounds_is_turned_away(comfyui: Server, edit: object) -> None:
    body = json.dumps({**QUESTION, "edit": edit}).encode()
    question = urllib.request.Request(
        f"{comfyui.url}/head_forcing/edit_schedule", body, {"Content-Type": "application/json"}
    )
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(question, timeout=10)
    assert refusal.value.code == 400
    assert json.loads(refusal.value.read())["error"].startswith(
        "/head_forcing/edit_schedule cannot answer: the question"
    )
