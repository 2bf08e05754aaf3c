"""How chunks are denoised, also in words."""

from __future__ import annotations

from ...headforcing_core.checkpoint.ar_facts import ARFacts
from ...headforcing_core.families.family import ROLLING, Steps
from .source import Source


def settled_steps(
    facts: ARFacts, sigmas: tuple[float, ...] | None, source: Source | None, frames_before: int, continues: bool
) -> tuple[Steps, Steps | None, list[str]]:
    """The steps of a chunk, those of the first that is made where it has its own, and sentences on both. ValueError for
    sigmas where the family makes chunks at its own levels at once."""
    family = facts.record
    if family.solver == ROLLING:
        return family.steps, None, _of_window(facts, sigmas)
    steps = family.steps if sigmas is None else Steps(sigmas)
    first = family.steps_of_first(frames_before, continues) if sigmas is None else None
    where = f"family {facts.family}" if sigmas is None else "the sigmas input"
    if source is not None:
        notes = [*source.notes()]
        steps = family.steps_from_video(steps, source.strength)
        first = None if first is None else family.steps_from_video(first, source.strength)
        where += f", from video at strength {source.strength:g}"
    else:
        notes = _told_of_noise(steps)
    notes.append(f"Steps: {_in_words(steps)} ({where}).")
    if first is not None:
        notes.append(f"Steps of the first chunk: {_in_words(first)}.")
    return steps, first, notes


def _of_window(facts: ARFacts, sigmas: tuple[float, ...] | None) -> list[str]:
    own, count = _in_words(facts.record.steps), facts.record.steps.count
    if sigmas is not None:
        raise ValueError(
            f"sigmas is connected, but family {facts.family} makes {count} chunks at once, one at each of the levels "
            f"{own}, and was trained for no others. Leave sigmas unconnected."
        )
    return [
        f"Steps: {own} (family {facts.family}).",
        f"{count} chunks are made at once, one at each step, and a pass finishes the oldest: a new prompt or seed "
        f"comes in over {count} chunks, but for a cut, which begins them anew.",
    ]


def _told_of_noise(steps: Steps) -> list[str]:
    if steps.sigmas[0] == 1 or steps.timesteps:
        return []
    return [
        f"The steps begin at {steps.sigmas[0]:g}, but a chunk begins as pure noise, which is 1: expect a poor picture."
    ]


def _in_words(steps: Steps) -> str:
    levels, timesteps = (", ".join(f"{number:g}" for number in each) for each in (steps.sigmas, steps.timesteps))
    return f"{levels}, told as timesteps {timesteps}" if timesteps else levels
