"""LongLive-2.0 on Wan 2.2 TI2V 5B (NVlabs/LongLive at 7860ad9; code Apache-2.0, licence of the weights not known). Its
window of 32 frames has 24 of history. Timesteps are whole numbers; a chunk begins as noise itself."""

from dataclasses import replace

from ..geometry import WAN22
from .family import CLAMP, UNIPC2, Family, ModelSize, Shots, Steps, Window

LONGLIVE2 = Family(
    8,
    Steps((0.9997998, 0.9372655, 0.8330554, 0.6246874, 0.0), (999, 937, 833, 624)),
    solver=UNIPC2,
    space=WAN22,
    image=CLAMP,
    trained_frames=32,
    window=Window(8, 16),
    fps=24.0,
    size=ModelSize("Wan 2.2 5B", 30, 24),
    shots=Shots("The scene transitions. ", 8),
    ema_first=False,
)
TWO_STEP = replace(LONGLIVE2, steps=Steps((0.9997998, 0.8330554, 0.0), (999, 833)))
