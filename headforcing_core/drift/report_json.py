"""The drift report as JSON text."""

import json
from dataclasses import asdict

from .result import MEASURES, REFERENCE_SECONDS, Drift

FORMAT = "headforcing.drift/1"
_DECIMALS = 4


def drift_report(drift: Drift) -> str:
    """The report as JSON text."""
    seconds = [
        {name: _rounded(value) for name, value in {**asdict(second), "drift": each}.items()}
        for second, each in zip(drift.seconds, drift.drifts, strict=True)
    ]
    most = drift.most_drifted
    return json.dumps(
        {
            "format": FORMAT,
            "notes": _notes(drift),
            "settings": {
                "fps": drift.fps,
                "pictures": drift.pictures,
                "size": drift.size,
                "measured_size": drift.measured_size,
                "reference_seconds": min(REFERENCE_SECONDS, len(drift.seconds)),
            },
            "measures": dict(MEASURES),
            "summary": {
                "largest_drift": {"second": most, "drift": _rounded(drift.drifts[most])},
                "largest_jump": {
                    "second": int(drift.jump.at_seconds),
                    **{name: _rounded(value) for name, value in asdict(drift.jump).items()},
                },
                "trend_per_minute": {measure: _rounded(drift.trend_per_minute(measure)) for measure in MEASURES},
            },
            "seconds": seconds,
        }
    )


def _notes(drift: Drift) -> list[str]:
    notes = []
    if drift.measured_size != drift.size:
        whole, reduced = (f"{width} x {height}" for width, height in (drift.size, drift.measured_size))
        notes.append(f"The pictures, {whole}, were measured at {reduced}. Compare sharpness only at one measured size.")
    if drift.pictures > sum(second.pictures for second in drift.seconds):
        notes.append("The last picture stands alone in its second and was left out.")
    return notes


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DECIMALS)
