"""The takes of a kept run over the server: told, chosen, and gone on with, as docs/takes.md has it."""

import json
import re
import runpy
import urllib.error
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from headforcing_core.farm.client import Client
from headforcing_core.farm.loopback import request
from headforcing_core.farm.process import Server
from tests.conftest import REPOSITORY
from tests.server.conftest import shown, steps
from tests.server.test_kept_runs import CHUNKS, keeping
from tests.server.test_live_prompts import SendAfter

PAGE = (REPOSITORY / "docs" / "takes.md").read_text()
(SCRIPT,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
PRINTED = re.search(r"It prints:\n\n```\n(.*?)```", PAGE, re.DOTALL)[1]
FOX = "a red fox in deep snow"

Ask = Callable[..., tuple[int, dict]]


@pytest.fixture
def ask(comfyui: Server) -> Ask:
    """Ask one of the two routes; HTTP status and answer."""

    def asked(route: str, **fields: object) -> tuple[int, dict]:
        try:
            return 200, json.loads(request(f"{comfyui.url}/head_forcing/{route}", fields))
        except urllib.error.HTTPError as refusal:
            return refusal.code, json.loads(refusal.read())

    return asked


def test_the_script_of_the_page_does_what_it_says(
    comfyui: Server,
    client: Client,
    ask: Ask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "film.json").write_text(json.dumps(keeping()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "takes.py").write_text(SCRIPT.replace("http://127.0.0.1:8188", comfyui.url))
    runpy.run_path(str(tmp_path / "takes.py"))
    assert capsys.readouterr().out == PRINTED

    _, answer = ask("takes", run_name="film")
    assert [(take["name"], take["is_run"], take["differs_from"]) for take in answer["takes"]] == [
        ("film", True, None),
        ("film_take_1", False, 2),
        ("film_take_2", False, 2),
    ]
    assert [take["chunks"] for take in answer["takes"]] == [CHUNKS] * 3
    assert answer["takes"][2]["seeds_as_text"] == [[0, "5"], [2, "7"]]
    assert answer["takes"][1]["differs_second"] == pytest.approx((2 * 12 - 3) / 16)
    assert [take["differs_prompt"] for take in answer["takes"]] == [None, FOX, "the fox finds a frozen river"]
    assert answer["takes"][2]["schedule"] == f"[0s] {FOX}\n[1.312s recache] the fox finds a frozen river"
    place = answer["takes"][1]["video"]
    assert place == {"filename": "video.mp4", "subfolder": "head_forcing/film_take_1", "type": "output", "pictures": 43}
    (tmp_path / "first.mp4").write_bytes(client.download(place))
    with av.open(str(tmp_path / "first.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == place["pictures"]

    # of two prompts, and chosen again: not a step either
    text = answer["takes"][2]["schedule"]
    told = {"kept_as": "film_take_2", "seed": 7, "schedule": text}
    assert ask("choose_take", run_name="film", take="film_take_2") == (200, told)
    workflow = keeping(run_name="film", seed=7)
    workflow["schedule"]["inputs"]["text"] = text
    result = client.run(workflow)
    assert (result.status, steps(result, "sampler")) == ("success", [])
    assert [chunk["seconds"] for chunk in json.loads(shown(result))["chunks"]] != [0] * CHUNKS  # as they were made


def test_while_a_run_is_made_its_takes_are_told_and_none_is_chosen(client: Client, ask: Ask) -> None:
    assert client.run(keeping(run_name="busy", seed=1)).status == "success"
    told = SendAfter(
        lambda: [ask("takes", run_name="busy"), ask("choose_take", run_name="busy", take="busy_take_1")], 10
    )
    assert client.run(keeping(run_name="busy", seed=2, from_chunk=1), told).status == "success"
    (status, answer), (refused, sentence) = told.answer
    run, take = answer["takes"]
    assert (status, take["name"], take["chunks"], take["differs_from"]) == (200, "busy_take_1", CHUNKS, 1)
    assert 1 <= run["chunks"] < CHUNKS and run["schedule"] == f"[0s] {FOX}"
    assert (refused, sentence["error"].partition(".")[0]) == (409, "The run 'busy' is in use by another run")


def test_what_cannot_be_is_told(client: Client, ask: Ask) -> None:
    for name in ("never made", "../output", "", "a%n%"):
        assert ask("takes", run_name=name) == (200, {"takes": []})
    status, answer = ask("choose_take", run_name="never made", take="never made_take_1")
    assert status == 409 and "There is no take 'never made_take_1' of the run 'never made'." in answer["error"]
    for route, fields in (
        ("takes", {"run_name": 5}),
        ("takes", {}),
        ("choose_take", {"run_name": "../output", "take": "x_take_1"}),
        ("choose_take", {"run_name": "film", "take": None}),
    ):
        status, answer = ask(route, **fields)
        assert status == 400 and answer["error"].startswith(f"/head_forcing/{route} cannot answer: ")


def test_a_run_without_a_schedule_has_no_text_and_no_video_without_a_vae(client: Client, ask: Ask) -> None:
    workflow = keeping(run_name="plain", seconds=0.5, schedule=None, positive=["text", 0], vae=None)
    workflow["text"] = {"class_type": "CLIPTextEncode", "inputs": {"clip": ["clip", 0], "text": FOX}}
    assert client.run(workflow).status == "success"
    _, answer = ask("takes", run_name="plain")
    assert [(take["schedule"], take["video"]) for take in answer["takes"]] == [(None, None)]
