"""Scenes that go on from each other: their noise, and the new part of each as a video."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.host.conftest import conditioning
from tests.host.test_old_runs import sealed

FRAMES, CHUNK = 6, 3


@pytest.fixture(scope="module")
def scene(pack, model) -> Callable[..., tuple]:
    """Make a scene of two chunks and 21 pictures, small; all outputs."""
    policy = pack.run("HeadForcingCachePolicy", preset="uniform")[0]
    given = {"model": model, "policy": policy, "positive": conditioning(1), "sigmas": torch.tensor([1.0, 0.5, 0.0])}

    def make(**inputs: object) -> tuple:
        inputs = {**given, "seconds": 1.3, "width": 16, "height": 16, "seed": 3, **inputs}
        return pack.all_outputs("HeadForcingSampler", **inputs)

    return make


def latent(outputs: tuple) -> Tensor:
    return outputs[0]["samples"]


def drawn(pack, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number within its seed of each chunk that is denoised from now on."""
    noise = pack.module("headforcing_core.rollout.noise").PerChunkNoise
    initial, numbers = noise.initial, []

    def seen(self, chunk: int) -> Tensor:
        found = initial(self, chunk)
        numbers.extend(n for n in range(99) if torch.equal(found, initial(noise(self._seed, self._shape), n)))
        return found

    monkeypatch.setattr(noise, "initial", seen)
    return numbers


@pytest.mark.parametrize(
    ("frames", "noise", "numbers"),
    [
        (0, "whole_video", [0, 1]),
        (2, "whole_video", [0, 1]),
        (6, "whole_video", [2, 3]),
        (7, "whole_video", [2, 3]),
        (6, "per_chunk", [0, 1]),
        (6, None, [0, 1]),
    ],
)
def test_chunks_are_counted_from_the_beginning_of_the_whole_video(
    pack, scene, monkeypatch: pytest.MonkeyPatch, frames: int, noise: str | None, numbers: list[int]
) -> None:
    previous = {"previous": {"samples": torch.randn(1, 16, frames, 2, 2)}} if frames else {}
    found = drawn(pack, monkeypatch)
    scene(**previous, **({} if noise is None else {"noise": noise}))
    assert found == numbers


@pytest.mark.parametrize("chunk_frames", [1, 3])
def test_a_start_image_is_no_chunk(pack, load, scene, vae, monkeypatch: pytest.MonkeyPatch, chunk_frames: int) -> None:
    model = load("self_forcing_dmd.safetensors", chunk_frames=chunk_frames)
    found = drawn(pack, monkeypatch)
    scene(model=model, vae=vae, start_image=torch.rand(1, 16, 16, 3), seconds=0.8, noise="whole_video")
    assert found == list(range(len(found))) and found


def test_two_scenes_of_one_seed_are_as_one_whose_noise_goes_on(scene) -> None:
    first = latent(scene(noise="whole_video"))
    assert torch.equal(first, latent(scene()))
    once = latent(scene(seconds=2.6, noise="whole_video"))
    second = latent(scene(previous={"samples": first}, noise="whole_video"))
    assert torch.equal(second[:, :, :FRAMES], once[:, :, :FRAMES])
    assert torch.allclose(second, once, atol=2e-3)  # the past is committed from a latent of another scale
    assert not torch.allclose(latent(scene(previous={"samples": first})), once, atol=0.1)


def test_a_kept_scene_goes_on_under_either_word_where_they_mean_the_same(runs: Path, scene) -> None:
    kept = latent(scene(run_name="one"))
    outputs = scene(run_name="one", seconds=1.8, noise="whole_video")
    assert torch.equal(latent(outputs)[:, :, :FRAMES], kept)
    assert json.loads((runs / "one/run.json").read_text())["settings"]["noise"] == "per_chunk"
    assert json.loads(outputs[3])["settings"]["noise"] == "whole_video"


@pytest.mark.parametrize(("before", "after"), [("per_chunk", "whole_video"), ("whole_video", "per_chunk")])
def test_a_kept_scene_that_would_change_in_the_middle_is_refused(runs: Path, scene, before: str, after: str) -> None:
    previous = {"samples": torch.randn(1, 16, 6, 2, 2)}
    scene(run_name="two", previous=previous, noise=before)
    with pytest.raises(ValueError, match=f"was made with noise '?{before}.*noise is '?{after}.*Set noise back"):
        scene(run_name="two", previous=previous, seconds=1.8, noise=after)


def test_a_kept_scene_of_a_version_without_the_choice_is_per_chunk(runs: Path, scene) -> None:
    previous = {"samples": torch.randn(1, 16, 6, 2, 2)}
    scene(run_name="old", previous=previous, noise="per_chunk")
    path = runs / "old/run.json"
    record = json.loads(path.read_text())
    assert record["settings"].pop("noise") == "per_chunk"
    sealed(path, record)
    scene(run_name="old", previous=previous, seconds=1.8, noise="per_chunk")
    with pytest.raises(ValueError, match="noise is '?whole_video"):
        scene(run_name="old", previous=previous, seconds=1.8, noise="whole_video")


NODE = "7"


def taking(*outputs: int) -> dict:
    """A workflow in which these outputs of the sampler are used."""
    takers = {f"taker {output}": {"class_type": "T", "inputs": {"any": [NODE, output]}} for output in outputs}
    return {NODE: {"class_type": "HeadForcingSampler", "inputs": {}}, **takers}


@pytest.fixture
def written(pack, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """All pictures that are encoded from now on, in one piece an append."""
    pieces: list[Tensor] = []
    writer = pack.module("nodes.video.mp4_writer").VideoWriter
    original = writer.append
    monkeypatch.setattr(writer, "append", lambda self, each: (pieces.append(each), original(self, each)))
    return pieces


def decodes(pack, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Frames of each call of the decoder from now on."""
    calls: list[int] = []
    decoder = pack.module("nodes.host.chunk_decoder").ChunkDecoder
    original = decoder.decode_loaded
    monkeypatch.setattr(
        decoder, "decode_loaded", lambda self, latent: (calls.append(latent.shape[2]), original(self, latent))[1]
    )
    return calls


def shown(video) -> Tensor:
    return video.get_components().images


@pytest.mark.parametrize(
    ("name", "before"),
    [("vae", 1), ("vae", 42), ("tiny_vae", 5), ("tiny_vae", 42), ("vae22", 5), ("tiny_vae22", 42)],
)
def test_the_new_part_alone_is_the_end_of_the_whole_to_the_last_bit(
    pack, request, written: list[Tensor], monkeypatch: pytest.MonkeyPatch, name: str, before: int
) -> None:
    """Though of a long video only what decides about its end is decoded, and nothing of it written."""
    vae, module = request.getfixturevalue(name), pack.module("nodes.video.new_part")
    latent = torch.randn(1, 48 if "22" in name else 16, before + 6, 2, 2, generator=torch.Generator().manual_seed(1))
    length = pack.module("headforcing_core.geometry").VideoShape(1.3, 16.0, 16, 16, 3, before)
    calls = decodes(pack, monkeypatch)
    with torch.inference_mode():
        whole, new = module.video_outputs(latent, vae, length, None, False)
        shown(whole)
        everything, all_frames = torch.cat(written), sum(calls)
        written.clear(), calls.clear()
        found = shown(new)
    assert len(found) == len(torch.cat(written)) == 21
    assert torch.equal(torch.cat(written), everything[4 * before - 3 :])
    assert (all_frames, sum(calls)) == (before + 6, min(before, 40) + 6)


@pytest.mark.parametrize("kept", [False, True], ids=["not kept", "kept"])
@pytest.mark.parametrize("outputs", [(4,), (1, 4), (1,), ()], ids=["new_video", "both", "video", "none"])
def test_whatever_is_used_is_decoded_once_and_both_are_right_later(
    pack, scene, runs: Path, vae, written: list[Tensor], monkeypatch, outputs: tuple[int, ...], kept: bool
) -> None:
    previous = {"samples": torch.randn(1, 16, 7, 2, 2, generator=torch.Generator().manual_seed(4))}
    calls = decodes(pack, monkeypatch)
    made = scene(unique_id=NODE, graph=taking(*outputs), vae=vae, previous=previous, run_name="kept" if kept else "")
    assert sum(calls) == (13 if kept or outputs else 0)
    pictures, is_alone = torch.cat(written) if written else None, outputs == (4,) and not kept
    if pictures is not None:
        assert len(pictures) == (21 if is_alone else 46)
    videos = [shown(made[output]) for output in (1, 4)]
    assert [len(each) for each in videos] == [46, 21]
    if is_alone or sum(calls) == 26:  # encoded apart, from other key frames on
        assert (videos[0][25:] - videos[1]).abs().mean() < 0.05
    else:
        assert torch.equal(videos[0][25:], videos[1])
    assert sum(calls) == (13 if kept or (outputs and not is_alone) else 26)
    assert made[4].get_duration() == pytest.approx(21 / 16)
    if kept:
        assert len(shown(made[1])) == 46 and made[1].get_stream_source() == str(runs / "kept/video.mp4")
        again = scene(unique_id=NODE, graph=taking(4), vae=vae, previous=previous, run_name="kept")
        assert torch.equal(shown(again[4]), videos[1]) and sum(calls) == 13


@pytest.mark.parametrize("beginning", ["nothing", "start image"])
def test_what_continues_nothing_is_new_as_a_whole(pack, scene, vae, beginning: str) -> None:
    given = {"start_image": torch.rand(1, 16, 16, 3)} if beginning == "start image" else {}
    made = scene(unique_id=NODE, graph=taking(4), vae=vae, **given)
    assert made[1] is made[4] and len(shown(made[4])) == 21


def test_without_a_vae_the_new_part_is_refused_as_the_video_is(scene) -> None:
    with pytest.raises(ValueError, match="vae is not connected, but the video output is used"):
        scene(unique_id=NODE, graph=taking(4))


def test_a_vae_that_cannot_stream_decodes_once_for_both(pack, scene, vae, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("head_forced_sampler", "video.latent_video"):
        monkeypatch.setattr(pack.module(f"nodes.{module}"), "can_stream", lambda vae: False)
    previous = {"samples": torch.randn(1, 16, 7, 2, 2)}
    made = scene(unique_id=NODE, graph=taking(1, 4), vae=vae, previous=previous)
    calls, decode = [], type(vae).decode
    monkeypatch.setattr(type(vae), "decode", lambda self, latent: (calls.append(1), decode(self, latent))[1])
    with torch.inference_mode():
        new, whole = shown(made[4]), shown(made[1])
    assert len(new) == 21 and torch.equal(whole[25:], new) and len(calls) == 1


@pytest.mark.parametrize("damage", ["no key frame", "shorter", "no film"])
def test_a_whole_video_that_cannot_be_cut_is_decoded(pack, vae, tmp_path: Path, damage: str) -> None:
    module = pack.module("nodes.video.new_part")
    latent = torch.randn(1, 16, 13, 2, 2)
    length = pack.module("headforcing_core.geometry").VideoShape(1.3, 16.0, 16, 16, 3, 7)
    path = tmp_path / "video.mp4"
    writer = pack.module("nodes.video.mp4_writer").VideoWriter
    with writer(path, 16, {}) as film:
        for part in torch.rand(24 if damage == "shorter" else 46, 16, 16, 3).split([24] + [22] * (damage != "shorter")):
            film.append(part)
    if damage == "no film":
        path.write_bytes(b"no film")
    with torch.inference_mode():
        assert len(shown(module.video_outputs(latent, vae, length, path, False)[1])) == 21
    assert module.cut_after(path, 25) is None


def test_a_cut_keeps_sound_and_workflow(pack, tmp_path: Path) -> None:
    import av
    import numpy as np

    path = tmp_path / "video.mp4"
    with av.open(path, "w", options={"movflags": "use_metadata_tags"}) as film:
        film.metadata["workflow"] = "{}"
        pictures, sound = film.add_stream("h264", rate=16), film.add_stream("aac", rate=16000)
        pictures.width = pictures.height = 32
        pictures.pix_fmt, pictures.gop_size, pictures.codec_context.max_b_frames = "yuv420p", 8, 0
        for number in range(32):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 8 * number, np.uint8), format="rgb24")
            film.mux(pictures.encode(frame))
            heard = av.AudioFrame.from_ndarray(np.full((1, 1000), number / 64, np.float32), "fltp", "mono")
            heard.sample_rate, heard.pts = 16000, 1000 * number
            film.mux(sound.encode(heard))
        film.mux(pictures.encode(None))
        film.mux(sound.encode(None))
    found = pack.module("nodes.video.new_part").cut_after(path, 16)
    with av.open(found) as film:
        assert film.metadata["workflow"] == "{}"
        shades = [frame.to_ndarray(format="rgb24").mean() for frame in film.decode(video=0)]
    assert shades == pytest.approx([8 * number for number in range(16, 32)], abs=3)
    with av.open(found) as film:
        heard = np.concatenate([frame.to_ndarray()[0] for frame in film.decode(audio=0)])
    assert len(heard) / 16000 == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("node_id", "number"),
    [
        ("7", "1"),
        ("second", "2"),
        ("third", "3"),
        ("loop.0.0.0_sampler", "1"),
        ("loop.0.0.11_sampler", "12"),
        ("9.0.0.1_8.0.0.2_12:5", "2-3"),
        ("copy.0.0.other", "2"),
        (None, "1"),
    ],
)
def test_a_scene_has_the_number_of_its_round_or_of_its_place(pack, node_id: str | None, number: str) -> None:
    from comfy_execution.graph import DynamicPrompt

    def sampler(previous: object = None) -> dict:
        return {"class_type": "HeadForcingSampler", "inputs": {"previous": previous, "seed": 1}}

    graph = DynamicPrompt(
        {
            "7": sampler(),
            "cut": {"class_type": "LatentCut", "inputs": {"samples": ["7", 0], "index": 0}},
            "second": sampler(["cut", 0]),
            "third": sampler(["second", 0]),
            "1.5_x": sampler(),
        }
    )
    for copy in ("loop.0.0.0_sampler", "loop.0.0.11_sampler", "9.0.0.1_8.0.0.2_12:5", "copy.0.0.other"):
        graph.add_ephemeral_node(copy, sampler(["7", 0]), "loop", "sampler")
    assert pack.module("nodes.host.wiring").scene_number(graph, node_id) == number
    assert pack.module("nodes.host.wiring").scene_number(graph, "1.5_x") == "1"


def test_a_run_is_kept_by_the_number_of_its_scene(pack, runs: Path, scene) -> None:
    graph = taking() | {"next": {"class_type": "HeadForcingSampler", "inputs": {"previous": [NODE, 0]}}}
    first = scene(unique_id=NODE, graph=graph, run_name="film-%n%")
    scene(unique_id="next", graph=graph, run_name="film-%n%", previous=first[0])
    other = scene(unique_id=NODE, graph=graph, seed=4)
    with pytest.raises(ValueError, match="The scene before has changed since the run 'film-2' was begun"):
        scene(unique_id="next", graph=graph, run_name="film-%n%", previous=other[0])
    assert sorted(path.name for path in runs.iterdir() if path.is_dir()) == ["film-1", "film-2"]
    check = pack.nodes["HeadForcingSampler"].validate_inputs
    assert check(run_name="film-%n%") is True and "run_name is '../1'" in check(run_name="../%n%")
    assert "run_name" in check(run_name="film-%m%")


def test_new_parts_joined_by_the_hosts_own_nodes_are_the_whole_film(pack, scene, vae) -> None:
    """Of scenes of whole chunks: 21 pictures, then 24."""
    from comfy_extras.nodes_video import CreateVideo, GetVideoComponents

    from nodes import ImageBatch

    first = scene(unique_id=NODE, graph=taking(1, 4), vae=vae, noise="whole_video")
    given = {"previous": first[0], "seconds": 1.5, "noise": "whole_video"}
    second = scene(unique_id=NODE, graph=taking(1, 4), vae=vae, **given)
    parts = [GetVideoComponents.execute(each[4]).args for each in (first, second)]
    (pictures,) = ImageBatch().batch(parts[0][0], parts[1][0])
    joined = CreateVideo.execute(pictures, float(parts[0][2])).args[0].get_components()
    whole = second[1].get_components()
    assert joined.frame_rate == whole.frame_rate and joined.images.shape == whole.images.shape == (45, 16, 16, 3)
    assert torch.equal(joined.images[21:], whole.images[21:])
    assert (joined.images[:21] - whole.images[:21]).abs().mean() < 0.05
