"""Reward Forcing: as Self-Forcing."""

from .family import FOUR_STEPS, Family

REWARD_FORCING = Family(3, FOUR_STEPS)
