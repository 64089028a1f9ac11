"""The pictures of `eval` and of the comparison with llama.cpp.

matplotlib is imported where it draws. Their ground is white, in pages with a dark ground too.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from emulator.quality.tap_points import CAUSE
from emulator.terminal.labels import add_labels

OURS, THEIRS, PLAIN = "this project's ROM images", "llama.cpp", " plain"
OWN_WEIGHTS = "the reference's own weights"
STYLES = {  # series of `kl_over_bits`: marker, colour, filled
    OURS: ("o", "C0", True),
    THEIRS: ("s", "C1", True),
    f"{THEIRS}, no importance matrix": ("s", "C1", False),
    f"{OWN_WEIGHTS} (llama.cpp's arithmetic alone)": ("D", "0.35", False),
}
SIGNALS = {  # tap point -> what a reader of the datapath knows
    "qkv_input": "input of q, k, v",
    "o_input": "input of o",
    "gate_up_input": "input of gate, up",
    "down_input": "input of down",
    "head_input": "input of the head",
    "q": "query",
    "k": "keys",
    "v": "values",
    "softmax": "softmax",
    "silu": "SiLU",
    "rope": "RoPE",
}
CAUSES = {"activations": "int8", "query": "int8", "KV": "KV SRAM", "tables": "table"}


def kl_over_bits(path: Path, rows: list[dict[str, Any]]) -> None:
    """KL over bits a weight; a row has `whose` (ours, llama.cpp), `name`, `bits` and `kl_mean`.

    A name that ends with " plain" was made without an importance matrix; OWN_WEIGHTS are the
    weights that everything is compared with.
    """
    figure, axes = _figure(8, 5)
    dots = []
    for series, (marker, colour, filled) in STYLES.items():
        own = [row for row in rows if _series(row) == series]
        style = {"color": colour, "mfc": colour if filled else "white", "label": series}
        if own:
            kl = [row["kl_mean"] for row in own]
            axes.plot([row["bits"] for row in own], kl, marker, **style)
        dots += [(r["bits"], r["kl_mean"], r["name"].removesuffix(PLAIN)) for r in own]
    axes.set(
        xlabel="bits a weight, whole file",
        ylabel="mean KL divergence from the float model, nats",
        yscale="log",
    )
    axes.margins(0.12)
    axes.legend(frameon=False, loc="lower left", fontsize=8)
    add_labels(axes, dots)
    figure.savefig(path)


def _series(row: dict[str, Any]) -> str:
    if row["name"].endswith(OWN_WEIGHTS):
        return list(STYLES)[3]
    if row["whose"] == "ours":
        return OURS
    return f"{THEIRS}, no importance matrix" if row["name"].endswith(PLAIN) else THEIRS


def by_cause(path: Path, report: dict[str, Any], layers: int) -> None:
    """A bar a class of matrices, a bar a signal, each stacked by depth, first layers left."""
    from matplotlib import colormaps

    figure, (left, right) = _figure(10, 4.6, columns=2)
    weights, signals = report["kl_mean"], report["datapath_kl_mean"]
    depths = max(map(len, signals.values()))
    edges = [round(layers * i / depths) for i in range(depths + 1)]
    named = [f"layers {a + 1} to {b}" for a, b in pairwise(edges)]
    colours = [colormaps["viridis"](i / max(depths - 1, 1)) for i in range(depths)]

    def bars(axes: Any, costs: dict[str, list[float]]) -> None:
        rows = range(len(costs))
        starts = [0.0] * len(costs)
        for depth in range(depths):
            widths = [1000 * v[depth] if len(v) == depths else 0.0 for v in costs.values()]
            axes.barh(rows, widths, left=starts, color=colours[depth], label=named[depth])
            starts = [a + b for a, b in zip(starts, widths, strict=True)]
        alone = [1000 * v[0] if len(v) != depths else 0.0 for v in costs.values()]
        axes.barh(rows, alone, color="0.6")
        axes.set_yticks(rows, list(costs))
        axes.invert_yaxis()
        axes.set(xlabel="mean KL divergence, thousandths of a nat")
        axes.spines[["top", "right"]].set_visible(False)

    bars(left, weights)
    left.set(title="Rounded weights, by matrix")
    known = {
        f"{SIGNALS.get(n, n)} ({CAUSES.get(CAUSE[n], CAUSE[n])})": v for n, v in signals.items()
    }
    together = report["datapath_together"]
    whole = {"all of these at once": [together["all_places"]], "the chip": [together["chip"]]}
    bars(right, known | whole)
    right.set(title="Rounded signals, by place")
    if depths <= 10:
        left.legend(frameon=False, fontsize=8)
    figure.savefig(path)


def kl_by_position(path: Path, report: dict[str, Any], distances: tuple[str, ...]) -> None:
    """KL over the position in the window; what is scored stands on a grey ground."""
    figure, axes = _figure(7, 4)
    edges = [report["bins"][0][0], *(end for _, end in report["bins"])]
    axes.axvspan(report["window"] // 2, edges[-1], color="0.93", label="scored")
    for name in distances:  # without a baseline: no line drops to the axis at either end
        steps = report[name]["kl_by_position"]
        axes.stairs(steps, edges, label=name, linewidth=1.6, baseline=None)
    axes.set(xlabel="position in the window, tokens", yscale="log", xlim=(edges[0], edges[-1]))
    axes.set(ylabel="mean KL divergence, nats")
    axes.legend(frameon=False)
    figure.savefig(path)


def _figure(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    """A figure that belongs to no window, on a white ground."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    return figure, figure.subplots(1, columns)
