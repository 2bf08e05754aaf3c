"""Solvers: the arithmetic between two noise levels, of numbers that follow from level and place alone."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from reference_solvers import unipc
from torch import Tensor

from headforcing_core.families.family import FOUR_STEPS, RENOISE, UNIPC2
from headforcing_core.families.longlive2 import LONGLIVE2, TWO_STEP
from headforcing_core.rollout.solvers import SOLVERS

Sees = Callable[[Tensor, float], Tensor]
EIGHT = (0.999, 0.98, 0.95, 0.9, 0.8, 0.65, 0.4, 0.2, 0.0)


def sees(x: Tensor, level: float) -> Tensor:
    return torch.tanh(x) * (1 - level) + 0.3 * level


def fresh(step: int, like: Tensor) -> Tensor:
    return torch.full_like(like, 0.1 * (step + 1))


def solved(solver: str, levels: Sequence[float], x: Tensor, model: Sees = sees) -> Tensor:
    made = SOLVERS[solver](levels, torch.tensor(levels, dtype=x.dtype), fresh)
    for step, level in enumerate(levels[:-1]):
        x = made.after(step, x, model(x, level))
    return x


def test_unipc2_gives_the_authors_numbers() -> None:
    for family, wanted in ((LONGLIVE2, 0.4289825), (TWO_STEP, 0.3681224)):
        assert solved(UNIPC2, family.steps.sigmas, torch.ones(1)).item() == pytest.approx(wanted, abs=2e-7)


@pytest.mark.parametrize("levels", [LONGLIVE2.steps.sigmas, TWO_STEP.steps.sigmas, (0.9998, 0.0), EIGHT])
def test_unipc2_is_as_its_definition(levels: tuple[float, ...]) -> None:
    x = start = torch.linspace(-2, 2, 9, dtype=torch.float64)
    seen: list[Tensor] = []
    for level in levels[:-1]:
        seen.append(sees(x, level))
        x = unipc(levels, start, seen)
    assert torch.allclose(solved(UNIPC2, levels, start), x, atol=1e-12, rtol=0)


def test_unipc2_from_pure_noise_takes_the_limit_in_which_nothing_was_before() -> None:
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    first = sees(x, 1.0)
    second = sees(0.6 * x + 0.4 * first, 0.6)
    corrected = 0.6 * x + 0.4 * (first + second) / 2
    pull = -0.7 * math.expm1(math.log(0.4 / 0.6) - math.log(0.7 / 0.3))
    wanted = sees(0.5 * corrected + pull * second, 0.3)
    assert torch.allclose(solved(UNIPC2, (1.0, 0.6, 0.3, 0.0), x), wanted, atol=1e-12, rtol=0)
    assert solved(UNIPC2, FOUR_STEPS.sigmas, x).isfinite().all()


@pytest.mark.parametrize("levels", [(0.9, 0.0), (0.9, 0.6, 0.0), EIGHT])
def test_of_what_is_seen_the_same_everywhere_every_solver_makes_just_that(levels: tuple[float, ...]) -> None:
    x = torch.randn(5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for solver in SOLVERS:
        assert torch.equal(solved(solver, levels, x, lambda x, level: torch.full_like(x, 0.7)), torch.full_like(x, 0.7))


def test_renoise_puts_noise_of_the_next_level_on_what_was_seen() -> None:
    x, levels = torch.linspace(-2, 2, 9), (1.0, 0.6, 0.2, 0.0)
    wanted = 0.4 * sees(x, 1.0) + 0.6 * 0.1
    wanted = 0.8 * sees(wanted, 0.6) + 0.2 * 0.2
    assert torch.allclose(solved(RENOISE, levels, x), sees(wanted, 0.2), atol=1e-6)
