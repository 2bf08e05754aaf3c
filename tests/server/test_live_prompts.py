"""A prompt sent to the server while a run goes on, as scripts and the page do it."""

import json
from collections.abc import Callable

import pytest

from headforcing_core.farm.client import Client
from headforcing_core.farm.events import Event, Preview
from tests.server.conftest import SavedLatent, shown
from tests.server.graphs import node, sampling

SECONDS, CHUNKS = 5.6, 8
RIVER = "the fox finds a frozen river"


class SendAfter:
    """Sends a question once the sampler has done so many steps; `answer` is what came back."""

    def __init__(self, ask: Callable[[], object], step: int) -> None:
        self.answer: object = None
        self._ask, self._step = ask, step

    def __call__(self, event: Event | Preview) -> None:
        """Hear one event of the run."""
        if not isinstance(event, Event) or event.kind != "progress" or not event.text("node").endswith("sampler"):
            return
        if self.answer is None and event.data["value"] >= self._step:
            self.answer = self._ask()


def test_a_prompt_sent_while_a_run_goes_on_is_in_its_video_and_its_report(
    client: Client, send, saved_latent: SavedLatent
) -> None:
    prompt = f"{RIVER} <lora:x:1>"
    sending = SendAfter(lambda: send(text=f"  {prompt} // later\n"), 5)
    result = client.run(sampling(seconds=SECONDS, seed=31), sending)
    assert result.status == "success", result.error
    status, answer = sending.answer
    assert (status, answer["replaced"]) == (200, False) and 2 <= answer["chunk"] < CHUNKS
    report = json.loads(shown(result))
    (note,) = answer["notes"]
    assert note.startswith("The live prompt: '<lora:x:1>' loads nothing") and note in report["notes"]
    assert [(segment["prompt"], segment["chunks"][0], segment["live"]) for segment in report["segments"]] == [
        ("a red fox in deep snow", 0, False),
        (prompt, answer["chunk"], True),
    ]
    told = [event.data for event in result.events if event.kind == "head_forcing.scenes"]
    assert [(each["node_id"], each["prompt_id"], each["open"]) for each in told] == [
        ("sampler", result.prompt_id, True),
        ("sampler", result.prompt_id, True),
        ("sampler", result.prompt_id, False),
    ]
    assert [each["schedule"] == report["schedule"] for each in told] == [False, True, True]
    lines = [event.text("text") for event in result.events if event.kind == "progress_text"]
    assert f"reading the live prompt: {prompt}" in lines
    again = client.run(sampling(report["schedule"], seconds=SECONDS, seed=31))
    lines = [event.text("text") for event in again.events if event.kind == "progress_text"]
    assert lines[:2] == ["reading 2 prompts", "2 prompts read"]
    assert not any("Loading the model." in line for line in lines)  # it is there
    assert [segment["chunks"] for segment in json.loads(shown(again))["segments"]] == [
        segment["chunks"] for segment in report["segments"]
    ]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"text": " \n"}, "text has 0 characters, not 1 to 4000"),
        ({"text": "x" * 4001}, "text has 4001 characters"),
        ({"text": 5}, "text is 5"),
        ({"transition": "fade"}, "transition is 'fade', not one of recache, flush, soft, cut, shot"),
        ({"more": 1}, "unknown name"),
    ],
)
def test_a_wrong_question_is_refused(send, fields: dict[str, object], sentence: str) -> None:
    status, answer = send(**fields)
    assert status == 400 and sentence in answer["error"]


@pytest.mark.parametrize("text", [f"[5s] {RIVER}", f"0s: a fox\n5s: {RIVER}"])
def test_a_prompt_with_a_time_of_its_own_is_refused(send, text: str) -> None:
    status, answer = send(text=text)
    assert status == 409 and answer["error"].endswith(
        "Send one prompt without times, or put this into Prompt Schedule."
    )


def test_without_a_run_nothing_is_taken(send) -> None:
    status, answer = send()
    assert status == 409 and answer["error"].startswith("No run of the Head-Forced Sampler 'sampler' is going.")


def test_what_could_not_be_encoded_stays_on_the_node(client: Client, send) -> None:
    sending = SendAfter(lambda: send(text="(a fox:1e39) in the snow"), 5)
    result = client.run(sampling(seconds=SECONDS, seed=35), sending)
    assert result.status == "success" and sending.answer[0] == 200
    (warning,) = [event for event in result.events if event.kind == "head_forcing.warning"]
    assert (warning.text("node_id"), warning.text("prompt_id")) == ("sampler", result.prompt_id)
    assert "could not be encoded" in warning.text("text") and warning.text("text") in json.loads(shown(result))["notes"]


def test_a_loop_shows_its_copies_as_the_node_in_the_page(client: Client, send) -> None:
    """All that a run says and hears goes by the id that the page knows: copies run under ids of their own."""
    workflow = sampling(seconds=5.0)  # the box is open after what is typed
    workflow["loop"] = node("HeadForcingTestLoop", body="sampler", times=2, seed=36)
    workflow["report"] = node("PreviewAny", source=["loop", 0])
    good, bad = SendAfter(send, 2), SendAfter(lambda: send(text="(a fox:1e39) in the snow"), 2)
    heard: list[str] = []

    def on_event(event: Event | Preview) -> None:
        if isinstance(event, Event) and event.kind == "progress" and "sampler" in event.text("node"):
            heard.append(event.text("node"))
            (good if heard[0] == heard[-1] else bad)(event)

    result = client.run(workflow, on_event)
    assert result.status == "success", result.error
    assert len(set(heard)) == 2 and "sampler" not in heard
    assert (good.answer[0], bad.answer[0]) == (200, 200), (good.answer, bad.answer)
    for kind in ("progress_text", "head_forcing.scenes", "head_forcing.warning", "head_forcing.chunk"):
        assert {event.text("node_id") for event in result.events if event.kind == kind} == {"sampler"}, kind
    runs = [event.text("run") for event in result.events if event.kind == "head_forcing.chunk"]
    assert len(set(runs)) == 2 and runs == sorted(runs, key=list(dict.fromkeys(runs)).index)
    assert {preview.node_id for preview in result.previews} == {"sampler"}
    lines = [event.text("text") for event in result.events if event.kind == "progress_text"]
    assert sum(RIVER in line for line in lines) > 1  # it was read, and chunks were made of it
    opened = [event.data["open"] for event in result.events if event.kind == "head_forcing.scenes"]
    assert (opened[0], opened[-1], opened.count(False)) == (True, False, 2)


def test_a_run_of_another_node_does_not_hear_it(client: Client, send) -> None:
    sending = SendAfter(lambda: send(node_id="8"), 5)
    assert client.run(sampling(seconds=2.0, seed=32), sending).status == "success"
    assert sending.answer[0] == 409


def test_the_newest_chunk_moves_on_the_node_while_the_next_one_is_made(client: Client) -> None:
    workflow = sampling(seconds=SECONDS, seed=33, vae=["vae", 0])
    workflow["vae"] = {"class_type": "VAELoader", "inputs": {"vae_name": "wan_2.1_vae.safetensors"}}
    workflow["save"] = {
        "class_type": "SaveVideo",
        "inputs": {"video": ["sampler", 1], "filename_prefix": "video/moving", "format": "auto", "codec": "auto"},
    }
    result = client.run(workflow)
    assert result.status == "success", result.error
    previews = [preview for preview in result.previews if preview.node_id == "sampler"]
    assert len({preview.image for preview in previews}) >= CHUNKS  # more when a chunk takes as long as its pictures
    assert all(preview.image.startswith(b"\xff\xd8") for preview in previews)


def test_no_preview_is_sent_when_none_is_wanted(client: Client) -> None:
    result = client.run(sampling(seconds=2.0, seed=34), preview_method="none")
    assert result.status == "success" and not result.previews
