"""Ranks in two processes make what one process makes, of every family and by every way."""

from __future__ import annotations

import pytest
import torch

from tests.cards.conftest import SIZE, Film, Ranks, conditioning, module

FILE = "self_forcing_dmd.safetensors"


def labels(layers: int, heads: int = 3) -> list[list[str]]:
    kinds = ("memory", "local", "anchor")
    return [[kinds[(layer + head) % 3] for head in range(heads)] for layer in range(layers)]


def film(family: str = "self_forcing", preset: str = "paper", chunks: int = 4, layers: int = 4, **given) -> Film:
    record = module("headforcing_core.families.table").FAMILIES[family]
    n, fitting = record.chunk_frames, module("headforcing_core.policy.fitting")
    policy = module("headforcing_core.policy.presets").PRESETS[preset]
    policy = module("headforcing_core.policy.family_presets").for_family(policy, n, record)
    fitted = fitting.fit_policy(policy, n, record.trained_frames, chunks * n, record.shots, record.ahead(n))
    plans = module("headforcing_core.rollout.plan")
    plan = plans.RolloutPlan(
        fitted, chunks, *SIZE, record.steps.sigmas, (plans.Segment(0, conditioning(11)),),
        module("nodes.host.conditioning").mix_conditioning, first=record.steps_of_first(0, continues=False),
        timesteps=record.steps.timesteps, solver=record.solver, **given,
    )
    return Film(plan, labels(layers), record.space.channels)


def test_exact(load, ranks: Ranks) -> None:
    model = load(FILE)
    print(ranks.load(model)[0])
    import time
    for preset in ("paper", "recall", "tiny"):
        made = film(preset=preset, chunks=10)
        began = time.time()
        one = made.alone(model)
        print(preset, "alone", time.time() - began)
        for exact in (True, False):
            began = time.time()
            two = ranks.make(made, exact)
            worst = max(float((a.latent - b.chunk.latent).abs().max()) for a, b in zip(one, two[0], strict=True))
            same = [[(m.chunk.decisions, m.chunk.choice) for m in each] == [(c.decisions, c.choice) for c in one] for each in two]
            print(preset, exact, worst, same, time.time() - began)
