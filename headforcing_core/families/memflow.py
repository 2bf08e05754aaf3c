"""MemFlow (KlingTeam/MemFlow at 7ed5147; Apache-2.0): a window of 12 frames, and a bank that is chosen by the text, for
which our episodes stand in."""

from .family import FOUR_STEPS, Family, Window

MEMFLOW = Family(3, FOUR_STEPS, trained_frames=12, window=Window(3, 6))
