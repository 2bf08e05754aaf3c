"""What Load AR Model found in a file, in the words of its report, and what of it changes the video."""

from ..families.family import CLAMP, CONCAT, FIRST_FRAME, PREFIX, RENOISE, ROLLING, UNIPC2, Steps
from ..families.table import usual_family
from .ar_facts import ARFacts
from .wan_weights import Weights

_SOLVERS = {
    RENOISE: "fresh noise between steps",
    UNIPC2: "UniPC of second order, without fresh noise",
    ROLLING: "a chunk at every step at once, one behind the other",
}
_IMAGES = {
    PREFIX: "A start image is the first frame, before the first chunk.",
    CLAMP: "A start image is held as the first frame of the first chunk.",
    CONCAT: "A start image is needed: it is given beside every chunk, in {channels} channels of its own.",
}


def weights_in_words(weights: Weights) -> str:
    """The size of a model, and where in its file it stood."""
    return (
        f"{weights.layers} layers of {weights.heads} heads, {weights.channels.given} channels in and "
        f"{weights.channels.made} out, taken from {weights.source}."
    )


def facts_in_words(facts: ARFacts) -> tuple[str, ...]:
    """How a model makes a video, as its family was trained."""
    family = facts.record
    told = [
        f"{facts.chunk_frames} frames a chunk, {_steps(family.steps)}, {_SOLVERS[family.solver]}, trained on "
        f"{facts.trained_frames} frames."
    ]
    if family.first_steps is not None:
        which = "A chunk at frame 0" if family.first_rule == FIRST_FRAME else "The first chunk that is made"
        told.append(f"{which} takes {_steps(family.first_steps)}.")
    told.append(
        f"{family.fps:g} pictures a second, width and height in multiples of {family.space.pixel_step}, VAE "
        f"{family.space.vae_file}. {_IMAGES[family.image].format(channels=family.image_channels)} "
        f"{family.terms}".rstrip()
    )
    return tuple(told)


def warnings(file_name: str, facts: ARFacts, weights: Weights) -> tuple[str, ...]:
    """What an artist should know before the video is made, a sentence or two each."""
    told: list[str] = []
    has_new_shapes = usual_family(weights.channels) != usual_family(None)  # of those most are not AR-trained
    if facts.family_guessed and has_new_shapes and not weights.is_of_training:
        told.append(
            f"Neither name nor layout of {file_name} says that it is AR-trained. Plain Wan 2.2 models have the same "
            "shapes, and give mush here. If you know its family, choose it; else load an AR checkpoint."
        )
    if weights.has_camera:
        told.append(
            f"Camera control is left out: {file_name} was trained with camera poses, and this pack gives it none, so "
            "picture and text alone say where the camera goes."
        )
    return tuple(told)


def _steps(steps: Steps) -> str:
    exact = f" at timesteps {', '.join(f'{each:g}' for each in steps.timesteps)}" if steps.timesteps else ""
    word = "step" if steps.count == 1 else "steps"
    return f"{steps.count} {word} ({', '.join(f'{sigma:g}' for sigma in steps.sigmas)}){exact}"
