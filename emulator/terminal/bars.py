"""A bar chart of named numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emulator.errors import UsageError


def bar_chart(
    values: Mapping[str, float], unit: str, title: str, path: Path | str | None = None
) -> Any:
    """Draw horizontal bars, the first on top; return matplotlib's figure, saved to a given `path`.

    Raises UsageError without matplotlib, or if the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("a picture needs matplotlib: pip install matplotlib") from None
    figure = Figure(figsize=(7, 1 + 0.3 * len(values)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(list(values), list(values.values()), height=0.65)
    axes.bar_label(bars, [f"{value:,.0f}" for value in values.values()], padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.14)
    axes.set(xlabel=unit, title=title)
    axes.spines[["top", "right"]].set_visible(False)
    if path is not None:
        if Path(path).is_dir():  # matplotlib would write beside it
            raise UsageError(f"{path}: is a folder")
        try:
            figure.savefig(path)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(f"{path}: cannot be written: {reason}") from None
    return figure
