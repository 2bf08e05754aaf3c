"""One-Forcing (Aurora-edu/One-Forcing at ca345b3; weights JiaqiFeng/OneForcing, code Apache-2.0): one step, and four
only for what begins at frame 0, so not after an image."""

from .family import FIRST_FRAME, FOUR_STEPS, Family, Steps

ONE_FORCING = Family(1, Steps((1.0, 0.0)), first_steps=FOUR_STEPS, first_rule=FIRST_FRAME)
