"""What somebody would recall who knows where the film is: the newest chunks of the present place."""

from collections.abc import Sequence

from headforcing_core.rollout.recall import Choose

from .prompts import Script, prompt_at

RECALLED_CHUNKS = 2


def oracle(script: Script, chunk_frames: int) -> Choose:
    """Chooses the newest two chunks of the place that the prompt names."""

    def choose(chunk: int, candidates: Sequence[int]) -> Sequence[int]:
        place = prompt_at(script, chunk * chunk_frames).place
        return [frame for frame in candidates if prompt_at(script, frame).place == place][-RECALLED_CHUNKS:]

    return choose
