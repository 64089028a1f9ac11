"""The trade between a chip's quality and the masks that stay as they are: several second images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.terminal.table import table

if TYPE_CHECKING:
    from emulator.quality.fine_tune import FineTune
    from emulator.silicon.spec import ChipSpec
    from weights.rom import RomImage


@dataclass(frozen=True, slots=True)
class Point:
    """One image: what it changes of the first, and how far it is from the fine-tune."""

    image: str
    price: float | None  # of a changed cell, if it was compiled near another image
    changed_codes: float  # share
    changed_cells: float  # share
    changed_scales: int
    kl: float | None
    top1: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def trade(
    first: RomImage, others: Sequence[RomImage], spec: ChipSpec, wanted: FineTune | None
) -> list[Point]:
    """The first image, which changes nothing, and the others."""
    return [_point(first, image, spec, wanted) for image in (first, *others)]


def _point(first: RomImage, image: RomImage, spec: ChipSpec, wanted: FineTune | None) -> Point:
    from emulator.chip import Chip
    from emulator.economics.respin import changes

    found = [] if image is first else list(changes(first, image, spec))
    far = wanted.distance(Chip(image)) if wanted is not None else {}
    near = image.manifest.get("near")
    return Point(
        image.folder.name,
        near["price"] if isinstance(near, dict) else None,
        sum(o.changed_codes for o in found) / max(sum(o.codes for o in found), 1),
        sum(o.changed_cells for o in found) / max(sum(o.cells for o in found), 1),
        sum(o.changed_scales for o in found),
        far.get("kl_mean"),
        far.get("top1_agreement"),
    )


def trade_text(points: list[Point]) -> str:
    rows = [
        [
            point.image,
            "-" if point.price is None else f"{point.price:g}",
            f"{100 * point.changed_codes:.2f}",
            f"{100 * point.changed_cells:.2f}",
            f"{point.changed_scales:,}",
            *([f"{point.kl:.5f}", f"{100 * point.top1:.1f}"] if point.kl and point.top1 else []),
        ]
        for point in points
    ]
    head = ["image", "price", "codes changed, %", "via cells changed, %", "scales changed"]
    return table(head + (["KL, nats", "top-1, %"] if len(rows[0]) > len(head) else []), rows)


def draw_trade(path: Path, points: list[Point]) -> None:
    """KL over the share of cells that change; those near the first image are joined by a line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    near = sorted((p for p in points if p.price is not None), key=lambda p: p.changed_cells)
    joined = [_place(point) for point in near]
    if joined:
        axes.plot(*zip(*joined, strict=True), "o-", label="compiled near the first")
    for point, place in zip(near, joined, strict=True):
        axes.annotate(f"{point.price:g}", place, (4, 4), textcoords="offset points", fontsize=8)
    others = (point for point in points if point.price is None)
    for point, marker in zip(others, cycle("s^vD*"), strict=False):
        axes.plot(*_place(point), marker, label=point.image)
    axes.set(xlabel="via cells that change, %", ylabel="mean KL from the fine-tune, nats")
    axes.set(ylim=(0, None))
    axes.legend(frameon=False)
    figure.savefig(path)


def _place(point: Point) -> tuple[float, float]:
    assert point.kl is not None
    return 100 * point.changed_cells, point.kl
