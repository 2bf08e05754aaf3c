"""LongLive 1 (NVlabs/LongLive, branch v1.0; Apache-2.0). Its own window is of 12 frames; its films had 21, which is
taken, as version 0.1.0 did."""

from .family import FOUR_STEPS, Family

LONGLIVE = Family(3, FOUR_STEPS)
