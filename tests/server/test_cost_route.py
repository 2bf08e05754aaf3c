"""What a run will take, reckoned by the server from widgets alone."""

import json
import re
import urllib.error
from collections.abc import Mapping

import pytest

from headforcing_core.farm.loopback import request
from headforcing_core.farm.process import Server

SAMPLER = {
    "seconds": 20.0,
    "fps": 16.0,
    "width": 832,
    "height": 480,
    "run_name": "",
    "on_existing_run": "resume",
}
POLICY = {
    "preset": "paper",
    "local_sink": -1,
    "local_recent": -1,
    "anchor_sink": -1,
    "anchor_recent": -1,
    "memory_sink": -1,
    "memory_episodes": -1,
    "memory_recent": -1,
    "rope": "preset",
    "commit_context": "preset",
    "compress_from_chunk": -2,
    "novelty_percentile": 60.0,
    "trained_frames": 0,
    "episode": "preset",
    "episode_choice": "preset",
    "recall_share": -1,
    "kv_precision": "preset",
}
MODEL = {"model_name": "self_forcing_dmd.pt", "family": "auto", "chunk_frames": 0}
ROUTE = "/head_forcing/cost"
FRAME_HEAD = 2 * 1560 * 128 * 2  # K and V of one frame in one head, 16 bit
TURNED_AGAIN = 1 + 22 / 128  # the temporal pairs of K lie there a second time
CHUNK_FILE = 8 + 1024 + 4 * 16 * 3 * 60 * 104
FREE = r"[\d.]+ [GM]B free"


def gigabytes(head_frames: int) -> str:
    """The memory of so many frames of one head each."""
    return f"{head_frames * FRAME_HEAD * TURNED_AGAIN / 1e9:.1f} GB"


def ask(
    server: Server,
    policy: Mapping[str, object] | str | None = None,
    model: Mapping[str, object] | None = MODEL,
    beginning: str = "none",
    steps: int | None = 0,
    **sampler: object,
) -> Mapping[str, str]:
    """The answer, where `sampler` changes its widgets."""
    question = {"sampler": {**SAMPLER, **sampler}, "policy": policy, "model": model}
    question.update(beginning=beginning, steps=steps)
    return json.loads(request(f"{server.url}{ROUTE}", question))


def test_length_and_memory_of_the_usual_run(comfyui: Server) -> None:
    answer = ask(comfyui)
    memory = gigabytes(30 * 12 * 21)
    assert re.fullmatch(
        f"27 chunks, 81 frames, 20.0 s \\| memory for keys and values up to {memory}, {FREE}", answer["line"]
    )
    assert (answer["level"], answer["sentence"]) == ("plain", "")
    assert answer["tooltip"].startswith("Reckoned for Wan 2.1 1.3B (30 layers of 12 heads) in 16 bit")


@pytest.mark.parametrize(
    ("changes", "head_frames"),
    [
        ({}, 360 * 21),
        ({"preset": "low_vram"}, 54 * 1 + 90 * 4 + 216 * 9 + 360 * 3),  # as many of each type as the paper's rule makes
        ({"preset": "low_vram", "memory_recent": 4}, 54 * 1 + 90 * 4 + 216 * 10 + 360 * 3),
        ({"preset": "recall"}, 54 * 1 + 90 * 4 + 216 * 15 + 360 * 3),
        ({"preset": "tiny", "kv_precision": "model"}, 54 * 1 + 90 * 4 + 216 * 15 + 360 * 3),
        ({"preset": "uniform", "compress_from_chunk": 1}, 360 * (10 + 3)),
        ({"preset": "uniform", "trained_frames": 18}, 360 * 18),
    ],
)
def test_memory_is_that_of_the_policy(comfyui: Server, changes: Mapping[str, object], head_frames: int) -> None:
    line = ask(comfyui, {**POLICY, **changes})["line"]
    assert f"up to {gigabytes(head_frames)}, " in line


@pytest.mark.parametrize(
    ("changes", "head_frames", "in_a_layer"),
    [
        # most of each type that a layer has: 4, 6 and 10
        ({"preset": "tiny"}, 54 * 4 + 90 * 7 + 216 * 18, 4 * 4 + 6 * 7 + 10 * 18),
        ({"preset": "recall", "kv_precision": "int8"}, 54 * 4 + 90 * 7 + 216 * 18, 4 * 4 + 6 * 7 + 10 * 18),
        ({"preset": "paper", "kv_precision": "int8"}, 360 * 21, 12 * 21),
        ({"preset": "uniform_21", "kv_precision": "int8"}, 360 * 21, 12 * 21),
    ],
)
def test_8_bits_are_counted_with_their_scales_and_one_layer_in_16(
    comfyui: Server, changes: Mapping[str, object], head_frames: int, in_a_layer: int
) -> None:
    memory = head_frames * 2 * 1560 * (128 + 4) + in_a_layer * FRAME_HEAD
    assert f"up to {memory / 1e9:.1f} GB, " in ask(comfyui, {**POLICY, **changes})["line"]


def test_the_chunk_and_the_size_are_those_of_the_model(comfyui: Server) -> None:
    framewise = ask(comfyui, model={**MODEL, "model_name": "causal_forcing_framewise.safetensors"})
    assert framewise["line"].startswith("81 chunks, 81 frames, 20.0 s")
    assert ask(comfyui, model={**MODEL, "chunk_frames": 4})["line"].startswith("21 chunks, 84 frames")
    large = ask(comfyui, model={**MODEL, "model_name": "krea-realtime-video-14b.safetensors"})
    assert "up to 31 GB, " in large["line"] and "Wan 2.1 14B (40 layers of 40 heads)" in large["tooltip"]
    assert ask(comfyui, model=None)["line"] == ask(comfyui)["line"]


@pytest.mark.parametrize(
    ("changes", "more", "told"),
    [
        ({"preset": "recall"}, {}, "up to 9 passes more, and 3 for each"),  # chunks 6, 14 and 22 of 27
        ({"preset": "recall"}, {"seconds": 5.0}, "up to 3 passes more, and 3 for each"),  # chunk 6 of 7
        ({"preset": "recall"}, {"seconds": 4.0}, "up to 0 passes more, and 3 for each"),  # 6 chunks: all is read
        ({"episode_choice": "recall"}, {}, "up to 9 passes more, and 3 for each"),
        ({"preset": "low_vram", "episode_choice": "recall"}, {}, "up to 6 passes more, and 2 for each"),
        (
            {"preset": "max", "episode_choice": "recall"},
            {"beginning": "start_image"},
            "up to 12 passes more, and 4 for",
        ),
        # after a latent, however long, the first chunk may recall: chunks 0, 8, 16 and 24 of 27
        ({"preset": "recall"}, {"beginning": "previous"}, "up to 12 passes more, and 3 for each"),
        ({"preset": "recall"}, {"beginning": "previous", "seconds": 0.75}, "up to 3 passes more, and 3 for each"),
        ({"preset": "recall", "memory_episodes": 3}, {"beginning": "previous"}, "up to 8 passes more, and 2 for"),
        ({"preset": "recall", "trained_frames": 18}, {"beginning": "previous"}, "up to 12 passes more, and 3 for"),
        ({"preset": "recall"}, {"steps": 1}, "up to 12 passes more, and 4 for each"),  # one step is made again
        ({"preset": "recall"}, {"steps": 2}, "up to 9 passes more, and 3 for each"),
        ({"preset": "recall"}, {"steps": 4}, "up to 9 passes more, and 3 for each"),
        ({"preset": "recall"}, {"steps": 10000}, "up to 9 passes more, and 3 for each"),
        ({"preset": "recall"}, {"steps": None}, "up to 12 passes more, and 4 for each"),
        ({"preset": "recall"}, {"steps": 1, "beginning": "previous"}, "up to 16 passes more, and 4 for each"),
        ({"preset": "recall", "memory_episodes": 0}, {}, None),
        ({"preset": "uniform", "episode_choice": "recall"}, {}, None),
        ({"preset": "recall", "episode_choice": "novelty"}, {}, None),
        ({"preset": "paper"}, {}, None),
    ],
)
def test_what_recalling_takes_is_told_without_the_prompts(
    comfyui: Server, changes: Mapping[str, object], more: dict, told: str | None
) -> None:
    parts = ask(comfyui, {**POLICY, **changes}, **more)["line"].split(" | ")
    recall = [part for part in parts if part.startswith("recall")]
    assert len(recall) == (told is not None) and all(f"recall {told}" in part for part in recall)


def test_a_run_with_a_name_takes_disk(comfyui: Server) -> None:
    line = ask(comfyui, run_name="a film")["line"]
    assert re.search(rf" \| disk {27 * CHUNK_FILE / 1e6:.0f} MB, {FREE}$", line)
    assert "disk" not in ask(comfyui)["line"]


@pytest.mark.parametrize(
    ("beginning", "length"),
    [
        ("start_image", "27 chunks, 82 frames, 20.0 s"),
        ("previous", "27 chunks, 81 frames, 20.0 s without what goes before"),
    ],
)
def test_what_the_video_goes_on_from_is_counted_where_it_is_known(comfyui: Server, beginning: str, length: str) -> None:
    assert ask(comfyui, beginning=beginning)["line"].split(" | ")[0] == length


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"strength": 0.8}, ["up to 27 chunks, 81 frames, 20.0 s", "recall up to 9 passes more, and 3 for each"]),
        ({"strength": 0.6}, ["recall up to 12 passes more, and 4 for each"]),  # one step is left
        ({"strength": None}, ["recall up to 12 passes more, and 4 for each"]),
        ({"strength": 0.8, "steps": 4}, ["recall up to 12 passes more, and 4 for each"]),
        ({"strength": 0.8, "beginning": "previous"}, ["up to 27 chunks, 81 frames, 20.0 s without what goes before"]),
        ({"strength": 0.8, "run_name": "a film"}, ["disk up to "]),
        ({"strength": 0.8, "run_name": "b", "seconds": 36000, "width": 4096, "height": 4096}, ["up to 48001 chunks"]),
    ],
)
def test_what_is_made_of_a_video_may_be_less(comfyui: Server, changes: dict, told: list[str]) -> None:
    answer = ask(comfyui, {**POLICY, "preset": "recall"}, **changes)
    assert answer["level"] != "error"
    assert all(each in answer["line"] for each in told), answer["line"]


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"width": None}, ["27 chunks"]),
        ({"seconds": None}, []),
        ({"seconds": 0, "has_audio": True}, ["as long as audio"]),
        ({"fps": None, "width": 16}, []),
        ({"run_name": None}, ["27 chunks", "memory"]),
        ({"on_existing_run": None}, ["27 chunks", "memory"]),
        ({"policy": "unknown"}, ["27 chunks", "disk"]),
        ({"policy": {**POLICY, "memory_recent": None}}, ["27 chunks", "disk"]),
        ({"model": {**MODEL, "model_name": None}}, []),
        ({"model": {**MODEL, "model_name": None, "family": "longlive"}}, ["27 chunks", "memory", "disk"]),
    ],
)
def test_what_only_a_run_can_know_leaves_the_rest(comfyui: Server, changes: dict, parts: list[str]) -> None:
    answer = ask(comfyui, **{"run_name": "a film", **changes})
    told = answer["line"].split(" | ") if answer["line"] else []
    assert (answer["level"], len(told)) == ("plain", len(parts))
    assert all(part.startswith(expected) for part, expected in zip(told, parts, strict=True))


def test_more_than_the_device_holds_is_a_warning_with_a_way_out(comfyui: Server) -> None:
    answer = ask(comfyui, {**POLICY, "preset": "max"}, width=4096, height=4096)
    assert answer["level"] == "warning" and "memory for keys and values up to 297 GB" in answer["line"]
    assert answer["sentence"].startswith("Keys and values alone take more than the ")


@pytest.mark.parametrize("beginning", ["start_image", "previous"])
def test_a_model_that_needs_a_picture_is_reckoned_where_one_may_be_there(comfyui: Server, beginning: str) -> None:
    answer = ask(comfyui, model={**MODEL, "family": "lingbot_world"}, beginning=beginning)
    assert answer["level"] != "error" and "memory for keys and values up to" in answer["line"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"width": 130}, "width is 130. One token covers 16 x 16 pixels, so width must be a multiple of 16"),
        ({"width": None, "height": 100}, "height is 100."),
        ({"seconds": 0}, "seconds is 0.0. A video needs seconds above 0"),
        ({"fps": 500}, "fps is 500.0."),
        ({"run_name": "a/b"}, "run_name is 'a/b'."),
        ({"policy": {**POLICY, "memory_episodes": 12}}, "memory heads keep 21 frames (sink 3, episodes 12, recent 6)"),
        ({"policy": {**POLICY, "local_recent": 0}}, "local_recent is 0 frames."),
        ({"policy": {**POLICY, "preset": "full"}}, "The policy full keeps all 81 frames"),
        ({"policy": {**POLICY, "preset": "full", "local_sink": 3}}, "The preset full keeps every frame"),
        ({"model": {**MODEL, "chunk_frames": 30}}, "chunk_frames is 30."),
        ({"model": {**MODEL, "family": "lingbot_world"}}, "start_image is not connected. The model is given a picture"),
        ({"model": {**MODEL, "model_name": "lingbot_fast_v2.safetensors"}}, "start_image is not connected."),
        ({"run_name": "long", "seconds": 36000, "width": 4096, "height": 4096}, "The 48001 chunks still to be made"),
    ],
)
def test_what_the_node_would_refuse_is_said_in_its_words(comfyui: Server, changes: dict, sentence: str) -> None:
    answer = ask(comfyui, **changes)
    assert answer["level"] == "error" and answer["sentence"].startswith(sentence)


@pytest.mark.parametrize(
    "changes",
    [
        {"sampler": {**SAMPLER, "width": "832"}},
        {"sampler": {**SAMPLER, "width": 832.5}},
        {"sampler": {**SAMPLER, "seconds": True}},
        {"sampler": {**SAMPLER, "path": "/"}},
        {"sampler": {**SAMPLER, "strength": "0.8"}},
        {"sampler": {**SAMPLER, "has_audio": 1}},
        {"sampler": {**SAMPLER, "on_existing_run": "delete"}},
        {"sampler": None},
        {"policy": {**POLICY, "preset": "huge"}},
        {"policy": {"preset": "paper"}},
        {"policy": "known"},
        {"model": {**MODEL, "family": "vace"}},
        {"model": "unknown"},
        {"beginning": "end"},
        {"beginning": None},
        {"steps": "4"},
        {"steps": 1.5},
    ],
)
def test_a_question_of_another_kind_is_turned_away(comfyui: Server, changes: dict) -> None:
    question = {"sampler": SAMPLER, "policy": POLICY, "model": MODEL, "beginning": "none", "steps": 0, **changes}
    with pytest.raises(urllib.error.HTTPError, match="400"):
        request(f"{comfyui.url}{ROUTE}", question)
