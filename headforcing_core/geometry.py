"""Every conversion between seconds, pixel frames, frames, chunks and tokens (method.md, words; nodes.md, length)."""

import math

TRAINED_FRAMES = 21  # frames that Wan 2.1 Self-Forcing checkpoints were trained on: 5 s
LATENT_CHANNELS = 16
TIME_STRIDE = 4  # pixel frames per frame, after the first
SPACE_STRIDE = 8  # pixels per latent cell
PATCH = 2  # latent cells per token, each way
PIXEL_STEP = SPACE_STRIDE * PATCH
DEFAULT_FPS = 16.0
PROFILE_SECONDS_FAST = 5.0


def latent_size(width: int, height: int) -> tuple[int, int]:
    """Latent (height, width) of a picture in pixels. ValueError unless both are positive multiples of 16."""
    for name, pixels in (("width", width), ("height", height)):
        if pixels < PIXEL_STEP or pixels % PIXEL_STEP:
            lower = max(PIXEL_STEP, pixels // PIXEL_STEP * PIXEL_STEP)
            raise ValueError(
                f"{name} is {pixels}. One token covers {PIXEL_STEP} x {PIXEL_STEP} pixels, so {name} must be a "
                f"multiple of {PIXEL_STEP}. Set {name} to {lower} or {lower + PIXEL_STEP}."
            )
    return height // SPACE_STRIDE, width // SPACE_STRIDE


def tokens_per_frame(latent_height: int, latent_width: int) -> int:
    """Tokens of one frame; 1560 at 832 x 480 pixels."""
    return (latent_height // PATCH) * (latent_width // PATCH)


def pixel_frames_for(seconds: float, fps: float) -> int:
    """Pixel frames of a video. ValueError for a length or rate that is not positive and finite."""
    for name, value in (("seconds", seconds), ("fps", fps)):
        if not math.isfinite(value) or value <= 0:
            raise ValueError(f"{name} is {value}. A video needs a positive {name}. Set it above 0, for example 20.")
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


def chunk_start_second(chunk: int, chunk_frames: int, fps: float) -> float:
    """Second at which the first picture of a chunk is shown."""
    return max(0, TIME_STRIDE * chunk_frames * chunk - (TIME_STRIDE - 1)) / fps


def nearest_chunk(second: float, chunk_frames: int, fps: float) -> int:
    """Chunk whose start lies nearest to a second; the earlier one of two equally near."""
    guess = int(second * fps / (TIME_STRIDE * chunk_frames))
    return min((guess, guess + 1), key=lambda chunk: abs(chunk_start_second(chunk, chunk_frames, fps) - second))


def last_warm_up_chunk(chunk_frames: int, trained_frames: int) -> int:
    """First chunk that no longer fits the trained range with its whole history: where compression must start."""
    return (trained_frames - chunk_frames) // chunk_frames + 1
