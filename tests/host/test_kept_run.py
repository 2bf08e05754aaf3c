"""Runs with a name: kept chunk by chunk, gone on with, made longer, made anew from a chunk on."""

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from torch import Tensor

from tests.host.conftest import conditioning

SECONDS, CHUNKS, PICTURES = 2.7, 4, 43
SIZE = {"width": 64, "height": 48}


@pytest.fixture(scope="module")
def keep(pack, video, model, labelled) -> Callable[..., tuple]:
    """Make a video that is kept as `film`."""

    def run(**inputs: object) -> tuple:
        inputs = {**SIZE, "seconds": SECONDS, "preset": "paper", "profile": labelled, "run_name": "film", **inputs}
        own = {name: inputs.pop(name) for name in ("episode", "kv_precision") if name in inputs}
        if own:
            inputs["policy"] = pack.run("HeadForcingCachePolicy", preset=inputs["preset"], **own)[0]
        return video(inputs.pop("model", model), conditioning(1), **inputs)

    return run


@pytest.fixture(scope="module")
def whole(keep) -> Tensor:
    """The latent of the same video when it is not kept."""
    return keep(run_name="")[0]["samples"]


def stopped(pack, monkeypatch: pytest.MonkeyPatch, after: int, run: Callable[[], object]) -> None:
    """Interrupt a run, as the server does it, in the second step of a chunk."""
    import comfy.model_management as management

    progress = pack.module("nodes.status.progress").StepProgress
    original = progress.step

    def step(self, chunk: int, number: int, x0: Tensor) -> None:
        if (chunk, number) == (after, 1):
            management.interrupt_current_processing(True)
        original(self, chunk, number, x0)

    with monkeypatch.context() as patch:
        patch.setattr(progress, "step", step)
        with pytest.raises(management.InterruptProcessingException):
            run()


def pictures(path: Path) -> int:
    with av.open(str(path)) as video:
        return sum(1 for _ in video.decode(video=0))


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"lock"}


def test_a_kept_run_has_its_chunks_video_report_and_timeline(runs: Path, keep, vae) -> None:
    latent, video, timeline, report = keep(vae=vae)
    chunks = {f"chunk_{chunk:05d}.safetensors" for chunk in range(CHUNKS)}
    others = {"run.json", "journal.jsonl", "report.json", "timeline.png", "strip.jsonl", "video.mp4"}
    assert files(runs / "film") == {*others, *chunks}
    assert pictures(runs / "film/video.mp4") == PICTURES
    assert video.get_dimensions() == (64, 48)
    kept = json.loads((runs / "film/report.json").read_text())
    assert kept == json.loads(report)
    assert len((runs / "film/journal.jsonl").read_text().splitlines()) == CHUNKS


@pytest.mark.parametrize("after", [1, 3])
def test_an_interrupted_run_goes_on_to_the_same_bits(
    pack, runs: Path, keep, whole: Tensor, vae, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    stopped(pack, monkeypatch, after, lambda: keep(vae=vae))
    done = {f"chunk_{chunk:05d}.safetensors" for chunk in range(after)}
    assert files(runs / "film") == {"run.json", "journal.jsonl", "strip.jsonl", "video.mp4", *done}
    assert pictures(runs / "film/video.mp4") == 12 * after - 3
    latent, _, _, report = keep(vae=vae)
    assert torch.equal(latent["samples"], whole)
    assert pictures(runs / "film/video.mp4") == PICTURES
    seconds = [chunk["seconds"] for chunk in json.loads(report)["chunks"]]
    assert seconds[:after] == [0.0] * after and min(seconds[after:]) > 0


def test_a_run_stopped_while_it_is_rebuilt_keeps_the_longer_video(
    pack, runs: Path, keep, vae, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(pack, monkeypatch, 3, lambda: keep(vae=vae))
    import comfy.model_management as management

    progress = pack.module("nodes.status.progress").StepProgress
    with monkeypatch.context() as patch:
        patch.setattr(progress, "rebuilt", lambda self, done, chunks: management.interrupt_current_processing(True))
        with pytest.raises(management.InterruptProcessingException):
            keep(vae=vae)
    assert pictures(runs / "film/video.mp4") == 12 * 3 - 3
    keep(vae=vae)
    assert pictures(runs / "film/video.mp4") == PICTURES
    assert not (runs / "film/video_next.mp4").exists()


def test_a_whole_run_is_given_again_without_a_step(
    pack, runs: Path, keep, vae, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = keep()
    monkeypatch.setattr(pack.module("nodes.host.backbone"), "HostBackbone", None)  # nothing could be sampled
    again = keep(vae=vae)
    assert torch.equal(again[0]["samples"], first[0]["samples"]) and torch.equal(again[2], first[2])
    assert again[3] == (runs / "film/report.json").read_text()
    assert pictures(runs / "film/video.mp4") == PICTURES  # which was not there the first time


def test_a_run_is_made_longer_and_shorter(runs: Path, keep, whole: Tensor) -> None:
    keep(seconds=1.2)
    longer = keep(seconds=SECONDS)[0]["samples"]
    assert torch.equal(longer, whole)
    shorter, _, _, report = keep(seconds=1.2)
    assert torch.equal(shorter["samples"], longer[:, :, : shorter["samples"].shape[2]])
    assert any("has 4 chunks; the first 2 are used" in note for note in json.loads(report)["notes"])


def test_a_shorter_video_of_a_run_leaves_what_is_kept_as_it_is(runs: Path, keep, vae) -> None:
    keep(vae=vae)
    before = {path.name: path.read_bytes() for path in (runs / "film").iterdir()}
    shorter = keep(seconds=1.2, vae=vae)
    assert len(shorter[1].get_components().images) == 19
    assert before == {path.name: path.read_bytes() for path in (runs / "film").iterdir()}


def test_a_run_that_is_not_whole_goes_on_with_its_own_seed(runs: Path, keep) -> None:
    """The page draws another seed each time Run is pressed."""
    keep(seconds=1.2, seed=1)
    latent, _, _, report = keep(seed=2)
    assert torch.equal(latent["samples"], keep(run_name="", seed=1)[0]["samples"])
    assert any("went on with its seed 1, not with 2" in note for note in json.loads(report)["notes"])


def test_another_seed_from_a_chunk_on_keeps_the_take_before(runs: Path, keep, vae) -> None:
    first = keep(seed=1, vae=vae)[0]["samples"]
    with pytest.raises(ValueError, match="has seed 1, now it would be 2"):
        keep(seed=2)
    again = keep(seed=2, from_chunk=2, vae=vae)[0]["samples"]
    other = keep(seed=2, run_name="")[0]["samples"]
    assert torch.equal(again[:, :, :6], first[:, :, :6])
    assert not torch.equal(again[:, :, 6:], first[:, :, 6:]) and not torch.equal(again[:, :, 6:], other[:, :, 6:])
    assert pictures(runs / "film_take_1/video.mp4") == PICTURES
    assert torch.equal(keep(seed=1, run_name="film_take_1")[0]["samples"], first)
    assert torch.equal(keep(seed=2, from_chunk=2)[0]["samples"], again)
    assert {path.name for path in runs.iterdir()} == {"film", "film_take_1"}


def test_a_new_run_and_a_replaced_one(runs: Path, keep) -> None:
    first = keep(seed=1)[0]["samples"]
    second = keep(seed=2, on_existing_run="new")
    assert (runs / "film_2").is_dir()
    assert any("kept as 'film_2'" in note for note in json.loads(second[3])["notes"])
    replaced = keep(seed=3, on_existing_run="replace")[0]["samples"]
    assert torch.equal(keep(seed=3)[0]["samples"], replaced) and not torch.equal(replaced, first)


def test_a_run_goes_on_with_the_heads_that_it_began_with(pack, runs: Path, keep, model) -> None:
    keep(seconds=1.2)
    report = json.loads(keep(seconds=1.8, profile=None)[3])
    assert not any("measured" in note for note in report["notes"])
    other = pack.run("HeadForcingProfileHeads", model=model, rule="random", seed=9)[0]
    with pytest.raises(ValueError, match="was made with head labels"):
        keep(profile=other)


def test_a_damaged_chunk_is_made_again(runs: Path, keep) -> None:
    whole = keep()[0]["samples"]
    path = runs / "film/chunk_00002.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    again, _, _, report = keep()
    assert torch.equal(again["samples"], whole)
    assert any("chunk_00002.safetensors is damaged" in note for note in json.loads(report)["notes"])


@pytest.mark.parametrize("change", [lambda data: data[: len(data) // 2], lambda data: data[:-9] + b"x" + data[-8:]])
def test_a_video_that_was_changed_is_made_again(runs: Path, keep, vae, change: Callable[[bytes], bytes]) -> None:
    keep(vae=vae)
    path = runs / "film/video.mp4"
    good = path.read_bytes()
    path.write_bytes(change(good))
    assert len(keep(vae=vae)[1].get_components().images) == PICTURES
    assert path.read_bytes() == good
    before = path.stat().st_mtime_ns
    keep(vae=vae)
    assert path.stat().st_mtime_ns == before  # and then no more


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"run_name": "../film"}, "run_name is '../film'"),
        ({"run_name": "", "from_chunk": 2}, "from_chunk is 2, but run_name is empty"),
        ({"noise": "native"}, "noise is native, and run_name is set"),
        ({"from_chunk": 2}, "from_chunk"),
        ({"run_name": "con"}, "run_name is 'con'"),
    ],
)
def test_what_cannot_be_kept_is_refused_before_the_first_step(
    runs: Path, keep, model, inputs: dict[str, object], sentence: str
) -> None:
    starved = model.clone()

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("a forward pass was made")

    starved.model_options["transformer_options"]["optimized_attention_override"] = never
    with pytest.raises(ValueError, match=sentence):
        keep(model=starved, **inputs)
    assert not runs.exists() or not list(runs.iterdir())


@pytest.mark.parametrize(
    ("change", "setting"),
    [
        ({"preset": "low_vram"}, r"memory \(Head Cache Policy\) .*Set memory back in Head Cache Policy"),
        (
            {"episode": "frame"},
            r"episode \(Head Cache Policy\) 'chunk', now episode \(Head Cache Policy\) is 'frame'.*Set episode back in",
        ),
        ({"kv_precision": "int8"}, r"kv_precision .* 'model', now .* is 'int8'.*Set kv_precision back in Head Cache"),
        ({"sigmas": torch.tensor([1.0, 0.5, 0.0])}, "sigmas"),
    ],
)
def test_another_setting_is_not_gone_on_with(runs: Path, keep, change: dict[str, object], setting: str) -> None:
    keep(seconds=0.5)
    before = {path.name: path.read_bytes() for path in (runs / "film").iterdir()}
    with pytest.raises(ValueError, match=setting):
        keep(**change)
    assert before == {path.name: path.read_bytes() for path in (runs / "film").iterdir()}


def test_a_video_that_cannot_be_written_does_not_end_the_run(
    pack, runs: Path, keep, whole: Tensor, vae, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = pack.module("nodes.video.mp4_writer").VideoWriter
    original = writer.append

    def fails(self, images: Tensor) -> None:
        if self.pixel_frames > 20:
            raise RuntimeError("video.mp4 could not be written: No space left on device.")
        original(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(writer, "append", fails)
        latent, video, _, report = keep(vae=vae)
    assert torch.equal(latent["samples"], whole)
    assert any("The video stopped after 21 of 43 pictures" in note for note in json.loads(report)["notes"])
    assert pictures(runs / "film/video.mp4") == 21
    assert len(video.get_components().images) == PICTURES  # decoded again when it is taken
    keep(vae=vae)
    assert pictures(runs / "film/video.mp4") == PICTURES


def test_the_streamed_video_shows_what_the_whole_latent_decodes_to(runs: Path, keep, vae) -> None:
    latent, video, _, _ = keep(vae=vae, fps=16.0)
    components = video.get_components()
    with torch.inference_mode():
        stock = vae.decode(latent["samples"])[0, :PICTURES]
    assert components.frame_rate == Fraction(16) and components.images.shape == stock.shape
    apart = torch.cdist(components.images.flatten(1), stock.flatten(1), p=1)  # (pictures, pictures)
    assert torch.equal(apart.argmin(dim=1), torch.arange(PICTURES))  # H.264 leaves of noise enough to tell them apart


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"from_chunk": 2}, "there is no run 'film' yet"),
        ({"from_chunk": 1, "on_existing_run": "new"}, "on_existing_run is new, which begins at chunk 0"),
        ({"run_name": "busy"}, "is in use"),
        ({"run_name": "uniform"}, r"was made with local \(Head Cache Policy\)"),
    ],
)
def test_what_the_folder_refuses_is_refused_before_a_profile_is_measured(
    pack, runs: Path, keep, monkeypatch: pytest.MonkeyPatch, inputs: dict[str, object], sentence: str
) -> None:
    from filelock import FileLock

    keep(run_name="uniform", preset="uniform", profile=None, seconds=0.5)
    (runs / "busy").mkdir()
    monkeypatch.setattr(pack.module("nodes.profiles.measure_on_host"), "measure", None)  # nothing could be measured
    with FileLock(runs / "busy" / "lock"), pytest.raises((ValueError, RuntimeError), match=sentence):
        keep(profile=None, **inputs)


def test_a_run_without_a_profile_measures_one_and_goes_on_with_it(
    pack, runs: Path, keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = json.loads(keep(profile=None, seconds=1.2)[3])
    assert any("one was measured first" in note for note in first["notes"])
    kept = json.loads((runs / "film/run.json").read_text())["profile"]
    assert kept["labels"] == first["profile"]["labels"]
    monkeypatch.setattr(pack.module("nodes.profiles.measure_on_host"), "measure", None)
    longer = json.loads(keep(profile=None)[3])
    assert longer["profile"] == {**first["profile"], "attention": []}  # which the run does not keep


def test_a_report_that_cannot_be_kept_does_not_end_the_run(
    pack, runs: Path, keep, vae, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = pack.module("headforcing_core.run_store.store").RunStore
    with monkeypatch.context() as patch:

        def fails(self, text: str, timeline: bytes) -> None:
            raise RuntimeError("The report of the run 'film' could not be kept: No space left on device.")

        patch.setattr(store, "write_report", fails)
        latent, _, _, report = keep(vae=vae)
    assert json.loads(report)["notes"][-1].startswith("The report of the run 'film' could not be kept")
    assert not (runs / "film/report.json").exists() and pictures(runs / "film/video.mp4") == PICTURES
    assert torch.equal(keep(vae=vae)[0]["samples"], latent["samples"])
    assert (runs / "film/report.json").exists()


def test_a_run_is_replaced_only_once_the_new_one_has_its_profile(
    pack, runs: Path, keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep()
    before = {path.name: path.read_bytes() for path in (runs / "film").iterdir()}
    monkeypatch.setattr(pack.module("nodes.profiles.measure_on_host"), "measure", None)
    with pytest.raises(TypeError):
        keep(profile=None, on_existing_run="replace")
    assert before == {path.name: path.read_bytes() for path in (runs / "film").iterdir()}
