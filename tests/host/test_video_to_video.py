"""A video is made of another one: each chunk begins as it with noise, whatever the family, also in a kept run."""

import json
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from torch import Tensor

from tests.host.conftest import conditioning
from tests.host.test_recompute import SEED, SELF_FORCING, SIZE, TOLERANCE, Case, host_way, naive

PICTURES = 43  # of a run of 4 chunks of 3 frames
LEVELS = (0.8, 0.625, 0.0)  # of Self-Forcing at strength 0.8
NEEDS_VIDEO = "streamdiffusion_v2"


@pytest.fixture(autouse=True)
def _as_the_host_runs_nodes(pack) -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def make(pack, model, vae) -> Callable[..., tuple[Tensor, dict]]:
    """Make 43 small pictures of a video; their latent and the report."""
    policy = pack.run("HeadForcingCachePolicy", preset="full")[0]
    given = {"model": model, "policy": policy, "positive": conditioning(1), "vae": vae, "video": pictures(60)}

    def run(**inputs: object) -> tuple[Tensor, dict]:
        inputs = {**given, "seconds": 2.7, "width": 32, "height": 32, **inputs}
        latent, _, _, report = pack.run("HeadForcingSampler", **inputs)
        return latent["samples"], json.loads(report)

    return run


@pytest.fixture(scope="module")
def whole(make) -> Tensor:
    """The latent of a video that is not kept."""
    with torch.inference_mode():
        return make()[0]


@pytest.fixture(scope="module")
def of_file(tmp_path_factory: pytest.TempPathFactory):
    """The VIDEO of a file."""
    return film(tmp_path_factory.mktemp("source") / "v.mp4", pictures(60))


@pytest.fixture(scope="module")
def whole_of_file(make, of_file) -> Tensor:
    """What is made of it, not kept."""
    with torch.inference_mode():
        return make(video=of_file)[0]


@pytest.fixture
def begun(pack, monkeypatch: pytest.MonkeyPatch) -> dict[int, tuple[Tensor, Tensor]]:
    """Of each chunk its noise, and what it began as."""
    found: dict[int, tuple[Tensor, Tensor]] = {}
    plan = pack.module("headforcing_core.rollout.plan").RolloutPlan
    original = plan.start_of

    def start_of(self, chunk: int, noise: Tensor) -> Tensor:
        found[chunk] = noise, original(self, chunk, noise)
        return found[chunk][1]

    monkeypatch.setattr(plan, "start_of", start_of)
    return found


def pictures(count: int, side: int = 32) -> Tensor:
    """An IMAGE in which everything moves."""
    return torch.rand(count, side, side, 3, generator=torch.Generator().manual_seed(7))


def film(path: Path, shown: Tensor, rate: int = 16):
    """A VIDEO of a file, without loss but for its colours."""
    from comfy_api.latest import InputImpl

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"qp": "0"})
        stream.height, stream.width, stream.pix_fmt = *shown.shape[1:3], "yuv444p"
        for picture in shown:
            frame = av.VideoFrame.from_ndarray((picture * 255).round().byte().numpy(), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return InputImpl.VideoFromFile(str(path))


def in_model_space(model, vae, shown: Tensor) -> Tensor:
    """The latent of pictures, as the host makes it of the whole."""
    return model.model.process_latent_in(vae.encode(shown).float())


def test_it_is_what_the_plain_host_model_makes(make, model, vae) -> None:
    shown = torch.rand(60, 8 * SIZE[0], 8 * SIZE[1], 3, generator=torch.Generator().manual_seed(3))
    source = in_model_space(model, vae, shown[:33]).split(3, dim=2)
    way = host_way(LEVELS, source=lambda chunk: source[chunk], source_level=0.8)
    wanted = torch.cat(naive(Case(SELF_FORCING, 3, way), model), dim=2)
    given = {"positive": conditioning(11), "seed": SEED, "seconds": 2.0, "width": 8 * SIZE[1], "height": 8 * SIZE[0]}
    found = model.model.process_latent_in(make(video=shown, **given)[0])
    assert wanted.std() > 0.3 and found.shape == wanted.shape
    assert (found - wanted).abs().max() <= TOLERANCE


FAMILIES = {  # file, family, VAE, strength: sigmas, timesteps, frames a chunk
    ("self_forcing_dmd.safetensors", "auto", "vae", 0.6): ((0.6, 0.0), (), 3),
    ("self_forcing_dmd.safetensors", "causal_forcing_1step", "vae", 0.8): ((0.8, 0.0), (), 1),
    ("self_forcing_dmd.safetensors", NEEDS_VIDEO, "vae", 0.8): ((0.7, 0.5, 0.0), (), 1),
    ("longlive2_5b_bf16.pt", "auto", "vae22", 0.8): ((0.8, 0.624687344, 0.0), (800.0, 624.0), 8),
}


@pytest.mark.parametrize("case", FAMILIES, ids=lambda case: f"{case[1]} of {case[0][:8]} at {case[3]:g}")
@pytest.mark.parametrize("more", [7, -4], ids=["longer", "shorter"])
def test_a_chunk_of_every_family_begins_as_the_video_with_noise(
    request: pytest.FixtureRequest, make, load, begun: dict, case: tuple, more: int
) -> None:
    (name, family, fixture, strength), (sigmas, timesteps, n) = case, FAMILIES[case]
    own, model = request.getfixturevalue(fixture), load(name, family=family)
    asked = 4 * n + 5  # pictures: two chunks, or three of one frame
    shown = pictures(asked + more)
    latent, report = make(model=model, vae=own, video=shown, strength=strength, seconds=asked / 20, fps=20.0)
    settings, made = report["settings"], asked + min(0, more)
    chunks = -(-(-(-(made - 1) // 4) + 1) // n)
    assert (settings["chunks"], settings["pixel_frames"]) == (chunks, made) and len(begun) == chunks > 1
    assert settings["sigmas"] == pytest.approx(sigmas) and settings["timesteps"] == pytest.approx(timesteps)
    assert settings["strength"] == strength and len(settings["source"]) == 64
    missing = max(0, 4 * chunks * n - 3 - len(shown))
    held = torch.cat([shown, shown[-1:].repeat(missing, 1, 1, 1)])[: 4 * chunks * n - 3]
    source = in_model_space(model, own, held)
    for chunk, (noise, start) in begun.items():
        clean = source[:, :, chunk * n : chunk * n + n]
        assert (start - (1 - strength) * clean - strength * noise).abs().max() < 1e-5
    notes = [note for note in report["notes"] if f"has {made / 20:.2f} s at 20 pictures a second" in note]
    assert len(notes) == (more < 0) and torch.isfinite(latent).all()


def test_the_first_chunk_of_a_family_keeps_its_own_steps_below_strength(make, load) -> None:
    model = load("self_forcing_dmd.safetensors", family="causal_forcing_1step")
    settings = make(model=model, seconds=0.5)[1]["settings"]
    assert settings["first_sigmas"] == pytest.approx(LEVELS) and settings["sigmas"] == [0.8, 0.0]


STEPS = [  # levels, strength, what is left
    ((1.0, 0.9375, 0.8333, 0.625, 0.0), 0.8, (0.8, 0.625, 0.0)),
    ((1.0, 0.9375, 0.8333, 0.625, 0.0), 0.05, (0.05, 0.0)),
    ((1.0, 0.9375, 0.8333, 0.625, 0.0), 1.0, (1.0, 0.9375, 0.8333, 0.625, 0.0)),
    ((1.0, 0.9375, 0.8333, 0.625, 0.0), 0.625, (0.625, 0.0)),
    ((1.0, 0.9375, 0.8333, 0.625, 0.0), 0.6255, (0.625, 0.0)),
    ((1.0, 0.0), 0.8, (0.8, 0.0)),
    ((0.5, 0.0), 0.8, (0.8, 0.5, 0.0)),
    ((0.9998, 0.9373, 0.0), 1.0, (0.9998, 0.9373, 0.0)),
]


@pytest.mark.parametrize(("levels", "strength", "left"), STEPS)
def test_the_steps_are_strength_and_those_below(pack, levels: tuple, strength: float, left: tuple) -> None:
    steps = pack.module("headforcing_core.families.family").Steps
    told = tuple(round(1000 * level) for level in levels[:-1])
    found = steps(levels, told).begun_at(strength)
    assert found.sigmas == left
    assert found.timesteps == pytest.approx([1000 * each for each in left[:-1]], abs=0.51)
    assert steps(levels).begun_at(strength) == steps(left)


@pytest.mark.parametrize(("strength", "first"), [(0.8, 0.7), (1.0, 0.9), (0.3, 0.2), (0.15, 0.075), (0.05, 0.025)])
def test_the_first_step_is_told_a_tenth_less_where_the_family_was_taught_so(pack, strength, first) -> None:
    family = pack.module("headforcing_core.families.table").FAMILIES[NEEDS_VIDEO]
    steps = family.steps_from_video(family.steps, strength)
    assert steps.sigmas[0] == pytest.approx(first) and steps.sigmas[-1] == 0
    assert all(a > b for a, b in zip(steps.sigmas, steps.sigmas[1:], strict=False))


def test_strength_1_ignores_the_video(make) -> None:
    assert torch.equal(make(strength=1.0, seconds=1.2)[0], make(video=None, vae=None, seconds=1.2)[0])


def test_strength_without_a_video_is_told_once_it_is_set(make) -> None:
    said = "strength is 0.5, but no video is connected, so it does nothing."
    for strength in (0.8, 0.5):
        notes = make(video=None, strength=strength, seconds=0.5)[1]["notes"]
        assert notes.count(said) == (strength == 0.5)


def test_connected_levels_are_cut_too(make) -> None:
    sigmas = torch.tensor([1.0, 0.9, 0.7, 0.3, 0.0])
    report = make(sigmas=sigmas, seconds=0.5)[1]
    assert report["settings"]["sigmas"] == pytest.approx([0.8, 0.7, 0.3, 0.0])
    assert "Steps: 0.8, 0.7, 0.3, 0 (the sigmas input, from video at strength 0.8)." in report["notes"]


def test_a_video_goes_on_with_pictures_of_the_source_from_its_first_new_frame(
    runs: Path, make, begun: dict, model, vae
) -> None:
    """Its frames hold four pictures each, so the first one stands before them once more."""
    previous = {"samples": torch.randn(1, 16, 3, 4, 4, generator=torch.Generator().manual_seed(2))}
    shown = pictures(30)
    given = {"previous": previous, "video": shown}
    latent, report = make(**given, seconds=1.5)
    assert latent.shape[2] == 3 + 6 and report["settings"]["pixel_frames"] == 9 + 24
    source = in_model_space(model, vae, torch.cat([shown[:1], shown[:24]]))[:, :, 1:]
    for chunk, (noise, start) in begun.items():
        assert (start - 0.2 * source[:, :, 3 * chunk : 3 * chunk + 3] - 0.8 * noise).abs().max() < 1e-5
    make(**given, seconds=0.75, run_name="film")
    assert torch.equal(make(**given, seconds=1.5, run_name="film")[0], latent)


def test_where_the_source_ends_too_early_its_last_picture_stays(pack, make, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = pictures(60)
    held = torch.cat([shown[:20], shown[19:20].repeat(40, 1, 1, 1)])
    wanted = make(video=held, seconds=2.0)[0]
    monkeypatch.setattr(pack.module("nodes.video.source_video").SourceVideo, "expected_pictures", lambda self: 60)
    found, report = make(video=shown[:20], seconds=2.0)
    assert torch.equal(found, wanted)
    assert [note for note in report["notes"] if "ended after 20 pictures of the 60 that it should have" in note]


def test_a_file_that_is_damaged_on_the_way_costs_no_run(pack, make, of_file, monkeypatch) -> None:
    source = pack.module("nodes.video.source_video").SourceVideo
    original = source.pictures

    def broken(self, first: int = 0) -> Iterator[Tensor]:
        for number, picture in enumerate(original(self, first)):
            if number == 30:
                raise RuntimeError("The video cannot be read: v.mp4.")
            yield picture

    monkeypatch.setattr(source, "pictures", broken)
    latent, report = make(video=of_file, seconds=2.0)
    (note,) = [note for note in report["notes"] if "ended after 30 pictures of the 60" in note]
    assert note.endswith("to the end. The video cannot be read: v.mp4.") and torch.isfinite(latent).all()


def test_few_pictures_are_read_ahead_and_the_file_is_closed(pack, make, tmp_path: Path, monkeypatch) -> None:
    read: list[int] = []
    source = pack.module("nodes.video.source_video").SourceVideo
    original = source.pictures

    def counted(self, first: int = 0) -> Iterator[Tensor]:
        for picture in original(self, first):
            read.append(1)
            yield picture

    monkeypatch.setattr(source, "pictures", counted)
    make(video=film(tmp_path / "v.mp4", pictures(60)), seconds=1.2)
    assert 21 <= len(read) <= 25
    assert not [
        each for each in Path("/proc/self/fd").iterdir() if each.is_symlink() and "v.mp4" in str(each.readlink())
    ]


def cut_off(pack, monkeypatch: pytest.MonkeyPatch, after: int, run: Callable[[], object]) -> None:
    """Interrupt a run, as the server does it, when a chunk of the source was asked for."""
    import comfy.model_management as management

    latents = pack.module("nodes.video.source_latents").SourceLatents
    original = latents.frames

    def frames(self, own: range) -> Tensor:
        if own.start == 3 * after:
            management.interrupt_current_processing(True)
        return original(self, own)

    with monkeypatch.context() as patch:
        patch.setattr(latents, "frames", frames)
        with pytest.raises(management.InterruptProcessingException):
            run()


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_kept_run_goes_on_from_every_chunk_to_the_same_bits(
    pack, runs: Path, make, of_file, whole_of_file: Tensor, monkeypatch, after: int
) -> None:
    cut_off(pack, monkeypatch, after, lambda: make(video=of_file, run_name="film"))
    assert len(list((runs / "film").glob("chunk_*.safetensors"))) == after
    assert torch.equal(make(video=of_file, run_name="film")[0], whole_of_file)


def test_a_kept_run_is_made_longer_anew_from_a_chunk_and_replaced(runs: Path, make, whole: Tensor) -> None:
    make(run_name="film", seconds=1.2)
    assert torch.equal(make(run_name="film")[0], whole)
    take = make(run_name="film", from_chunk=3, seed=5)[0]
    assert torch.equal(take[:, :, :9], whole[:, :, :9]) and not torch.equal(take[:, :, 9:], whole[:, :, 9:])
    assert torch.equal(make(run_name="film_take_1")[0], whole)
    replaced = make(run_name="film", on_existing_run="replace", seconds=0.5)[0]
    assert torch.equal(replaced, whole[:, :, :3])


def test_a_run_that_is_whole_opens_no_source(pack, runs: Path, make, whole: Tensor, monkeypatch) -> None:
    make(run_name="film", seconds=1.2)
    monkeypatch.setattr(pack.module("nodes.video.source_video").SourceVideo, "pictures", None)
    (runs / "film" / "report.json").unlink()  # so that it is rebuilt
    assert torch.equal(make(run_name="film", seconds=1.2)[0], whole[:, :, :6])


OTHERS = {
    "another video": ({"video": pictures(61)}, "made with video '[0-9a-f]{64}', now video is '.*Connect the video of"),
    "none": ({"video": None}, r"made with video '[0-9a-f]{64}', now video is \(not set\)"),
    "another strength": ({"strength": 0.5}, "made with strength 0.8, now strength is 0.5.*Set strength back"),
    "another speed": ({"fps": 20.0}, r"made with fps \(of the video that it was made of\) 16.0, now .* is 20.0"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_would_not_go_together_is_refused(runs: Path, make, case: str) -> None:
    change, said = OTHERS[case]
    make(run_name="film", seconds=0.5)
    with pytest.raises(ValueError, match=said):
        make(run_name="film", seconds=1.0, **change)


def test_a_run_of_noise_alone_does_not_go_on_with_a_video(runs: Path, make) -> None:
    make(run_name="film", seconds=0.5, video=None)
    with pytest.raises(ValueError, match=r"made with video \(not set\), now video is '"):
        make(run_name="film", seconds=1.0)


def test_a_file_is_known_by_its_pictures_whatever_else_is_in_it(pack, tmp_path: Path) -> None:
    source = pack.module("nodes.video.source_video").SourceVideo
    from comfy_api.latest import InputImpl

    film(tmp_path / "a.mp4", pictures(8)), film(tmp_path / "b.mp4", pictures(9)[1:])
    with av.open(str(tmp_path / "a.mp4")) as read, av.open(str(tmp_path / "c.mp4"), "w") as written:
        written.metadata["comment"] = "another workflow"
        stream = written.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(read.streams.video[0]):
            if packet.size:
                packet.stream = stream
                written.mux(packet)
    assert (tmp_path / "a.mp4").read_bytes() != (tmp_path / "c.mp4").read_bytes()

    def known(name: str, **trim: float) -> str:
        return source(InputImpl.VideoFromFile(str(tmp_path / name), **trim), 32, 32, 16.0).sha256()

    assert known("a.mp4") == known("a.mp4") == known("c.mp4")
    assert len({known("a.mp4"), known("b.mp4"), known("a.mp4", start_time=0.25), known("a.mp4", duration=0.25)}) == 4


@pytest.mark.parametrize("kind", ["batch", "alpha", "components", "rate"])
def test_pictures_in_memory_are_known_by_their_colours_and_speed(pack, kind: str) -> None:
    from comfy_api.latest import InputImpl, Types

    shown, rate = pictures(6), Fraction(30 if kind == "rate" else 16)
    source = pack.module("nodes.video.source_video").SourceVideo
    if kind in ("components", "rate"):
        plain, given = (
            InputImpl.VideoFromComponents(Types.VideoComponents(images=shown, frame_rate=each))
            for each in (Fraction(16), rate)
        )
    else:
        plain, given = shown, torch.cat([shown, torch.rand(6, 32, 32, 1)], dim=-1) if kind == "alpha" else shown.clone()
    first, second = (source(each, 32, 32, 16.0).sha256() for each in (plain, given))
    assert (first == second) == (kind != "rate")
    assert source(pictures(5), 32, 32, 16.0).sha256() != first


def test_the_vae_elsewhere_decodes_beside_the_model_but_never_while_it_encodes(
    pack, runs: Path, make, whole: Tensor, apart, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decoder waits for a step of the next chunk, which would never come if it were waited for."""
    decoder, latents = pack.module("nodes.host.chunk_decoder"), pack.module("nodes.video.source_latents")
    progress, stepped, busy = pack.module("nodes.status.progress").StepProgress, threading.Event(), threading.Event()
    decode, frames, step = decoder.ChunkDecoder.decode_loaded, latents.SourceLatents.frames, progress.step
    threads: list[str] = []

    def stepping(self, chunk: int, number: int, x0: Tensor) -> None:
        step(self, chunk, number, x0)
        if chunk == 1:
            stepped.set()

    def decoding(self, latent: Tensor) -> Tensor:
        threads.append(threading.current_thread().name)
        busy.set()
        assert stepped.wait(20)
        made = decode(self, latent)
        busy.clear()
        return made

    def encoding(self, own: range) -> Tensor:
        assert not busy.is_set()
        return frames(self, own)

    monkeypatch.setattr(progress, "step", stepping)
    monkeypatch.setattr(decoder.ChunkDecoder, "decode_loaded", decoding)
    monkeypatch.setattr(latents.SourceLatents, "frames", encoding)
    assert torch.equal(make(vae=apart, run_name="film")[0], whole)
    assert threads == ["head-forcing-decoding_0"] * 4
    with av.open(str(runs / "film" / "video.mp4")) as made:
        assert sum(1 for _ in made.decode(video=0)) == PICTURES


@pytest.mark.parametrize("where", ["vae", "apart"])
def test_what_is_made_is_in_the_video_when_encoding_is_interrupted(
    request: pytest.FixtureRequest, pack, runs: Path, make, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    vae = request.getfixturevalue(where)
    cut_off(pack, monkeypatch, 2, lambda: make(vae=vae, run_name="film"))
    assert len(list((runs / "film").glob("chunk_*.safetensors"))) == 2
    with av.open(str(runs / "film" / "video.mp4")) as made:
        assert sum(1 for _ in made.decode(video=0)) == 21


def test_scenes_and_recall_hold_over_a_video(pack, make, clip, labelled) -> None:
    schedule = pack.run("HeadForcingPromptSchedule", clip=clip, text="[0s] a fox\n[0.8s] a hare\n[1.6s cut] a fox")[0]
    policy = pack.run("HeadForcingCachePolicy", preset="recall")[0]
    given = {"positive": None, "schedule": schedule, "policy": policy, "profile": labelled}
    latent, report = make(**given)
    other, _ = make(**given, video=pictures(60).flip(0))
    assert len(report["segments"]) == 3 and report["recall"]["choices"] > 0
    assert torch.isfinite(latent).all() and not torch.equal(latent, other)


def test_a_prompt_typed_on_the_way_makes_what_the_schedule_makes(pack, make, clip, monkeypatch) -> None:
    def scenes(text: str) -> dict[str, object]:
        schedule = pack.run("HeadForcingPromptSchedule", clip=clip, text=text)[0]
        return {"positive": None, "schedule": schedule, "seconds": 2.0}

    progress, live = pack.module("nodes.status.progress").StepProgress, pack.module("nodes.run.live_mailbox")
    original = progress.step

    def step(self, chunk: int, number: int, x0: Tensor) -> None:
        if (chunk, number) == (0, 1):
            live.mailbox_of("7").put("a hare", "flush")
        original(self, chunk, number, x0)

    with monkeypatch.context() as patch:
        patch.setattr(progress, "step", step)
        typed, report = make(**scenes("a fox"), unique_id="7")
    assert [segment["live"] for segment in report["segments"]] == [False, True]
    assert torch.equal(make(**scenes(report["schedule"]))[0], typed)


BAD = {
    "no VAE": ({"vae": None}, "video is connected without vae.*wan_2.1_vae.safetensors"),
    "a start image": ({"start_image": pictures(1)}, "Both start_image and video are connected.*Disconnect one"),
    "nan": ({"strength": float("nan")}, "strength is nan"),
    "nothing": ({"strength": 0.0}, "strength is 0. "),
    "too much": ({"strength": 1.5}, "strength is 1.5"),
    "no colours": ({"video": torch.rand(5, 32, 32, 1)}, "video has shape .*Pictures are"),
    "no pictures": ({"video": torch.rand(0, 32, 32, 3)}, "video has shape .*Pictures are"),
    "one dimension too few": ({"video": torch.rand(32, 32, 3)}, "video has shape .*Pictures are"),
    "a latent": ({"video": {"samples": torch.zeros(1, 16, 3, 4, 4)}}, "video is a dict"),
    "NaN": ({"video": torch.full((9, 32, 32, 3), float("nan"))}, "video, encoded by this vae, holds NaN"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_made_of_is_refused_in_words(make, case: str) -> None:
    change, said = BAD[case]
    with pytest.raises(ValueError, match=said):
        make(seconds=0.5, **change)


def test_a_vae_that_cannot_go_on_and_files_that_are_none_are_refused(pack, make, vae, tmp_path: Path, monkeypatch):
    from comfy_api.latest import InputImpl

    path = tmp_path / "v.mp4"
    for content in (b"", b"no video"):
        path.write_bytes(content)
        with pytest.raises(RuntimeError, match="The video cannot be read"):
            make(video=InputImpl.VideoFromFile(str(path)))
    path.unlink()
    with pytest.raises(RuntimeError, match="The video cannot be read"):
        make(video=InputImpl.VideoFromFile(str(path)))
    monkeypatch.setattr(pack.module("nodes.host.chunk_encoder"), "encoder_of", lambda vae: None)
    with pytest.raises(ValueError, match="cannot encode a video in pieces"):
        make()


def test_a_family_that_needs_a_video_is_not_run_without(make, load) -> None:
    model = load("self_forcing_dmd.safetensors", family=NEEDS_VIDEO)
    with pytest.raises(ValueError, match="video is not connected. The model was trained to make a video of another"):
        make(model=model, video=None)
