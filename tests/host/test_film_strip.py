"""The film strip of a run: what was read for each chunk, a small picture of it; kept with the run, answered later."""

import base64
import io
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from headforcing_core.files.strict_json import Fields
from tests.host.conftest import conditioning, elsewhere
from tests.host.test_kept_run import stopped

NODE, FPS = "7", 16
SECONDS, CHUNKS, PICTURES = 7.3, 10, 117


@pytest.fixture(scope="module")
def make(pack, model, labelled) -> Callable[..., dict]:
    """Make a film of 10 chunks of small pictures in one step each, kept as `film`; its report."""
    given = {"model": model, "profile": labelled, "positive": conditioning(1), "sigmas": torch.tensor([1.0, 0.0])}
    policy = pack.run("HeadForcingCachePolicy", preset="paper")[0]

    def run(**inputs: object) -> dict:
        size = {"seconds": SECONDS, "width": 32, "height": 32, "run_name": "film", "policy": policy}
        return json.loads(pack.run("HeadForcingSampler", NODE, **{**given, **size, **inputs})[3])

    return run


@pytest.fixture
def ask(pack, runs: Path) -> Callable[..., dict]:
    """Ask for the strip as the page does."""
    route = pack.module("nodes.web_api.strip_route")

    def answer(name: str = "film", node_id: str = NODE, first: int = 0, count: int = 200) -> dict:
        asked = {"node_id": node_id, "run_name": name, "first": first, "count": count}
        return route.answer(Fields.of(asked, "the question", route.FIELDS))

    return answer


@pytest.fixture
def forget(pack) -> Callable[[], None]:
    """Forget what is in memory, as a ComfyUI that is started again has."""
    newest, held = pack.module("nodes.strip.growing_strip")._newest, pack.module("nodes.strip.kept_strip")._held
    return lambda: (newest.clear(), held.clear())


@pytest.fixture
def events(pack, monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """What the page is told of chunks."""
    status, told = pack.module("nodes.status.node_status").NodeStatus, []
    send = status.send_event

    def send_event(self, event: str, data: Mapping[str, object]) -> None:
        if event == "head_forcing.chunk":
            told.append(data)
        send(self, event, data)

    monkeypatch.setattr(status, "send_event", send_event)
    return told


def chunks_read(entry: Mapping[str, list]) -> set[int]:
    return {number for first, last in entry["reads"] for number in range(first, last + 1)}


def seen(report: Mapping[str, list], before: int = 0) -> list[set[int]]:
    """The chunks that memory heads read for each one, by the report."""
    return [{max(-1, (frame - before) // 3) for frame, _, _ in chunk["seen"]["memory"]} for chunk in report["chunks"]]


def picture(entry: Mapping[str, str]) -> np.ndarray:
    """The picture of an entry, which must be a small JPEG."""
    data = base64.b64decode(entry["picture"], validate=True)
    image = Image.open(io.BytesIO(data), formats=("JPEG",))
    assert 0 < len(data) <= 3000 and max(image.size) <= 96
    return np.array(image.convert("RGB")).astype(float)


def colours(entries: list[Mapping[str, str]]) -> np.ndarray:
    return np.array([picture(entry).mean((0, 1)) for entry in entries])


def middle_colours(path: Path, chunks: int = CHUNKS) -> np.ndarray:
    """Of each chunk the mean colour of its middle picture in the video."""
    with av.open(str(path)) as file:
        means = [frame.to_ndarray(format="rgb24").mean((0, 1)) for frame in file.decode(video=0)]
    starts = [max(0, 12 * chunk - 3) for chunk in range(chunks)]
    ends = [*starts[1:], len(means)]
    return np.array([means[start + (end - start) // 2] for start, end in zip(starts, ends, strict=True)])


def test_entries_tell_what_was_read_and_show_the_video(make, ask, vae, events: list[dict], runs: Path, forget) -> None:
    report = make(vae=vae)
    answer = ask()
    entries = answer["entries"]
    assert [entry["chunk"] for entry in entries] == list(range(CHUNKS))
    assert [chunks_read(entry) for entry in entries] == seen(report)
    assert {1, 2} - chunks_read(entries[-1]) and 0 in chunks_read(entries[-1])  # the sink, and not all
    assert [entry["picked"] for entry in entries] == [
        bool(chunk["decision"] and chunk["decision"]["admitted"]) for chunk in report["chunks"]
    ]
    assert any(entry["picked"] for entry in entries)
    assert [entry["second"] for entry in entries] == [max(0, 12 * chunk - 3) / FPS for chunk in range(CHUNKS)]
    assert (answer["chunks"], answer["made"], answer["fps"]) == (CHUNKS, CHUNKS, FPS)
    assert answer["scenes"] == [
        {"chunk": 0, "second": 0.0, "prompt": "(the positive input)", "transition": None, "live": False}
    ]
    assert answer["video"] == {
        "filename": "video.mp4",
        "subfolder": "head_forcing/film",
        "type": "output",
        "pictures": PICTURES,
    }
    assert np.abs(colours(entries) - middle_colours(runs / "film/video.mp4")).max() < 6
    told = [event["entry"] for event in events]
    assert told == [*entries, entries[-1]] and [event["made"] for event in events] == [*range(1, CHUNKS + 1), CHUNKS]
    assert {event["run"] for event in events} == {answer["run"]} and events[-1]["video"] == answer["video"]
    forget()
    kept = ask()
    assert {**kept, "run": answer["run"]} == answer and kept["run"] not in (answer["run"], None)
    assert ask(first=4, count=3)["entries"] == entries[4:7] and ask(first=9)["entries"] == entries[9:]
    assert ask(name="")["run"] is None and ask(name="other")["entries"] == []
    (runs / "film/strip.jsonl").unlink()
    again = ask()
    assert [{**entry, "picture": ""} for entry in again["entries"]] == [{**entry, "picture": ""} for entry in entries]
    assert again["video"] == answer["video"] and len(colours(again["entries"])) == CHUNKS
    (runs / "film/report.json").unlink()
    bare = ask()
    assert [entry["reads"] for entry in bare["entries"]] == [[]] * CHUNKS
    assert [(each["picture"], each["picked"]) for each in bare["entries"]] == [
        (each["picture"], each["picked"]) for each in again["entries"]
    ]
    assert [entry["second"] for entry in bare["entries"]] == [entry["second"] for entry in entries]


def test_without_a_decoder_a_chunk_is_drawn_by_the_colours_of_its_latent_space(make, ask, runs: Path) -> None:
    make(seconds=2.0)
    entries = ask()["entries"]
    from comfy.latent_formats import Wan21
    from safetensors.torch import load_file

    for entry in entries:
        latent = load_file(runs / f"film/chunk_{entry['chunk']:05d}.safetensors")["latent"][0, :, 1].movedim(0, -1)
        colour = (latent @ torch.tensor(Wan21.latent_rgb_factors) + torch.tensor(Wan21.latent_rgb_factors_bias) + 1) / 2
        assert np.abs(picture(entry).mean((0, 1)) - colour.clamp(0, 1).mul(255).mean((0, 1)).numpy()).max() < 10
        assert picture(entry).shape == (4, 4, 3)
    assert ask()["video"] is None


def test_a_run_that_goes_on_shows_all_that_is_there_and_the_longer_video(
    pack, make, ask, vae, events: list[dict], runs: Path, forget, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_steps = {"vae": vae, "seconds": 4.0, "sigmas": torch.tensor([1.0, 0.5, 0.0])}
    stopped(pack, monkeypatch, 4, lambda: make(**two_steps))
    before = ask()
    assert (before["chunks"], before["made"], len(before["entries"])) == (6, 4, 4)
    assert before["video"]["pictures"] == 45
    forget()
    assert {**ask(), "run": before["run"]} == before
    events.clear()
    report = make(**two_steps)
    assert [event["entry"]["chunk"] for event in events] == [*range(6), 5]
    assert [event["made"] for event in events][:5] == [4] * 4 + [5]
    videos = [event["video"]["filename"] for event in events]
    assert videos[0] == "video.mp4" and videos[-1] == "video.mp4" and videos[-2] == "video_next.mp4"
    assert [event["video"]["pictures"] for event in events][:4] == [45] * 4
    assert events[-1]["video"]["pictures"] == 64
    entries = ask()["entries"]
    assert entries[:4] == before["entries"] and [chunks_read(entry) for entry in entries] == seen(report)
    assert len((runs / "film/strip.jsonl").read_bytes().splitlines()) == 1 + 6


def test_a_run_made_anew_from_a_chunk_on_and_its_take_have_a_strip_each(make, ask, runs: Path, forget) -> None:
    make(seconds=4.0, seed=1)
    first, kept = ask(), (runs / "film/strip.jsonl").read_bytes()
    make(seconds=4.0, seed=2, from_chunk=2)
    anew = ask()
    assert (runs / "film_take_1/strip.jsonl").read_bytes() == kept
    forget()
    assert ask()["entries"] == anew["entries"] and ask("film_take_1")["entries"] == first["entries"]
    assert [one == other for one, other in zip(first["entries"], anew["entries"], strict=True)] == [
        entry["chunk"] < 2 for entry in first["entries"]
    ]
    assert anew["run"] != first["run"] and ask()["run"] != ask("film_take_1")["run"]


def test_a_folder_that_another_run_has_taken_is_shown_as_it_is(make, ask, runs: Path) -> None:
    make(seconds=2.0, run_name="other")
    other = ask("other")
    make(seconds=4.0)
    mine = ask()
    assert ask("other")["entries"] == other["entries"] and ask("no such run") == mine == ask("film_%n%")
    for old, new in (("film", "aside"), ("other", "film"), ("aside", "other")):
        (runs / old).rename(runs / new)
    assert ask()["entries"] == other["entries"] and ask("other")["entries"] == mine["entries"]
    (runs / "film").rename(runs / "film_1")
    assert ask("film_%n%", node_id="second")["run"] is None  # of which scene is not known


def test_what_was_there_before_is_minus_one(pack, make, ask) -> None:
    before = torch.randn(1, 16, 5, 4, 4, generator=torch.Generator().manual_seed(2))
    report = make(seconds=4.0, previous={"samples": before}, run_name="")
    answer = ask(name="")
    entries = answer["entries"]
    assert [chunks_read(entry) for entry in entries] == seen(report, before=5)
    assert entries[0]["reads"] == [[-1, -1]] and entries[1]["reads"] == [[-1, 0]]
    assert [entry["second"] for entry in entries[:3]] == [17 / FPS, 29 / FPS, 41 / FPS]
    assert answer["scenes"][0]["second"] == 17 / FPS


@pytest.mark.parametrize(("outputs", "before"), [((4,), 0), ((1, 4), 17)], ids=["new_video", "both"])
def test_seconds_are_those_of_the_video_that_can_be_played(
    pack, ask, model, vae, outputs: tuple[int, ...], before: int
) -> None:
    """Of the new part alone they are counted from there, so that a click on a chunk plays it."""
    previous = {"samples": torch.randn(1, 16, 5, 4, 4, generator=torch.Generator().manual_seed(2))}
    film = {"seconds": 1.5, "width": 32, "height": 32, "vae": vae, "sigmas": torch.tensor([1.0, 0.0])}
    policy = pack.run("HeadForcingCachePolicy", preset="uniform")[0]
    graph = {NODE: {"class_type": "HeadForcingSampler", "inputs": {}}}
    graph |= {str(output): {"class_type": "T", "inputs": {"any": [NODE, output]}} for output in outputs}
    given = {"model": model, "policy": policy, "positive": conditioning(1), "previous": previous}
    pack.all_outputs("HeadForcingSampler", unique_id=NODE, graph=graph, **film, **given)
    answer = ask(name="")
    seconds = [entry["second"] for entry in answer["entries"]]
    assert seconds == [(before + 12 * chunk) / FPS for chunk in range(2)]
    assert answer["scenes"][0]["second"] == before / FPS and answer["video"]["pictures"] == before + 24
    assert answer["entries"][0]["reads"] == [[-1, -1]]


def test_chunks_whose_decoding_fails_are_drawn(
    pack, make, ask, vae, events: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = pack.module("nodes.host.chunk_decoder").ChunkDecoder
    decode, calls = decoder.decode, []

    def fail_later(self, latent: torch.Tensor) -> torch.Tensor:
        calls.append(0)
        pictures = decode(self, latent)
        return pictures * torch.nan if len(calls) == 3 else pictures

    monkeypatch.setattr(decoder, "decode", fail_later)
    make(vae=vae, seconds=4.0)
    assert [event["entry"]["chunk"] for event in events] == [0, 1, 2, 3, 4, 5, 5]
    shapes = [picture(entry).shape for entry in ask()["entries"]]
    assert shapes == [(32, 32, 3)] * 2 + [(4, 4, 3)] * 4
    assert ask()["video"]["pictures"] == 21


def test_a_decoder_beside_the_model_shows_the_same_pictures(make, ask, vae) -> None:
    make(vae=vae, seconds=2.0)
    usual = ask()["entries"]
    make(vae=elsewhere(vae), seconds=2.0, run_name="beside")
    assert ask("beside")["entries"] == usual


DAMAGE = {
    "cut short": lambda lines: [*lines[:-1], lines[-1][:40]],
    "a line of something else": lambda lines: [*lines[:3], b'{"chunk": 2}', *lines[4:]],
    "no text": lambda lines: [lines[0], lines[1], b"\xff\x00" * 50, *lines[3:]],
    "a picture that is none": lambda lines: [
        *lines[:2],
        lines[2].replace(b'picture":"/9j', b'picture":"AAAA'),
        *lines[3:],
    ],
    "a line of 9 kB": lambda lines: [*lines[:2], lines[2].replace(b'"picked"', b" " * 9000 + b'"picked"'), *lines[3:]],
    "reads of the future": lambda lines: [*lines[:2], lines[2].replace(b'"reads":[', b'"reads":[[0,99],'), *lines[3:]],
    "a chunk that is not there": lambda lines: [*lines, lines[-1].replace(b'"chunk":2', b'"chunk":7')],
    "another header": lambda lines: [lines[0].replace(b"strip/1", b"strip/2"), *lines[1:]],
    "nothing": lambda lines: [],
}


def test_a_damaged_strip_is_no_error_and_whole_again_after_the_next_run(make, ask, runs: Path, forget) -> None:
    make(seconds=2.0)
    entries, path = ask()["entries"], runs / "film/strip.jsonl"
    whole = path.read_bytes()
    for name, damage in DAMAGE.items():
        path.write_bytes(b"\n".join(damage(whole.splitlines())))
        forget()
        assert path.read_bytes() != whole and ask()["entries"] == entries, name
        make(seconds=2.0)
        assert sorted(path.read_bytes().splitlines()) == sorted(whole.splitlines()), name
        assert ask()["entries"] == entries, name
        path.write_bytes(whole)


def test_a_strip_that_cannot_be_written_ends_no_run(
    pack, make, ask, runs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(seconds=2.0)
    make(seconds=2.0, run_name="", seed=3)
    kept = pack.module("headforcing_core.run_store.strip_file").StripFile(runs / "gone/strip.jsonl", 3, True)
    assert kept.begin(pack.module("headforcing_core.run_store.strip_entry").StripHeader(3, 16.0, 3, 0, 33)) == {}
    assert "strip.jsonl is not written further: No such file or directory" in caplog.text


@pytest.mark.parametrize("name", ["../head_forcing/film", "a/b", ".film", "con", "film\n", "film/", "x" * 121])
def test_a_name_that_no_run_can_have_is_looked_up_nowhere(make, ask, runs: Path, name: str) -> None:
    make(seconds=2.0)
    shutil.copytree(runs / "film", runs / ".film")
    assert ask(name, node_id="nobody")["run"] is None


def test_any_picture_fits(pack) -> None:
    pictures = pack.module("nodes.strip.small_pictures")
    noise = torch.rand(3, 480, 832, 3, generator=torch.Generator().manual_seed(1))
    for sharp in (noise, noise[:, :96, :96], noise.round()[:, :96, :96], noise * torch.nan, noise * 9 - 4):
        data = pictures.of_pictures(sharp)
        assert 0 < len(data) <= 3000 and max(Image.open(io.BytesIO(data)).size) == 96
    assert pictures.of_pictures(noise[:0]) == b""
    tall = Image.open(io.BytesIO(pictures.of_pictures(torch.zeros(1, 4096, 16, 3))))
    assert tall.size == (1, 96)
    for channels in (16, 48):
        assert len(pictures.of_latent(torch.randn(1, channels, 8, 44, 80))) <= 3000
