"""Krea Realtime 14B (krea-ai/realtime-video at acf4b7b; CC BY-NC-SA 4.0)."""

from .family import LARGE, Family, Steps

KREA_REALTIME = Family(3, Steps((1.0, 0.937, 0.833, 0.625, 0.0)), size=LARGE)
