"""What a die costs: gross dies of a wafer, Murphy's yield, the wafer's price over the good ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emulator.traffic.randomness import Reals, exp

MM2_IN_CM2 = 100


class Dies(NamedTuple):
    """Of one wafer, arrays of the draws."""

    gross: Reals
    yield_share: Reals
    good: Reals  # whole dies


def dies(diameter_mm: Reals, area_mm2: Reals, defects_per_cm2: Reals) -> Dies:
    """Gross dies lose those that the rim cuts; Murphy's yield is ((1 - exp(-AD)) / AD)^2."""
    area = np.asarray(area_mm2, np.float64)
    wafer = np.pi * diameter_mm * diameter_mm / 4
    gross = np.floor(wafer / area - np.pi * diameter_mm / np.sqrt(2 * area))
    expected = area / MM2_IN_CM2 * defects_per_cm2
    root = (1 - exp(-expected)) / expected
    return Dies(gross, root * root, np.maximum(np.rint(gross * root * root), 1))


def die_cost(wafer_price: Reals, of: Dies) -> Reals:
    """$ a good die."""
    return wafer_price / of.good
