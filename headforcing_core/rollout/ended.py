"""A rollout that has come to its end, gone over once more for its K and V."""

from collections.abc import Sequence
from dataclasses import replace

from .chunk import Chunk
from .plan import FinishedChunks, RolloutPlan, Text


def ended_plan(plan: RolloutPlan[Text], chunks: Sequence[Chunk]) -> RolloutPlan[Text]:
    """The plan of a rollout whose `chunks`, with their latents, are all made. A rollout by it makes none: it commits
    each under its own text, and its memory holds at the end what that of the first one held."""
    latents = [chunk.latent for chunk in chunks]
    decisions = {each.frame: each for chunk in chunks for each in (*chunk.prefix_decisions, *chunk.decisions)}
    choices = {chunk.index: chunk.choice for chunk in chunks if chunk.choice is not None}
    finished = FinishedChunks(len(chunks), latents.__getitem__, decisions, choices)
    return replace(plan, finished=finished, read=finished.read)
