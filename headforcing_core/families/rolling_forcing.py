"""Rolling Forcing (TencentARC/RollingForcing at a1477d0; code and weights for academic use only): five chunks of three
frames at once, each at its own level: 1000, 800, 600, 400, 200 warped by shift 5. Its attention reads 21 frames: the
first chunk, the last one, and those five."""

from .family import ROLLING, Family, Steps, Window

ROLLING_FORCING = Family(
    3,
    Steps((1.0, 0.9523809552192688, 0.8823529481887817, 0.7692307829856873, 0.5555555820465088, 0.0)),
    solver=ROLLING,
    window=Window(3, 3),
    terms="Its authors allow academic use only.",
)
