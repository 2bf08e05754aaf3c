"""How chunks are denoised, in words."""

from __future__ import annotations

from ...headforcing_core.families.family import Steps


def told_of_steps(steps: Steps, first: Steps | None, source: str) -> list[str]:
    """Sentences on how chunks are denoised, the first by itself where it has its own steps, and who says so."""
    notes: list[str] = []
    if steps.sigmas[0] < 1 and not steps.timesteps:
        notes.append(
            f"The steps begin at {steps.sigmas[0]:g}, but a chunk begins as pure noise, which is 1: expect a poor "
            "picture."
        )
    notes.append(f"Steps: {_in_words(steps)} ({source}).")
    if first is not None:
        notes.append(f"Steps of the first chunk: {_in_words(first)}.")
    return notes


def _in_words(steps: Steps) -> str:
    levels, timesteps = (", ".join(f"{number:g}" for number in each) for each in (steps.sigmas, steps.timesteps))
    return f"{levels}, told as timesteps {timesteps}" if timesteps else levels
