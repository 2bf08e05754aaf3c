"""Sound for a video: what an AUDIO may be, and how it becomes AAC beside the pictures."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from numbers import Real

import av
import torch
from av.container import OutputContainer
from comfy_api.latest import Input
from torch import Tensor

from ..host.finite import check_finite

_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}  # the host's
_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
_USUAL_RATE = 48000  # of sound at a rate that AAC has not
_RATES = range(8000, 768001)
_AT_ONCE = 16 * 1024  # samples of a channel; AAC has 1024 in a frame


@dataclass(frozen=True)
class Sound:
    """Samples from the first picture on, (channels, samples), in -1 to 1; so many a second, as AAC can have."""

    waveform: Tensor
    rate: int

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.waveform.shape[1] / self.rate

    def until(self, second: Fraction | float) -> Sound:
        """No more of it than this, rounded up to a sample."""
        return Sound(self.waveform[:, : math.ceil(self.rate * second)], self.rate)

    def after(self, second: Fraction | float) -> Sound | None:
        """What of it comes later than this, to a sample; None for nothing."""
        rest = self.waveform[:, round(self.rate * second) :]
        return Sound(rest, self.rate) if rest.shape[1] else None

    def sha256(self) -> str:
        """SHA-256 of what can be heard, and how fast."""
        found = hashlib.sha256(f"{self.rate} {self.waveform.shape[0]} ".encode())
        for piece in self.waveform.split(_AT_ONCE, dim=1):
            found.update(_samples(piece).numpy().tobytes())
        return found.hexdigest()

    def as_audio(self) -> Input.Audio:
        """As the host has it."""
        return {"waveform": self.waveform[None], "sample_rate": self.rate}


class SoundTrack:
    """A sound on its way into a file, beside pictures, from 0 s on. Its stream stands behind those that are there."""

    def __init__(self, target: OutputContainer, sound: Sound) -> None:
        self._target, self._sound = target, sound
        self._layout = _LAYOUTS[sound.waveform.shape[0]]
        self._stream = target.add_stream("aac", rate=sound.rate, layout=self._layout)
        self._pieces = iter(sound.waveform.split(_AT_ONCE, dim=1))
        self._given = 0  # samples

    def write_until(self, second: Fraction) -> None:
        """All up to a time, and little more: players read sound and pictures of one time in one place."""
        while self._given <= second * self._sound.rate and (piece := next(self._pieces, None)) is not None:
            frame = _audio_frame(piece, self._sound.rate, self._layout)
            frame.pts, frame.time_base = self._given, Fraction(1, self._sound.rate)
            self._target.mux(self._stream.encode(frame))
            self._given += piece.shape[1]

    def finish(self) -> None:
        """The rest of it."""
        self.write_until(Fraction(self._sound.waveform.shape[1], self._sound.rate))
        self._target.mux(self._stream.encode(None))


def settle_sound(audio: object) -> tuple[Sound | None, list[str]]:
    """Check the AUDIO that is connected, None where none is; sentences on what of it is not used. ValueError for what
    no video can sound like."""
    if audio is None:
        return None, []
    waveform, rate = _parts(audio)
    _check(waveform, rate)
    notes = [f"audio holds {len(waveform)} sounds. The first is used."] if len(waveform) > 1 else []
    first, rate = waveform[0], int(rate)
    check_finite(first.split(_AT_ONCE, dim=1), "audio", "Connect another one, or make it anew in 32 bit.")
    return (Sound(first, rate) if rate in _AAC_RATES else _resampled(first, rate)), notes


def _parts(audio: object) -> tuple[Tensor, float]:
    waveform, rate = (audio.get(name) if isinstance(audio, Mapping) else None for name in ("waveform", "sample_rate"))
    if not isinstance(waveform, Tensor) or not isinstance(rate, Real):
        raise ValueError(
            f"audio is a {type(audio).__name__} without a waveform and its sample rate, so it is no sound. Connect "
            "Load Audio, or another node that gives audio."
        )
    return waveform, float(rate)


def _check(waveform: Tensor, rate: float) -> None:
    if waveform.ndim != 3 or 0 in waveform.shape or not waveform.is_floating_point():
        raise ValueError(
            f"audio has a waveform of {waveform.dtype} and shape {tuple(waveform.shape)}. Sound is floating point, "
            "(batch, channels, samples), with at least one of each. Connect Load Audio, or another node that gives "
            "audio."
        )
    if waveform.shape[1] not in _LAYOUTS:
        raise ValueError(
            f"audio has {waveform.shape[1]} channels. A video has mono, stereo or 5.1, that is 1, 2 or 6. Mix it down "
            "to one of them."
        )
    if rate not in _RATES:
        raise ValueError(
            f"audio has {rate:g} samples a second. Sound of a video has {_RATES[0]} to {_RATES[-1]}. Convert it to "
            f"{_USUAL_RATE}."
        )


def _resampled(waveform: Tensor, rate: int) -> Sound:
    layout = _LAYOUTS[waveform.shape[0]]
    resampler = av.AudioResampler("fltp", layout, _USUAL_RATE)
    made = [
        torch.from_numpy(frame.to_ndarray())
        for piece in (*waveform.split(_AT_ONCE, dim=1), None)
        for frame in resampler.resample(None if piece is None else _audio_frame(piece, rate, layout))
    ]
    return Sound(torch.cat(made, dim=1), _USUAL_RATE)


def _samples(piece: Tensor) -> Tensor:
    return piece.float().clamp(-1, 1).cpu().contiguous()


def _audio_frame(piece: Tensor, rate: int, layout: str) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(_samples(piece).numpy(), format="fltp", layout=layout)
    frame.sample_rate = rate
    return frame
