"""How a decode pass grows with threads, context and sequences; with a picture.

python -m benchmarks.scale [--json] [--model 8b] [--sequences 1,2,4,8,16] [--out docs/scale.svg]

Each axis alone, from one thread's or one sequence's pass: the best of some passes, since what is
beside a pass only makes it longer. The last column is the rate of the sum over that of the first
row of its axis.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import common
from benchmarks.load import Load
from emulator.board import Board

AXES = ("threads", "context", "sequences")


def passes(board: Board, args: argparse.Namespace, load: Load) -> list[dict[str, Any]]:
    """A row for each point of each axis."""
    rows: list[dict[str, Any]] = []
    for axis in AXES:
        first = 0.0
        for value in getattr(args, axis):
            at = {"threads": max(args.threads), "context": args.context[0], "sequences": 1}
            at |= {axis: value}
            common.use_threads(at["threads"])
            count = at["sequences"]

            def action(at: dict[str, int] = at, count: int = count) -> float:
                sizes = [count], at["context"], args.tokens
                return common.sequence_seconds(board, *sizes, best=True)[count]

            seconds = load.round(action)
            rate = count / seconds
            first = first or rate
            rows.append(
                {
                    "axis": axis,
                    **at,
                    "pass_ms": seconds * 1e3,
                    "tok_per_s": rate,
                    "times": rate / first,
                }
            )
    return rows


def draw(path: Path, found: dict[str, list[dict[str, Any]]]) -> None:
    """A panel an axis: tokens a second, all sequences together."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    panels = figure.subplots(1, len(AXES))
    for panel, axis in zip(panels, AXES, strict=True):
        for model, rows in found.items():
            here = [row for row in rows if row["axis"] == axis]
            most = here[0]["tok_per_s"]
            values = [row["tok_per_s"] / most for row in here]
            panel.plot([row[axis] for row in here], values, "o-", label=model)
        panel.set(xscale="log", xlabel=axis, ylim=(0, None))
        panel.set_xticks([row[axis] for row in here], [f"{row[axis]}" for row in here])
        panel.minorticks_off()
    panels[0].set(ylabel="tokens a second, first point = 1")
    panels[0].legend(frameon=False)
    figure.savefig(path)


def main() -> None:
    parser = common.parser(__doc__.splitlines()[0])
    cores = os.cpu_count() or 1
    parser.add_argument("--threads", type=common.numbers, default=list(range(1, cores + 1)))
    parser.add_argument("--context", type=common.numbers, default=[64, 1024, 4096])
    parser.add_argument("--sequences", type=common.numbers, default=[1, 2, 4, 8, 16])
    parser.add_argument("--tokens", type=int, default=8, help="passes of a measurement")
    parser.add_argument("--out", type=Path, metavar="FILE", help="draw the rates")
    args = parser.parse_args()
    load, found = Load(), dict[str, list[dict[str, Any]]]()
    for model in common.chosen(args):
        with common.image_of(model, args.layers) as image:
            positions = max(args.context) + args.tokens
            board = Board(image, max(args.sequences), positions)
            found[model] = passes(board, args, load)
    rows = [{"model": model, **row} for model, part in found.items() for row in part]
    common.show("scale", rows, args.json, **load.told())
    if args.out:
        draw(args.out, found)


if __name__ == "__main__":
    main()
