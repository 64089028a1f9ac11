"""Leave one record out: refit its deployment's constants on the others, then predict it.

Beside the structure stands the null model, which knows nothing of the chip: the mean of the
deployment's other records. A structure that predicts no better explains no scatter; it only says
what the mean ought to be.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from emulator.silicon.spec import ChipSpec
from emulator.timing.validate import Compared, Row

QUANTITIES = ("decode_step", "ttft_serial", "ttft_pipelined")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One record, predicted from the others of its deployment; us."""

    id: str
    deployment: str
    quantity: str  # of QUANTITIES
    model: Compared  # structure and one constant
    null: Compared  # one constant alone

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "deployment": self.deployment,
            "quantity": self.quantity,
            "model": self.model.to_json(),
            "null": self.null.to_json(),
        }


def leave_one_out(rows: list[Row], spec: ChipSpec) -> list[LeftOut]:
    """Every record that shares its deployment with another; a lone one cannot be left out.

    The serial hypothesis has no constant to fit, so its prediction is that of `compare`.
    """
    found = []
    for quantity in QUANTITIES:
        pick = _QUANTITY[quantity]
        for row in rows:
            others = [o for o in rows if o.deployment == row.deployment and o is not row]
            if not others:
                continue
            measured, own = pick(row, spec)
            pairs = [pick(other, spec) for other in others]
            constant = statistics.fmean(m - c for m, c in pairs)
            if quantity == "ttft_serial":
                constant = spec.deployment[row.deployment].request_serial.value
            model = Compared(measured, own + constant)
            null = Compared(measured, statistics.fmean(m for m, _ in pairs))
            found.append(LeftOut(row.id, row.deployment, quantity, model, null))
    return found


def mean_errors(left: list[LeftOut]) -> dict[str, dict[str, float]]:
    """Mean absolute error of model and null model, by quantity."""
    return {
        quantity: {
            "model": statistics.fmean(abs(o.model.error) for o in part),
            "null": statistics.fmean(abs(o.null.error) for o in part),
        }
        for quantity in QUANTITIES
        if (part := [o for o in left if o.quantity == quantity])
    }


Pick = Callable[[Row, ChipSpec], tuple[float, float]]


def _step(row: Row, spec: ChipSpec) -> tuple[float, float]:
    """Measured, and the chip's own part of the prediction; us."""
    added = spec.deployment[row.deployment].decode_step.value
    return row.decode_step_us.measured, row.decode_step_us.predicted - added


def _ttft(hypothesis: str) -> Pick:
    def pick(row: Row, spec: ChipSpec) -> tuple[float, float]:
        costs = spec.deployment[row.deployment]
        added = getattr(costs, f"request_{hypothesis}").value
        compared = row.ttft_us[hypothesis]
        return compared.measured, compared.predicted - added

    return pick


_QUANTITY: dict[str, Pick] = {
    "decode_step": _step,
    "ttft_serial": _ttft("serial"),
    "ttft_pipelined": _ttft("pipelined"),
}
