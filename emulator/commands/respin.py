"""`respin`: what a new model on the same base die changes in the masks, and what that costs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.commands.chip_options import add_chip_options, spec_of
from emulator.errors import UsageError
from emulator.terminal.plot import add_plot_option, save_plot
from emulator.terminal.table import table

if TYPE_CHECKING:
    from emulator.economics.respin import MatrixChange, Price
    from emulator.quality.fine_tune import FineTune
    from emulator.silicon.spec import ChipSpec
    from weights.checkpoint import Checkpoint
    from weights.peft_adapter import PeftAdapter
    from weights.rom import RomImage

WEEKS_A_MONTH = 365.25 / 12 / 7


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "respin",
        help="two models on one base die: which vias change",
        description="Compare two ROM images of one shape: codes, via cells, scales and tables that "
        "differ, by matrix; and the price of a new mask set. Two shapes cannot share a die. "
        "Several second images: a line each, and with --lora KL over changed cells.",
    )
    parser.add_argument("first", help="an image's folder, or a model as --model takes it")
    parser.add_argument("second", nargs="+", help="the same")
    parser.add_argument(
        "--lora",
        metavar="DIR",
        help="B is A with this adapter merged: also compare it with the adapter in A's SRAM",
    )
    parser.add_argument("--checkpoint", type=Path, metavar="PATH", help="what A was made from")
    add_chip_options(parser)
    add_plot_option(parser)
    parser.set_defaults(command=_respin)


def _respin(args: argparse.Namespace) -> int:
    from emulator.images.make import open_folder_or_named

    spec, first = spec_of(args), open_folder_or_named(args.first)
    others = [open_folder_or_named(where) for where in args.second]
    for other in others:
        _check_die(first, other)
    return (
        _one(args, first, others[0], spec) if len(others) == 1 else _many(args, first, others, spec)
    )


def _check_die(first: RomImage, second: RomImage) -> None:
    from emulator.economics.respin import obstacles

    if why := obstacles(first, second):
        more = f" (and {len(why) - 1} more)" if len(why) > 1 else ""
        raise UsageError(f"no base die holds both: {why[0]}{more}")


def _one(args: argparse.Namespace, first: RomImage, second: RomImage, spec: ChipSpec) -> int:
    from emulator.economics.constants import load_economics
    from emulator.economics.respin import changed_tables, changes, price

    found, tables = list(changes(first, second, spec)), changed_tables(first, second)
    cost = price(load_economics())
    if args.plot:
        save_plot(args.plot, lambda path: _draw(path, found))
    if args.json:
        rows = [one.to_json() for one in found]
        head = {"schema": 1, "same": _same(found, tables), "tables": tables}
        print(json.dumps(head | {"matrices": rows, "price": cost.to_json()}))
    else:
        print(_text(found, tables, cost))
        if args.lora:
            print(f"\n{_side_by_side(args, first, second, spec, cost)}")
    return 0


def _many(args: argparse.Namespace, first: RomImage, others: list[RomImage], spec: ChipSpec) -> int:
    from emulator.commands.respin_trade import draw_trade, trade, trade_text

    if args.plot and not args.lora:
        raise UsageError("--plot of several images draws their distance from the fine-tune: --lora")
    points = trade(first, others, spec, _fine_tune(args, first)[2] if args.lora else None)
    if args.plot:
        save_plot(args.plot, lambda path: draw_trade(path, points))
    told = {"schema": 1, "images": [point.to_json() for point in points]}
    print(json.dumps(told) if args.json else trade_text(points))
    return 0


def _fine_tune(
    args: argparse.Namespace, first: RomImage
) -> tuple[Checkpoint, PeftAdapter, FineTune]:
    from emulator.images.adapters import checkpoint_of, read_adapter
    from emulator.quality.fine_tune import FineTune
    from weights.merged import Merged

    source, adapter = checkpoint_of(first, args.checkpoint), read_adapter(first, args.lora)
    return source, adapter, FineTune.of(Merged(source, adapter))


def _side_by_side(
    args: argparse.Namespace, first: RomImage, second: RomImage, spec: ChipSpec, cost: Price
) -> str:
    """The same fine-tune in SRAM and in new masks: KL from it in float32, speed, price."""
    from emulator.chip import Chip
    from emulator.timing.schedule import token_cycles
    from weights.lora import adapter_for

    source, adapter, wanted = _fine_tune(args, first)
    side = adapter_for(first, source, adapter)
    rows = []
    for name, image, adapters in (("adapter in SRAM", first, [side]), ("new masks", second, [])):
        chip = Chip(image, adapters=adapters)
        chip.use(adapter.name if adapters else "")
        found = wanted.distance(chip)
        at = min(len(wanted.tokens), chip.context)
        rate = spec.clock_hz / sum(token_cycles(chip.stages, spec, at, True).values())
        price = f"{side.stored_bits / 8e6:.2f} MB, {chip.positions - chip.context} positions"
        months = " to ".join(f"{m:g}" for m in cost.months[::2])
        dollars = (cost.masks[1] + cost.work[1]) / 1e6
        price = price if adapters else f"{dollars:.1f} M$, {months} months (estimate)"
        top1 = f"{100 * found['top1_agreement']:.1f}"
        rows.append([name, f"{found['kl_mean']:.5f}", top1, f"{rate:,.0f}", price])
    head = ["the same fine-tune as", "KL, nats", "top-1, %", "tok/s (estimate)", "price"]
    return table(head, rows)


def _same(found: list[MatrixChange], tables: list[str]) -> bool:
    return not tables and not any(one.changed_cells or one.changed_scales for one in found)


def _text(found: list[MatrixChange], tables: list[str], cost: Price) -> str:
    if _same(found, tables):
        return "nothing changes: the masks are the same"
    rows = []
    for kind in dict.fromkeys(one.name.rsplit(".", 1)[-1] for one in found):
        own = [one for one in found if one.name.rsplit(".", 1)[-1] == kind]
        rows.append([kind, *_sums(own)])
    rows.append(["all", *_sums(found)])
    head = ["matrix", "codes", "changed, %", "via cells changed, %", "scales changed"]
    low, _, high = (WEEKS_A_MONTH * months for months in cost.months)
    dollars = [a + b for a, b in zip(cost.masks, cost.work, strict=True)]
    return "\n".join(
        [
            table(head, rows),
            "",
            f"tables that differ: {', '.join(tables) or 'none'}",
            "masks: two metals with their vias (2 to 6 reticles, estimate), as soon as one cell "
            "differs",
            f"time: {low:.0f} to {high:.0f} weeks; masks and work: {dollars[1] / 1e6:.1f} M$ "
            f"({dollars[0] / 1e6:.1f} to {dollars[2] / 1e6:.1f}, estimate)",
        ]
    )


def _sums(own: list[MatrixChange]) -> list[str]:
    codes, cells = sum(o.codes for o in own), sum(o.cells for o in own)
    return [
        f"{codes:,}",
        f"{100 * sum(o.changed_codes for o in own) / codes:.2f}",
        f"{100 * sum(o.changed_cells for o in own) / cells:.2f}",
        f"{sum(o.changed_scales for o in own):,}",
    ]


def _draw(path: Path, found: list[MatrixChange]) -> None:
    """Share of changed cells by layer and matrix."""
    import numpy as np
    from matplotlib.figure import Figure

    shares = {tuple(one.name.split(".")[1:]): one.share for one in found if "." in one.name}
    names = list(dict.fromkeys(name for _, name in shares))
    layers = 1 + max(int(layer) for layer, _ in shares)
    grid = np.array([[shares[str(i), name] for i in range(layers)] for name in names])
    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(100 * grid, aspect="auto", cmap="viridis", vmin=0)
    axes.set(xlabel="layer", yticks=range(len(names)), yticklabels=names)
    figure.colorbar(shown, label="via cells changed, %")
    figure.savefig(path)
