"""One card's part of a run: it joins the others, loads the model, makes the chunks with them, and says what it does."""

from __future__ import annotations

from .job import Arrived, Job, Message
from .model_recipe import ModelRecipe


class Rank:
    """One of several ranks, each in a process of its own. `join`, `load` and `run` are called in this order, each on
    all ranks, and `run` again for each further run; they block. The others answer at once, from another thread."""

    def __init__(self, number: int, ranks: int) -> None:
        raise NotImplementedError

    def join(self, store_file: str, seconds: float) -> None:
        """Meet the others, by a file that does not exist yet; none of them waits longer than so many seconds for
        another in what they do together from now on."""
        raise NotImplementedError

    def load(self, recipe: ModelRecipe) -> Arrived:
        """Make the MODEL of a recipe. RuntimeError for another one than that of the page."""
        raise NotImplementedError

    def run(self, job: Job) -> None:
        """Make a video. InterruptedError once `cancel` was called."""
        raise NotImplementedError

    def hear(self, seconds: float = 0.5) -> list[Message]:
        """What there is to say since the last time, in order; waits so long for something."""
        raise NotImplementedError

    def answer(self, value: object) -> None:
        """Answer the question that is open: of a latent the tensor, on the CPU."""
        raise NotImplementedError

    def cancel(self) -> None:
        """End the run at the next step."""
        raise NotImplementedError
