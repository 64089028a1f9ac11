"""Which dies can be sold, and what one costs: as they are, with harmless cells, and repaired.

A defect falls on the die at random and kills what it hits. In the KV SRAM spare rows replace it, in
all three readings. In the masks it breaks cells, among the adders a row; elsewhere it ends the die.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from emulator.chip import Stage
from emulator.economics.constants import Economics
from emulator.economics.silicon_cost import MM2_IN_CM2, die_cost, dies
from emulator.silicon.spec import ChipSpec
from emulator.timing.budget import shape_of
from emulator.timing.energy import die_area

SPARED = ("KV SRAM",)
CELLS, ROWS = "ROM cells", "adders and scales"
READINGS = {  # the parts of the die in which a defect still ends it
    "every broken cell or row ends the die": (CELLS, ROWS),
    "a few broken cells do no harm": (ROWS,),
    "cells and rows are repaired in SRAM": (),
}


@dataclass(frozen=True, slots=True)
class Yield:
    """One defect density, one reading."""

    defects_per_cm2: float
    reading: str
    critical_mm2: float
    sellable: float  # share of the gross dies, Murphy's
    die_dollars: float  # a good one

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def repair_yields(
    stages: list[Stage], spec: ChipSpec, economics: Economics, densities: tuple[float, ...]
) -> list[Yield]:
    """For each density the three readings; gross dies by the published area, parts by ours."""
    parts = die_area(spec, shape_of(stages)).mid
    scale = spec.published.die.value / sum(parts.values())
    price = economics.value("wafer.price")
    usable = economics.value("wafer.diameter") - 2 * economics.value("wafer.edge")
    found = []
    for density in densities:
        gross = dies(np.asarray(usable), np.asarray(spec.published.die.value), np.asarray(density))
        for reading, fatal in READINGS.items():
            tolerated = (*SPARED, *(part for part in (CELLS, ROWS) if part not in fatal))
            critical = scale * sum(mm2 for name, mm2 in parts.items() if name not in tolerated)
            expected = critical / MM2_IN_CM2 * density
            share = ((1 - np.exp(-expected)) / expected) ** 2
            good = gross._replace(good=np.maximum(np.rint(gross.gross * share), 1))
            cost = float(die_cost(np.asarray(price), good))
            found.append(Yield(density, reading, critical, float(share), cost))
    return found
