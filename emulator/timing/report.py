"""What the model says of one model on one chip at one context: the numbers behind `cycles`."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.chip import Stage
from emulator.config import LlamaConfig
from emulator.silicon.spec import ChipSpec
from emulator.terminal.bars import bar_chart
from emulator.timing.budget import shape_of
from emulator.timing.energy import (
    Bracket,
    card_power,
    die_area,
    token_energy,
    too_much,
    transistors,
)
from emulator.timing.models import kv_sram_bits, rom_bits
from emulator.timing.prefill import Aggregate, pipelined_aggregate, prefill_cycles
from emulator.timing.schedule import stage_cycles, token_cycles, token_work
from emulator.timing.users import needs
from weights.mix import Mix

ONE_USER = "one user, one token in flight: a token starts when the one before it has left the chip"
PIPELINED = (
    "one user in every stage: each layer has fabric, vector unit and KV SRAM of its own, the SRAM "
    "holds the context of each user, and the card can be fed; nothing public says so"
)


@dataclass(frozen=True, slots=True)
class Report:
    """One decode step that attends to `context` positions, and a prompt as long."""

    context: int
    clock_hz: float
    by_block: dict[str, int]  # cycles
    by_layer: dict[str, int]  # cycles; embedding and head are layers here
    aggregate: Aggregate
    aggregate_mm2: float  # of the chip that the aggregate needs, and its card's W
    aggregate_w: float
    prefill: dict[str, int]  # cycles to the first token by hypothesis
    energy_j: Bracket  # of a token
    power_w: Bracket  # of the card
    published_j: float  # the vendor's power over its rate
    published_w: float

    @property
    def cycles(self) -> int:
        return sum(self.by_block.values())

    @property
    def seconds(self) -> float:
        return self.cycles / self.clock_hz

    @property
    def tokens_per_second(self) -> float:
        """Of one user (estimate)."""
        return 1 / self.seconds

    def plot(self, path: Path | str | None = None) -> Any:
        """Cycles by block as a bar chart: matplotlib's figure, written to `path` if there is one.

        Raises UsageError without matplotlib or where the file cannot be written.
        """
        title = f"a token at position {self.context:,}: {self.cycles:,} cycles (estimate)"
        return bar_chart(self.by_block, "cycles", title, path)

    def _repr_html_(self) -> str:
        """For notebooks: a table of cycles by block, and the rate."""
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td style='text-align: right'>{cycles:,}</td></tr>"
            for name, cycles in self.by_block.items()
        )
        return (
            f"<table><tr><th>block</th><th>cycles</th></tr>{rows}</table>"
            f"<p>{self.cycles:,} cycles at context {self.context:,}, "
            f"{self.tokens_per_second:,.0f} tok/s for one user (estimate)</p>"
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "context": self.context,
            "cycles_per_token": self.cycles,
            "seconds_per_token": self.seconds,
            "tokens_per_second": 1 / self.seconds,
            "by_block": self.by_block,
            "by_layer": self.by_layer,
            "one_user": {"assumes": ONE_USER, "tokens_per_second": 1 / self.seconds},
            "pipelined": {
                "assumes": PIPELINED,
                "tokens_per_second": self.aggregate.tokens_per_second,
                "users": self.aggregate.users,
                "cycles_per_token": self.aggregate.cycles_per_token,
                "needs_mm2": self.aggregate_mm2,
                "needs_w": self.aggregate_w,
            },
            "prefill": {
                hypothesis: {"cycles": cycles, "seconds": cycles / self.clock_hz}
                for hypothesis, cycles in self.prefill.items()
            },
            "energy_per_token": self.energy_j.to_json("J") | {"published": self.published_j},
            "card_power": self.power_w.to_json("W") | {"published": self.published_w},
        }


def report(stages: list[Stage], spec: ChipSpec, context: int) -> Report:
    """Everything about one context."""
    by_block = dict(token_cycles(stages, spec, context, True))
    work, seconds = token_work(stages, spec, context), sum(by_block.values()) / spec.clock_hz
    shape, aggregate = shape_of(stages), pipelined_aggregate(stages, spec, context)
    return Report(
        context,
        spec.clock_hz,
        by_block,
        stage_cycles(stages, spec, context),
        aggregate,
        *needs(stages, spec, context, aggregate),
        prefill_cycles(stages, spec, context),
        token_energy(spec, shape, work, seconds),
        card_power(spec, shape, work, 1 / seconds),
        spec.published.power.value / spec.published.rate.value,
        spec.published.power.value,
    )


def describe(
    config: LlamaConfig, mix: Mix, stages: list[Stage], spec: ChipSpec, power: Bracket
) -> dict[str, Any]:
    """Die and memory of the whole model: estimates beside what is published.

    `power` in W is that of one user, for the list of what is too much.
    """
    shape = shape_of(stages)
    area, count = die_area(spec, shape), transistors(spec, shape)
    return {
        "rom_bits": rom_bits(config, mix, int(spec.kv_sram.positions)),
        "kv_sram_bits": kv_sram_bits(config, spec),
        "die_area": area.to_json("mm2") | {"published": spec.published.die.value},
        "transistors": count.to_json("billion") | {"published": spec.published.transistors.value},
        "too_much": too_much(spec, area, count, power),
    }
