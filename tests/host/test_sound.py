"""Sound of a video: in step with its pictures, as long as they are or shorter, another one without decoding anew."""

import hashlib
import io
import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from torch import Tensor

from tests.host.conftest import Pack, conditioning
from tests.host.test_kept_run import pictures

RATE, FPS = 48000, 16.0
AAC_FRAME = 1024


def clicking(seconds: float, at: float = 1.0, channels: int = 1, rate: int = RATE) -> dict:
    """Silence with a short click, as an AUDIO."""
    waveform = torch.zeros(1, channels, round(seconds * rate))
    begin = round(at * rate)
    waveform[..., begin : begin + max(8, rate // 1000)] = 0.9
    return {"waveform": waveform, "sample_rate": rate}


def heard(path: Path | str) -> tuple[Tensor, int]:
    """What a player plays of a file's sound, (channels, samples), from 0 s on, and samples a second."""
    with av.open(str(path)) as file:
        stream = file.streams.audio[0]
        rate, pieces, end = stream.rate, [], 0
        for frame in file.decode(stream):
            begin = round(frame.time * rate)
            samples = torch.from_numpy(frame.to_ndarray())
            pieces += [torch.zeros(samples.shape[0], begin - end), samples]
            end = begin + samples.shape[1]
    return torch.cat(pieces, dim=1), rate


def click_second(path: Path | str) -> float:
    samples, rate = heard(path)
    return int(samples.abs().amax(dim=0).argmax()) / rate


def picture_packets(path: Path) -> list[str]:
    with av.open(str(path)) as file:
        return [hashlib.sha256(packet).hexdigest() for packet in file.demux(video=0) if packet.dts is not None]


@pytest.fixture(scope="module")
def write(pack: Pack) -> Callable[..., object]:
    """A video of small pictures with a sound, each picture as bright as it is late; closed."""

    def written(path: Path, audio: object, count: int = 40, fps: float = FPS, close: bool = True):
        sound, _ = pack.module("nodes.video.sound").settle_sound(audio)
        writer = pack.module("nodes.video.mp4_writer").VideoWriter(path, Fraction(fps), {"prompt": "{}"}, sound)
        for chunk in (torch.arange(count) / count).reshape(-1, 1, 1, 1).expand(-1, 32, 32, 3).split(12):
            writer.append(chunk)
        if close:
            writer.close()
        return writer

    return written


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000, 50000, 192000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_a_click_is_heard_when_it_was_made_and_each_picture_stands_at_its_time(
    write, tmp_path: Path, rate: int, channels: int
) -> None:
    path = tmp_path / "video.mp4"
    write(path, clicking(2.5, 1.0, channels, rate))
    samples, at = heard(path)
    assert samples.shape[0] == channels and at == (RATE if rate in (50000, 192000) else rate)
    assert click_second(path) == pytest.approx(1.0, abs=AAC_FRAME / at / 4)
    assert samples.shape[1] / at == pytest.approx(2.5, abs=2 * AAC_FRAME / at)
    with av.open(str(path)) as file:
        assert [frame.time for frame in file.decode(video=0)] == [number / FPS for number in range(40)]


def test_it_is_cut_where_the_video_ends_and_left_short_where_it_ends_before(write, tmp_path: Path) -> None:
    for seconds, lasts in ((10.0, 2.5), (1.5, 1.5), (1 / RATE, 1 / RATE)):
        path = tmp_path / "video.mp4"
        write(path, clicking(seconds, 0.0))
        with av.open(str(path)) as file:
            assert float(file.streams.audio[0].duration * file.streams.audio[0].time_base) == pytest.approx(
                lasts, abs=AAC_FRAME / RATE
            )
            assert file.streams.video[0].frames == 40 and file.duration / av.time_base < 2.5 + 2 * AAC_FRAME / RATE


def test_sound_and_pictures_of_one_time_lie_in_one_place(write, tmp_path: Path) -> None:
    write(tmp_path / "video.mp4", clicking(30.0, 1.0), count=480)
    with av.open(str(tmp_path / "video.mp4")) as file:
        times: dict[str, float] = {"video": 0.0, "audio": 0.0}
        for packet in file.demux():
            if packet.dts is not None:
                times[packet.stream.type] = float(packet.dts * packet.time_base)
                assert abs(times["video"] - times["audio"]) < 1.5


def test_a_video_that_grows_plays_and_is_silent_and_one_that_was_stopped_has_its_sound(write, tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    writer = write(path, clicking(10.0, 1.0), count=36, close=False)
    with av.open(str(path)) as file:
        assert not file.streams.audio and sum(1 for _ in file.decode(video=0)) == 36
    writer.close()
    assert click_second(path) == pytest.approx(1.0, abs=0.01) and pictures(path) == 36
    with av.open(str(path)) as file:
        assert file.duration / av.time_base == pytest.approx(36 / FPS, abs=2 * AAC_FRAME / RATE)


def test_the_host_takes_the_sound_and_saves_it_again_where_it_was(write, tmp_path: Path) -> None:
    from comfy_api.latest import InputImpl

    write(tmp_path / "video.mp4", clicking(2.5, 1.0, 2))
    video = InputImpl.VideoFromFile(str(tmp_path / "video.mp4"))
    for crf in (None, 30.0):
        video.save_to(str(tmp_path / "again.mp4"), crf=crf)
        assert click_second(tmp_path / "again.mp4") == pytest.approx(1.0, abs=AAC_FRAME / RATE)
    audio = video.get_components().audio
    assert audio["sample_rate"] == RATE and audio["waveform"].shape[:2] == (1, 2)
    assert int(audio["waveform"][0, 0].abs().argmax()) / RATE == pytest.approx(1.0, abs=AAC_FRAME / RATE)


def spoiled(number: float) -> dict:
    audio = clicking(1.0, 0.5)
    audio["waveform"][0, 0, -1] = number
    return audio


REFUSED = {
    "NaN": (spoiled(float("nan")), "audio holds NaN or infinity"),
    "infinity": (spoiled(float("inf")), "audio holds NaN or infinity"),
    "no samples": ({"waveform": torch.zeros(1, 2, 0), "sample_rate": RATE}, r"shape \(1, 2, 0\)\. Sound is"),
    "no sound": ({"waveform": torch.zeros(0, 2, 9), "sample_rate": RATE}, r"shape \(0, 2, 9\)\. Sound is"),
    "two dimensions": ({"waveform": torch.zeros(2, 9), "sample_rate": RATE}, r"shape \(2, 9\)\. Sound is"),
    "whole numbers": ({"waveform": torch.zeros(1, 1, 9).short(), "sample_rate": RATE}, r"torch.int16 and shape"),
    "four channels": ({"waveform": torch.zeros(1, 4, 9), "sample_rate": RATE}, "audio has 4 channels"),
    "a rate of 1": ({"waveform": torch.zeros(1, 1, 9), "sample_rate": 1}, "audio has 1 samples a second"),
    "a rate between": ({"waveform": torch.zeros(1, 1, 9), "sample_rate": 8000.5}, "audio has 8000.5 samples a second"),
    "no rate": ({"waveform": torch.zeros(1, 1, 9)}, "audio is a dict without a waveform and its sample rate"),
    "another thing": (torch.zeros(1, 1, 9), "audio is a Tensor without a waveform"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_sound_is_refused(pack: Pack, case: str) -> None:
    audio, sentence = REFUSED[case]
    with pytest.raises(ValueError, match=sentence):
        pack.module("nodes.video.sound").settle_sound(audio)


def test_half_precision_too_loud_and_several_are_taken(pack: Pack, write, tmp_path: Path) -> None:
    audio = clicking(2.0, 1.0)
    audio["waveform"] = torch.cat([audio["waveform"] * 1e4, torch.ones_like(audio["waveform"])]).half()
    sound, notes = pack.module("nodes.video.sound").settle_sound(audio)
    assert notes == ["audio holds 2 sounds. The first is used."] and sound.seconds == 2.0
    write(tmp_path / "video.mp4", audio)
    assert click_second(tmp_path / "video.mp4") == pytest.approx(1.0, abs=0.01)
    assert heard(tmp_path / "video.mp4")[0].abs().max() < 1.5


@pytest.fixture(scope="module")
def sounding(pack: Pack, model, vae) -> Callable[..., tuple]:
    """Make a small video, kept as `film`, as long as its sound; its outputs."""
    policy = pack.run("HeadForcingCachePolicy", preset="uniform")[0]
    given = {"model": model, "policy": policy, "positive": conditioning(1), "sigmas": torch.tensor([1.0, 0.0])}

    def make(**inputs: object) -> tuple:
        inputs = {**given, "seconds": 0.0, "width": 16, "height": 16, "vae": vae, "run_name": "film", **inputs}
        return pack.all_outputs("HeadForcingSampler", **inputs)

    return make


def test_a_video_is_as_long_as_its_sound(runs: Path, sounding) -> None:
    _, video, _, report, _ = sounding(audio=clicking(1.3))
    assert json.loads(report)["settings"]["seconds"] == pytest.approx(1.3)
    assert video.get_frame_count() == pictures(runs / "film/video.mp4") == 21
    assert click_second(runs / "film/video.mp4") == pytest.approx(1.0, abs=AAC_FRAME / RATE / 4)


def test_another_sound_is_given_to_a_kept_video_without_decoding(
    pack: Pack, runs: Path, sounding, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = runs / "film/video.mp4"
    sounding(seconds=1.3)
    silent, made = path.read_bytes(), picture_packets(path)
    with monkeypatch.context() as patch:
        patch.setattr(pack.module("nodes.head_forced_sampler"), "video_stream", None)  # nothing could be decoded
        for audio, at in ((clicking(2.0, 0.25), 0.25), (clicking(1.0, 0.75, 2), 0.75)):
            for _ in range(2):  # and then it stays
                video = sounding(seconds=1.3, audio=audio)[1]
                assert click_second(path) == click_second(video.get_stream_source()) == pytest.approx(at, abs=0.01)
                assert picture_packets(path) == made
                written = path.stat().st_mtime_ns
            assert sounding(seconds=1.3, audio=audio) and path.stat().st_mtime_ns == written
        sounding(seconds=1.3)
    assert path.read_bytes() == silent


def test_a_sound_that_cannot_be_exchanged_is_in_a_video_that_is_made_anew(
    pack: Pack, runs: Path, sounding, monkeypatch: pytest.MonkeyPatch
) -> None:
    sounding(seconds=1.3)

    def full(*args: object) -> None:
        raise RuntimeError("video.mp4 could not be finished: the disk is full.")

    monkeypatch.setattr(pack.module("nodes.keeping.kept_run"), "finish_video", full)
    report = sounding(seconds=1.3, audio=clicking(2.0, 0.25))[3]
    assert (
        "video.mp4 could not be finished: the disk is full. Its sound is another one; with a vae it is made anew."
        in report
    )
    assert click_second(runs / "film/video.mp4") == pytest.approx(0.25, abs=0.01)


def test_a_video_that_cannot_be_given_its_sound_says_that_it_is_silent(
    pack: Pack, sounding, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise RuntimeError("video.mp4 could not be finished: the disk is full.")

    monkeypatch.setattr(pack.module("nodes.video.mp4_writer"), "finish_video", full)
    told = [sounding(seconds=1.3, run_name=name, audio=each)[3] for name, each in (("a", clicking(2.0)), ("b", None))]
    assert "has all of its 21 pictures and plays without its sound, but it could not be finished: " in told[0]
    assert "has all of its 21 pictures and plays, but it could not be finished: " in told[1]


def test_sound_goes_on_over_what_previous_shows(runs: Path, sounding) -> None:
    before = sounding(seconds=0.5, run_name="")[0]  # 9 pictures
    audio = clicking(1.3, 1.0)
    _, video, _, _, new = sounding(previous=before, audio=audio, run_name="")
    assert video.get_frame_count() == 21 and new.get_frame_count() == 12
    for shown, at in ((video, 1.0), (new, 1.0 - 9 / 16)):
        assert click_second(shown.get_stream_source()) == pytest.approx(at, abs=0.01)
    with pytest.raises(ValueError, match=r"audio lasts 0\.56 s, and previous shows 0\.56 s of video, so nothing is"):
        sounding(previous=before, audio=clicking(9 / 16, 0.1))


@pytest.mark.parametrize("can_stream", [True, False])
def test_a_latent_that_is_decoded_later_has_the_sound(
    pack: Pack, sounding, monkeypatch: pytest.MonkeyPatch, can_stream: bool
) -> None:
    for module in ("nodes.video.latent_video", "nodes.head_forced_sampler"):
        monkeypatch.setattr(pack.module(module), "can_stream", lambda vae: can_stream)
    before = sounding(seconds=0.5, run_name="")[0]
    _, video, _, _, new = sounding(previous=before, audio=clicking(1.3, 1.0, 2), run_name="")
    assert isinstance(video, pack.module("nodes.video.latent_video").LatentVideo)
    saved = io.BytesIO()
    with torch.inference_mode():
        video.save_to(saved)
        heard_of = [each.get_components().audio for each in (video, new)]
    for audio, at in zip(heard_of, (1.0, 1.0 - 9 / 16), strict=True):
        assert audio["waveform"].shape[:2] == (1, 2)
        assert int(audio["waveform"][0, 1].abs().argmax()) / RATE == pytest.approx(at, abs=0.01)


def test_no_length_without_a_sound_is_refused_before_anything_else(pack: Pack, sounding) -> None:
    sentence = "seconds is 0.0. A video needs seconds above 0, unless audio is connected: then 0 is as long as that. "
    with pytest.raises(ValueError, match=sentence):
        sounding(model=None)
    checked = pack.nodes["HeadForcingSampler"].validate_inputs
    assert checked(seconds=0.0).startswith(sentence) and checked(seconds=0.0, audio=None) is True
    assert checked(seconds=-1.0, audio=None).startswith(
        "seconds is -1.0. A video needs seconds above 0 and up to 36000"
    )
    with pytest.raises(ValueError, match=r"audio lasts 36000\.1 s, and seconds is 0"):
        silence = torch.zeros(1, 1, 1).expand(1, 1, 36000 * 8000 + 800)
        settle = pack.module("nodes.request.sound_length").settled_seconds
        settle(0.0, pack.module("nodes.video.sound").Sound(silence[0], 8000), None, FPS)
