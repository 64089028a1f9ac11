"""The pictures of the reports. matplotlib is imported where it draws, so nothing else needs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.terminal.labels import add_labels

if TYPE_CHECKING:
    from emulator.timing.infer import Posterior
    from emulator.timing.report import Report
    from emulator.timing.sensitivity import Swing
    from emulator.timing.validate import Row

SMALL = 0.004  # a block's share of a token below which it joins "other" in a picture


def cycles_by_context(path: Path, reports: list[Report], title: str) -> None:
    """One bar a context, its time stacked by block."""
    longest = max(report.cycles for report in reports)
    blocks = [
        b for b in reports[0].by_block if max(r.by_block[b] for r in reports) > SMALL * longest
    ]
    us = [1e6 / report.clock_hz for report in reports]
    figure, axes = _figure(1.2 + 1.3 * len(reports) + 3, 4.5)
    bottom = [0.0] * len(reports)
    labels = [f"{report.context:,}" for report in reports]
    colours = _colours(len(blocks) + 1)
    for name, colour in zip([*blocks, "other"], colours, strict=True):
        cycles = [
            r.by_block[name] if name != "other" else r.cycles - sum(r.by_block[b] for b in blocks)
            for r in reports
        ]
        heights = [c * u for c, u in zip(cycles, us, strict=True)]
        axes.bar(labels, heights, bottom=bottom, label=name, color=colour, width=0.6)
        bottom = [b + h for b, h in zip(bottom, heights, strict=True)]
    axes.set(xlabel="context, positions", ylabel="decode step, us (estimate)", title=title)
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, reverse=True)
    figure.savefig(path, bbox_inches="tight")


def predicted_against_measured(path: Path, rows: list[Row]) -> None:
    """Decode steps, and first-token times under both hypotheses, beside the line of no error."""
    figure, (left, right) = _figure(10, 4.8, columns=2)
    for row in rows:
        step = row.decode_step_us
        left.plot(step.measured, step.predicted, "o", color="C0")
    for index, hypothesis in enumerate(rows[0].ttft_us if rows else ()):
        pairs = [row.ttft_us[hypothesis] for row in rows]
        measured, predicted = [p.measured for p in pairs], [p.predicted for p in pairs]
        right.plot(measured, predicted, "os"[index], color=f"C{index + 1}", label=hypothesis)
    for axes, name in ((left, "decode step, us"), (right, "time to first token, us")):
        low = min(*axes.get_xlim(), *axes.get_ylim())
        high = max(*axes.get_xlim(), *axes.get_ylim())
        room = 0.12 * (high - low)  # for the names of the outermost records
        axes.plot([low, high], [low, high], color="grey", linewidth=0.8)
        axes.set(xlim=(low - room, high + room), ylim=(low - room, high + room))
        axes.set(title=name, xlabel="measured", ylabel="predicted (line: no error)", aspect="equal")
    right.legend(frameon=False, title="prefill")
    years = {row.id[:5] for row in rows}  # short names find room at their dots
    same = years.pop() if len(years) == 1 else ""
    left.set(title=f"decode step, us; records {same}..." if same else "decode step, us")
    steps = [(row.decode_step_us, row.id.removeprefix(same)) for row in rows]
    add_labels(left, [(step.measured, step.predicted, name) for step, name in steps])
    figure.savefig(path)


def tornado(path: Path, swings: list[Swing], rate: float, published: float) -> None:
    """One bar a constant, from the rate at the low end of its range to that at the high end."""
    figure, axes = _figure(8, 1 + 0.32 * len(swings))
    for index, swing in enumerate(reversed(swings)):
        for end, colour in ((swing.rate_low, "C0"), (swing.rate_high, "C1")):
            axes.barh(index, end - rate, left=rate, color=colour, height=0.6)
    axes.set_yticks(range(len(swings)), [swing.key for swing in reversed(swings)])
    axes.axvline(published, color="grey", linestyle="--", linewidth=0.8)
    axes.set(
        xlabel="tok/s, one user (blue: low end of the range, orange: high end; dashed: published)"
    )
    figure.savefig(path, bbox_inches="tight")


def surviving_chips(path: Path, found: Posterior) -> None:
    """Lanes against clock, and the rate at two contexts, of chips drawn by their weights."""
    import numpy as np

    figure, (left, right) = _figure(9, 4.2, columns=2)
    chips = found.chips
    picked = np.random.default_rng(chips.at.seed).choice(chips.at.chips, 2000, p=found.weights)
    lanes = chips.at("fabric.lanes")[picked]
    left.plot(lanes, chips.at("clock.frequency")[picked] / 1e9, ".", alpha=0.3, markersize=4)
    left.set(xlabel="lanes", ylabel="clock, GHz", title="chips that agree with what is published")
    for context, rate in chips.rates.items():
        right.hist(rate[picked], bins=60, histtype="step", label=f"{context:,} positions")
    right.set(xlabel="tok/s, one user", ylabel="chips of 2,000", title="what they would show")
    right.legend(frameon=False)
    figure.savefig(path, bbox_inches="tight")


def _figure(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    """A figure that belongs to no window."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns)


def _colours(count: int) -> list[Any]:
    from matplotlib import colormaps

    return [colormaps["tab20"](i) for i in range(count)]
