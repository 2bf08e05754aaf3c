"""Every conversion between seconds, pixel frames, frames, chunks and tokens (method.md, words; nodes.md, length)."""

import math
from dataclasses import dataclass

TIME_STRIDE = 4  # pixel frames per frame, after the first
PATCH = 2  # latent cells per token, each way
MOST_SECONDS = 36000.0
MOST_FPS = 120.0
MOST_PIXELS = 4096  # width or height


@dataclass(frozen=True)
class LatentSpace:
    """What a VAE makes of pictures: channels, and pixels a latent cell, each way; by the name of the models that work
    in it, and the file that holds the VAE."""

    channels: int
    stride: int
    models: str
    vae_file: str

    @property
    def pixel_step(self) -> int:
        """Pixels a token, each way: a picture is a whole number of them."""
        return self.stride * PATCH


WAN21 = LatentSpace(16, 8, "Wan 2.1", "wan_2.1_vae.safetensors")
WAN22 = LatentSpace(48, 16, "Wan 2.2 5B", "wan2.2_vae.safetensors")


def latent_size(width: int, height: int, space: LatentSpace = WAN21) -> tuple[int, int]:
    """Latent (height, width) of a picture in pixels. ValueError unless both are positive multiples of a token's."""
    step = space.pixel_step
    for name, pixels in (("width", width), ("height", height)):
        if not step <= pixels <= MOST_PIXELS or pixels % step:
            lower = min(max(step, pixels // step * step), MOST_PIXELS - step)
            raise ValueError(
                f"{name} is {pixels}. One token covers {step} x {step} pixels, so {name} must be a "
                f"multiple of {step}, up to {MOST_PIXELS}. Set {name} to {lower} or {lower + step}."
            )
    return height // space.stride, width // space.stride


def tokens_per_frame(latent_height: int, latent_width: int) -> int:
    """Tokens of one frame; 1560 at 832 x 480 pixels."""
    return (latent_height // PATCH) * (latent_width // PATCH)


def pixel_frames_for(seconds: float, fps: float) -> int:
    """Pixel frames of a video. ValueError for a length or rate that is not positive and finite."""
    for name, value, most, usual in (("seconds", seconds, MOST_SECONDS, 20), ("fps", fps, MOST_FPS, 16)):
        if not math.isfinite(value) or not 0 < value <= most:
            raise ValueError(
                f"{name} is {value}. A video needs {name} above 0 and up to {most:g}. Set it within, for example to "
                f"{usual}."
            )
    return max(1, round(seconds * fps))


def frames_for(pixel_frames: int) -> int:
    """Frames that hold this many pixel frames: the first frame is one picture, every further one four."""
    return math.ceil((pixel_frames - 1) / TIME_STRIDE) + 1


def pixel_frames_of(frames: int) -> int:
    """Pixel frames that the VAE makes of this many frames."""
    return TIME_STRIDE * (frames - 1) + 1


def chunks_for(frames: int, chunk_frames: int) -> int:
    """Whole chunks that cover this many frames."""
    return math.ceil(frames / chunk_frames)


def prefix_chunks(frames: int, chunk_frames: int) -> list[range]:
    """The chunks in which frames that are there before the first chunk are committed: from the front, the remainder
    last."""
    return [range(first, min(first + chunk_frames, frames)) for first in range(0, frames, chunk_frames)]


def chunk_start_second(chunk: int, chunk_frames: int, fps: float, prefix_frames: int = 0) -> float:
    """Second at which the first picture of a chunk is shown, counted from the end of the prefix. Without a prefix the
    very first frame is a single picture, so later chunks begin three pictures earlier."""
    missing = 0 if prefix_frames else TIME_STRIDE - 1
    return max(0, TIME_STRIDE * chunk_frames * chunk - missing) / fps


def nearest_chunk(second: float, chunk_frames: int, fps: float, prefix_frames: int = 0) -> int:
    """Chunk whose start lies nearest to a second; the earlier one of two equally near."""
    guess = int(second * fps / (TIME_STRIDE * chunk_frames))
    return min(
        range(guess, guess + 3),  # without a prefix starts lie up to three pictures early
        key=lambda chunk: abs(chunk_start_second(chunk, chunk_frames, fps, prefix_frames) - second),
    )


def first_compressed_chunk(chunk_frames: int, trained_frames: int) -> int:
    """First chunk that no longer fits the trained range with its whole history: where compression must start."""
    return (trained_frames - chunk_frames) // chunk_frames + 1


@dataclass(frozen=True)
class VideoShape:
    """Length and size of a video in every unit. ValueError for a length, rate or size that cannot be.

    `prefix_frames` are there before the first chunk; `seconds` counts them when they are a start image
    (`counts_prefix`), and only what comes after them when another video is continued.
    """

    seconds: float
    fps: float
    width: int
    height: int
    chunk_frames: int
    prefix_frames: int = 0
    counts_prefix: bool = False
    space: LatentSpace = WAN21

    def __post_init__(self) -> None:
        pixel_frames_for(self.seconds, self.fps)
        latent_size(self.width, self.height, self.space)

    @property
    def latent_size(self) -> tuple[int, int]:
        """(height, width) of a latent frame."""
        return latent_size(self.width, self.height, self.space)

    @property
    def chunks(self) -> int:
        """Chunks to make: whole ones, covering the asked length."""
        asked = pixel_frames_for(self.seconds, self.fps)
        if not self.prefix_frames:
            return chunks_for(frames_for(asked), self.chunk_frames)
        new = asked - pixel_frames_of(self.prefix_frames) if self.counts_prefix else asked
        return max(1, chunks_for(math.ceil(new / TIME_STRIDE), self.chunk_frames))

    @property
    def frames(self) -> int:
        """All frames, the prefix included."""
        return self.prefix_frames + self.chunks * self.chunk_frames

    @property
    def pixel_frames(self) -> int:
        """Pixel frames that the finished video shows, the prefix included."""
        return pixel_frames_for(self.seconds, self.fps) + self.pixel_frames_before

    @property
    def pixel_frames_before(self) -> int:
        """Pixel frames of the video that is continued."""
        continued = self.prefix_frames and not self.counts_prefix
        return pixel_frames_of(self.prefix_frames) if continued else 0

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Of the whole latent: (1, channels, frames, height, width)."""
        return (1, self.space.channels, self.frames, *self.latent_size)

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        """Of the latent of one chunk."""
        return (1, self.space.channels, self.chunk_frames, *self.latent_size)

    def pixel_frames_after(self, chunks: int) -> int:
        """Pixel frames that the video has once so many chunks are made, the prefix included."""
        frames = self.prefix_frames + chunks * self.chunk_frames
        return min(pixel_frames_of(frames), self.pixel_frames) if frames else 0

    def start_second(self, chunk: int) -> float:
        """Second at which a chunk begins, counted from the end of the prefix."""
        return chunk_start_second(chunk, self.chunk_frames, self.fps, self.prefix_frames)

    def nearest_chunk(self, second: float) -> int:
        """Chunk whose start lies nearest to a second after the prefix."""
        return nearest_chunk(second, self.chunk_frames, self.fps, self.prefix_frames)
