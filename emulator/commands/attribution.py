"""`eval --attribute`: which block costs how much, and by which cause."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from emulator.terminal.plot import save_plot
from emulator.terminal.table import table

if TYPE_CHECKING:
    from weights.checkpoint import Checkpoint
    from weights.rom import RomImage


def attribute(
    args: argparse.Namespace, image: RomImage, source: Checkpoint, windows: list[list[int]]
) -> int:
    """Measure, print and draw. Raises UsageError for windows longer than the chip's context."""
    from emulator.chip import Chip
    from emulator.quality.attribution import kl_by_group, kl_by_place, kl_together
    from emulator.quality.float_model import FloatModel
    from emulator.terminal.progress import progress

    masks = FloatModel.of_image(image)
    together = kl_together(masks, Chip(image), windows)
    with progress("rounding places", "figures") as show:
        places = kl_by_place(masks, windows, args.depths, show)
    exact = FloatModel.folded(source, image.manifest["rotation"]["seed"])
    with progress("exchanging matrices", "figures") as show:
        weights = kl_by_group(exact, masks, windows, args.depths, show)
    report = {
        "schema": 1,
        "mix": image.manifest["mix"],
        "kl_mean": weights,
        "datapath_kl_mean": places,
        "datapath_together": together,
    }
    if args.plot:
        from emulator.quality.pictures import by_cause

        save_plot(args.plot, lambda path: by_cause(path, report, image.config.layers))
    print(json.dumps(report) if args.json else _tables(report))
    return 0


def _tables(report: dict[str, Any]) -> str:
    from emulator.quality.tap_points import CAUSE

    weights, places = report["kl_mean"], report["datapath_kl_mean"]
    together = report["datapath_together"]
    depths = max(map(len, places.values()))
    columns = ["KL mean", "all", *(f"{i + 1}/{depths}" for i in range(depths))]
    by_cause = [[CAUSE[name], *row] for name, row in zip(places, _rows(places), strict=True)]
    return "\n".join(
        [
            "Weights, by class of matrices:",
            table(columns, _rows(weights)),
            "",
            "Datapath, by the place that is made as the chip makes it:",
            table(["cause", *columns], by_cause),
            "",
            f"Places added up {sum(map(sum, places.values())):.5f}, all of them at once "
            f"{together['all_places']:.5f}, the chip itself {together['chip']:.5f}.",
            "By depth, first layers first.",
        ]
    )


def _rows(costs: dict[str, list[float]]) -> list[list[str]]:
    """Name, sum, and the figures by depth; a matrix outside the layers has none."""
    depths = max(map(len, costs.values()))
    rows = []
    for name, values in costs.items():
        cells = [f"{v:.5f}" for v in values] if len(values) == depths else ["-"] * depths
        rows.append([name, f"{sum(values):.5f}", *cells])
    return rows
