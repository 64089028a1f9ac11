"""Draw docs/quality.svg and docs/attribution.svg anew from the tables of docs/quality.md.

    python docs/draw_quality.py

The commands beside those tables measure for an hour, need llama.cpp and draw the same pictures with
--plot; this repeats the drawing from what they printed.
"""

from __future__ import annotations

import re
from pathlib import Path

from emulator.quality.pictures import OWN_WEIGHTS, by_cause, kl_over_bits
from emulator.quality.tap_points import PLACES

DOCS = Path(__file__).parent
LAYERS = 30  # of SmolLM2-135M
NONE = ", no importance matrix"


def tables(text: str) -> list[list[list[str]]]:
    """The tables of a page, each as rows of cells; rules and headings are left out."""
    found = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    rows = [[_cells(line) for line in table.splitlines()[2:]] for table in found]
    return [table for table in rows if table]


def _cells(line: str) -> list[str]:
    return [cell.strip().strip("`") for cell in line.strip().strip("|").split("|")]


def compared(table: list[list[str]]) -> list[dict[str, object]]:
    """Rows of `kl_over_bits`."""
    rows = []
    for name, bits, kl, *_ in table:
        whose = "llama.cpp" if name.startswith("llama.cpp") else "ours"
        short = name.removeprefix("llama.cpp ").replace("`", "")
        if OWN_WEIGHTS in short:
            short = f"Q4_1, {OWN_WEIGHTS}"
        elif short.endswith(NONE):
            short = short.removesuffix(NONE) + " plain"
        short = short.split(", hc1")[0]
        rows.append({"whose": whose, "name": short, "bits": float(bits), "kl_mean": float(kl)})
    return rows


def costs(table: list[list[str]]) -> dict[str, list[float]]:
    """KL by depth; one figure where a matrix is in no layer."""
    return {
        name: [float(total)] if depths[0] == "-" else [float(value) for value in depths]
        for name, total, *depths in table
    }


def main() -> None:
    text = (DOCS / "quality.md").read_text("utf-8")
    found = tables(text)
    (beside,) = (t for t in found if any("IQ3_XXS" in row[0] for row in t))
    kl_over_bits(DOCS / "quality.svg", compared(beside))
    (weights,) = (t for t in found if [row[0] for row in t][:2] == ["q", "k"])
    (signals,) = (t for t in found if t[0][0] == "qkv_input")
    known, prose = costs(signals), " ".join(text.split())
    small = re.search(r"tables together cost ([\d.]+)\.", prose)
    sums = re.search(r"all of them at once give ([\d.]+), the chip ([\d.]+)\.", prose)
    assert small is not None, "quality.md no longer says what the tables cost"
    assert sums is not None, "quality.md no longer gives the sums"
    depths = len(known["q"])
    for name in ("softmax", "silu", "rope"):
        known[name] = [float(small[1]) / 3 / depths] * depths
    report = {
        "kl_mean": costs(weights),
        "datapath_kl_mean": {name: known[name] for name in PLACES},
        "datapath_together": {"all_places": float(sums[1]), "chip": float(sums[2])},
    }
    by_cause(DOCS / "attribution.svg", report, LAYERS)


if __name__ == "__main__":
    main()
