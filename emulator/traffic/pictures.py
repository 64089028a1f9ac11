"""The pictures of `plan`. matplotlib is imported where it draws, so nothing else needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emulator.traffic.metrics import BINS, busy_over_time
from emulator.traffic.search import Point
from emulator.traffic.server import Served


def load_and_timeline(
    path: Path, curves: dict[str, list[Point]], runs: dict[str, Served], reports: dict[str, Any]
) -> None:
    """Left: time to first token over load. Right: busy cards and the longest queue over time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    grid = figure.subplot_mosaic("LU;LD", width_ratios=[1.1, 1])
    left, up, down = grid["L"], grid["U"], grid["D"]
    for index, (hypothesis, points) in enumerate(curves.items()):
        loads = [100 * point.load for point in points]
        for name, style in (("p50", ":"), ("p95", "--"), ("p99", "-")):
            values = [getattr(point, f"{name}_ms") for point in points]
            left.plot(loads, values, style, color=f"C{index}", label=f"{hypothesis}, {name}")
    left.set(
        yscale="log", xlabel="load, % of what the cards can do", ylabel="time to first token, ms"
    )
    left.legend(frameon=False, fontsize=8)
    for index, (hypothesis, served) in enumerate(runs.items()):
        minutes = [
            (bin_ + 0.5) * reports[hypothesis]["queue"]["bin_s"] / 60 for bin_ in range(BINS)
        ]
        busy = 100 * busy_over_time(served)
        up.plot(minutes, busy, color=f"C{index}", label=hypothesis)
        waiting = reports[hypothesis]["queue"]["most_by_bin"]
        down.step(minutes, waiting, where="mid", color=f"C{index}")
    up.set(ylabel="busy cards, %")
    up.set_ylim(bottom=0)
    up.legend(frameon=False, fontsize=8)
    down.set(ylabel="longest queue", xlabel="time, min")
    down.set_ylim(bottom=0)
    figure.savefig(path)


def curve(path: Path, curves: dict[str, list[Point]], limit_ms: float | None) -> None:
    """Percentiles of the time to first token over load up to saturation."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for index, (hypothesis, points) in enumerate(curves.items()):
        rates = [point.rate for point in points]
        for name, style in (("p50", ":"), ("p95", "--"), ("p99", "-")):
            values = [getattr(point, f"{name}_ms") for point in points]
            axes.plot(rates, values, style, color=f"C{index}", label=f"{hypothesis}, {name}")
    if limit_ms is not None:
        axes.axhline(limit_ms, color="grey", linewidth=0.8)
    axes.set(yscale="log", xlabel="requests a second", ylabel="time to first token, ms")
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path)
