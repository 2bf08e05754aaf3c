"""Causal-Forcing (thu-ml/Causal-Forcing at 1fc7bbc; weights zhuhz22/Causal-Forcing, Apache-2.0 on a mirror), and its
few steps: Causal-Forcing++ denoises the first chunk that it makes, an image before it or not, in four."""

from .family import FOUR_STEPS, Family, Steps

CAUSAL_FORCING = Family(3, FOUR_STEPS)
FRAMEWISE = Family(1, FOUR_STEPS)
TWO_STEP = Family(1, Steps((1.0, 0.8333333134651184, 0.0)), first_steps=FOUR_STEPS)
ONE_STEP = Family(1, Steps((1.0, 0.0)), first_steps=FOUR_STEPS)
