"""Causal-Forcing (thu-ml/Causal-Forcing at 1fc7bbc; weights zhuhz22/Causal-Forcing, Apache-2.0 on a mirror), and its
few steps: Causal-Forcing++ denoises the first chunk that it makes, an image before it or not, in four. Its long videos
(chunkwise/longvideo.pt, academic use only) are made by the sampler of Rolling Forcing."""

from .family import FOUR_STEPS, Family, Steps
from .rolling_forcing import ROLLING_FORCING

CAUSAL_FORCING = Family(3, FOUR_STEPS)
FRAMEWISE = Family(1, FOUR_STEPS)
TWO_STEP = Family(1, Steps((1.0, 0.8333333134651184, 0.0)), first_steps=FOUR_STEPS)
LONGVIDEO = ROLLING_FORCING
ONE_STEP = Family(1, Steps((1.0, 0.0)), first_steps=FOUR_STEPS)
