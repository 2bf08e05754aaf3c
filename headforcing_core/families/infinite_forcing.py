"""Infinite-Forcing (SOTAMak1r/Infinite-Forcing at b8feaf5; Apache-2.0)."""

from .family import FOUR_STEPS, Family, Window

INFINITE_FORCING = Family(3, FOUR_STEPS, window=Window(1, 6))
