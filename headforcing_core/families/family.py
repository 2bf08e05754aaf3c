"""What a family of autoregressive Wan checkpoints was trained for, as a record: nothing else in the pack knows a number
of any of them."""

from dataclasses import dataclass

from ..geometry import WAN21, LatentSpace

MOST_STEPS = 63  # noise of a chunk is numbered up to 64

RENOISE, UNIPC2, ROLLING = "renoise", "unipc2", "rolling"
"""Solvers: noise of the next level on what was predicted; deterministic, of second order; or as the first, but with a
chunk at every level at once, one behind the other."""
PREFIX, CLAMP, CONCAT = "prefix", "clamp", "concat"
"""Where a start image goes: committed before the first chunk; the first frame of that chunk, held in place; or into
channels of its own beside every chunk."""
FIRST_CHUNK, FIRST_FRAME = "chunk", "frame"
"""When `first_steps` hold: for the first chunk that is made; or only if it begins at frame 0, with nothing before."""
_SAME_LEVEL = 1e-3  # nearer than anybody means two steps to be
TIMESTEPS = 1000  # the noise levels 0 to 1 as a model is told them


@dataclass(frozen=True)
class Steps:
    """How a chunk is denoised: noise levels down to 0, and the timestep that the model is told at each of them but the
    last. Without `timesteps` that is 1000 times the level, and a chunk begins as the host scales its noise; with them
    it begins as the noise itself."""

    sigmas: tuple[float, ...]
    timesteps: tuple[float, ...] = ()

    @property
    def count(self) -> int:
        """Passes that denoise a chunk."""
        return len(self.sigmas) - 1

    def begun_at(self, level: float) -> "Steps":
        """The steps of a chunk that begins at a noise level rather than as pure noise: that level, and those of these
        steps that lie below it. A level that is one of theirs keeps its timestep."""
        for number, own in enumerate(self.sigmas[:-1]):
            if abs(own - level) < _SAME_LEVEL:
                return Steps(self.sigmas[number:], self.timesteps[number:])
        above = sum(own > level for own in self.sigmas)
        told = (TIMESTEPS * level, *self.timesteps[above:]) if self.timesteps else ()
        return Steps((level, *self.sigmas[above:]), told)


@dataclass(frozen=True)
class Window:
    """The frames of history that the authors' own sampler reads, with every head: the first ones, and the newest."""

    sink: int
    recent: int


@dataclass(frozen=True)
class Shots:
    """How a model was taught a new shot: what stands before the prompt of its first chunk, and how many positions
    farther that chunk stands from the one before. That chunk is kept for as long as the shot lasts."""

    prompt_prefix: str
    gap: int


@dataclass(frozen=True)
class ModelSize:
    """A model as reckonings take it: its name, its layers, heads a layer."""

    name: str
    layers: int
    heads: int


SMALL, LARGE = ModelSize("Wan 2.1 1.3B", 30, 12), ModelSize("Wan 2.1 14B", 40, 40)


@dataclass(frozen=True)
class Family:
    """What a family of checkpoints was trained for. `first_steps` take the place of `steps` in the first chunk, when
    `first_rule` says so. `trained_frames` is the range R of frames that a query sees in training, its own chunk
    included; `window` what of it the authors' sampler reads. `image_channels` come on top of those of the latent space.
    `ema_first` says which of two sets of weights in a file is the published one. With `needs_video` it makes a video
    only of another one. A chunk that is made of a video begins with more noise than its first step is told, by
    `start_above`. `terms` is what its authors allow, in a sentence, where an artist should be told."""

    chunk_frames: int
    steps: Steps
    first_steps: Steps | None = None
    first_rule: str = FIRST_CHUNK
    solver: str = RENOISE
    space: LatentSpace = WAN21
    image_channels: int = 0
    image: str = PREFIX
    trained_frames: int = 21
    window: Window = Window(3, 7)
    fps: float = 16.0
    size: ModelSize = SMALL
    shots: Shots | None = None
    ema_first: bool = True
    needs_video: bool = False
    start_above: float = 0.0
    terms: str = ""

    @property
    def in_channels(self) -> int:
        """Channels that the model is given."""
        return self.space.channels + self.image_channels

    @property
    def most_chunk_frames(self) -> int:
        """The longest chunk that leaves a frame of history within the trained range."""
        return (self.trained_frames - 1) // (1 + self._chunks_ahead)

    def ahead(self, chunk_frames: int) -> int:
        """Frames of noise that stand behind a chunk of so many and are denoised with it."""
        return self._chunks_ahead * chunk_frames

    @property
    def _chunks_ahead(self) -> int:
        return self.steps.count - 1 if self.solver == ROLLING else 0

    def steps_of_first(self, frames_before: int, continues: bool) -> Steps | None:
        """How the first chunk that is made is denoised, after so many frames that are there before it; None: as all
        others, as always where the video `continues` another one, which had a first chunk."""
        if continues or (self.first_rule == FIRST_FRAME and frames_before):
            return None
        return self.first_steps

    def steps_from_video(self, steps: Steps, strength: float) -> Steps:
        """How a chunk is denoised that begins as a video with so much noise, 0 to 1, in place of these steps. Of little
        noise the first step is told half at least."""
        return steps.begun_at(max(strength - self.start_above, strength / 2))


FOUR_STEPS = Steps((1.0, 0.9375, 0.8333333134651184, 0.625, 0.0))  # 1000, 750, 500, 250 warped by shift 5


def check_sigmas(sigmas: tuple[float, ...]) -> None:
    """ValueError unless the noise levels fall strictly from at most 1 to exactly 0."""
    falling = all(a > b for a, b in zip(sigmas, sigmas[1:], strict=False))
    if not 2 <= len(sigmas) <= MOST_STEPS + 1 or sigmas[-1] != 0 or not falling or not 0 < sigmas[0] <= 1:
        shown = ", ".join(f"{sigma:g}" for sigma in sigmas[:8])
        raise ValueError(
            f"sigmas are ({shown}). Every chunk is denoised along them, so they must fall from at most 1 "
            f"to exactly 0, in up to {MOST_STEPS} steps. Use Basic Scheduler (simple, 4 steps, denoise 1), or leave "
            "sigmas unconnected."
        )
