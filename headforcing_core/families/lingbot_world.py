"""LingBot-World-Fast (robbyant/lingbot-world at a43bec7): version 1 Apache-2.0, version 2 CC BY-NC-SA 4.0. It is given
a picture in 20 channels of its own beside every chunk; its camera is left out."""

from .family import CONCAT, LARGE, Family, Steps, Window

LINGBOT_WORLD = Family(
    3,
    Steps((0.9999, 0.97897, 0.94791, 0.82585, 0.0), (999, 978, 947, 825)),
    image_channels=20,
    image=CONCAT,
    window=Window(3, 15),
    size=LARGE,
)
V2 = Family(
    4,
    Steps((0.9999, 0.96795, 0.90893, 0.76899, 0.0), (999, 967, 908, 768)),
    image_channels=20,
    image=CONCAT,
    trained_frames=18,
    window=Window(6, 8),
    size=LARGE,
)
