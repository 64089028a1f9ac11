"""Other hardwired chips: what they published beside what the same formulas say of them.

ROMA is a chip description like HC1's (`silicon/roma.toml`). Two others are slices: a network that
takes one input a cycle, as two fabric passes, and a column that takes one row and one bit a cycle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.errors import UsageError
from emulator.silicon.cost import WHOLE_VECTOR, Cost, Phase
from emulator.silicon.spec import load_spec, preset
from emulator.timing.die import die_of
from emulator.timing.models import blank_stages, known_model, kv_sram_bits
from emulator.timing.prefill import prefill_cycles
from emulator.timing.schedule import stage_cycles
from emulator.toml_file import read_toml
from weights.checkpoint import LAYER_MATRICES, tensor_shape
from weights.mix import Mix

OTHERS = Path(__file__).with_name("others.toml")
LORA_BITS = 16


@dataclass(frozen=True, slots=True)
class Figure:
    """One published number; `predicted` is None where the formulas do not reach."""

    chip: str
    kind: str
    at: int  # positions or prompt tokens
    published: float
    predicted: float | None
    unit: str
    grade: str
    source: str

    @property
    def error(self) -> float | None:
        return None if self.predicted is None else self.predicted / self.published - 1

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__} | {"error": self.error}


@cache
def figures() -> tuple[Figure, ...]:
    """Every figure of others.toml, in its order; worked out once a process, in some seconds."""
    found = []
    for chip, table in read_toml(OTHERS, UsageError)[0].items():
        for row in table["figures"]:
            predicted = _predict(chip, table, row["kind"], row["at"])
            given = {key: row[key] for key in ("kind", "at", "unit", "grade", "source")}
            found.append(Figure(chip=chip, published=row["value"], predicted=predicted, **given))
    return tuple(found)


def _predict(chip: str, table: dict[str, Any], kind: str, at: int) -> float | None:
    if kind == "not_predicted":
        return None
    if "model" in table:
        return _of_chip(chip, table, kind, at)
    if "hidden" in table:
        return network_cost(table["inputs"], table["hidden"], table["outputs"]).cycles
    column = np.zeros((table["rows"], 1), np.int64)
    return bit_serial_column(column, column[:, 0], table["input_bits"])[1]


def _of_chip(chip: str, table: dict[str, Any], kind: str, at: int) -> float:
    """From the description of a whole chip and its model."""
    spec = load_spec(preset(chip))
    config, mix = known_model(table["model"]), Mix.parse(table["mix"])
    stages = blank_stages(config, mix)
    shapes = [tensor_shape(config, name) for name in LAYER_MATRICES]
    lora = config.layers * table["lora_rank"] * sum(rows + columns for rows, columns in shapes)
    predict: dict[str, Callable[[], float]] = {
        "rate": lambda: spec.clock_hz / sum(stage_cycles(stages, spec, at).values()),
        "first_token": lambda: 1e3 * prefill_cycles(stages, spec, at)["serial"] / spec.clock_hz,
        "die": lambda: die_of(stages, spec, 1).area.totals[1],
        "power": lambda: die_of(stages, spec, at).power.totals[1],
        "memory": lambda: (kv_sram_bits(config, spec) + LORA_BITS * lora) / 8e6,
    }
    return predict[kind]()


SET_UP, DRAIN = (
    3,
    2,
)  # latencies of a pass and of its drain in model2rtl: their sum is what is known


def network_cost(inputs: int, hidden: int, outputs: int) -> Cost:
    """Two layers, an input a cycle in and a result a cycle out of each, nothing overlapped."""
    passes = []
    for columns, rows in ((inputs, hidden), (hidden, outputs)):
        passes += [Phase(columns, SET_UP), Phase(rows, DRAIN), WHOLE_VECTOR]
    return Cost(tuple(passes))


def bit_serial_column(
    weights: NDArray[np.int64], inputs: NDArray[np.int64], input_bits: int
) -> tuple[NDArray[np.int64], int]:
    """Dot products of ternary columns and the cycles that they take, one row and one bit at a time.

    weights int64[rows, columns] in {-1, 0, 1}; inputs int64[rows] of `input_bits`, unsigned.
    """
    sums, cycles = np.zeros(weights.shape[1], np.int64), 0
    for bit in range(input_bits):
        for row, value in zip(weights, inputs, strict=True):
            sums += row * (value >> bit & 1) << bit
            cycles += 1
    return sums, cycles
