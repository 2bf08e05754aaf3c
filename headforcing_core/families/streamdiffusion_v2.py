"""StreamDiffusionV2 (chenfengxu714/StreamDiffusionV2 at c5a0f20; Apache-2.0): video to video in two steps, at levels
that are not warped. A chunk begins as the video with .8 of noise, and its first step is told .7."""

from .family import Family, Steps, Window

STREAMDIFFUSION_V2 = Family(1, Steps((0.7, 0.5, 0.0)), window=Window(3, 2), needs_video=True, start_above=0.1)
