"""What was reckoned before anything was measured, beside what is measured: how far counting and simulating can be
trusted."""

from __future__ import annotations

from benchmarks.card.workbench import Workbench
from benchmarks.shared.tables import Row

GIGA, TERA = 1e9, 1e12


def predicted_rows(bench: Workbench) -> list[Row]:
    """The table, for Wan 2.1 1.3B at 832x480 on an H100 or H200."""
    figures, rates = bench.findings.figures, bench.findings.rates
    before = figures.get("seconds, paper, host's order of kernels")
    rows: list[tuple[str, str, float | None]] = [
        ("paper, seconds, FlashAttention 2", "0.49, H100", before),
        ("paper, seconds, cuDNN first", "0.31, H100", figures.get("seconds, paper")),
        ("the same, a stream a head type", "0.28 H100, 0.27 H200", figures.get("seconds, paper, a stream a head type")),
        ("uniform_21 over paper, cuDNN first", "1.25", figures.get("uniform_21 over paper")),
        ("outside products and attention, cuDNN first", "0.20", figures.get("outside, paper")),
        (
            "attention, 12 heads over 21 frames, fastest kernel, TFLOP/s",
            "580",
            _over(rates.get("fastest attention"), TERA),
        ),
        ("share of a chunk, made alone, in which the card is busy", "over 0.9", figures.get("busy")),
        ("waits in a chunk, for noise", "0, before 3", figures.get("waits for noise")),
        ("waits in a chunk, all others", "8", figures.get("waits for others")),
        ("decoding a chunk, seconds", "0.19 H100, 0.17 H200", figures.get("seconds, decode")),
        ("peak of paper with the VAE, all on the card, GB", "13 to 14", _over(figures.get("peak, paper"), GIGA)),
    ]
    return [{"what": name, "predicted": guess, "measured": figure} for name, guess, figure in rows]


def _over(figure: float | None, unit: float) -> float | None:
    return None if figure is None else figure / unit
