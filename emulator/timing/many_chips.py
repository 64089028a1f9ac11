"""A model cut over several chips: layers by area, a link between neighbours, one user or many.

Every chip has a vector unit, attention and KV ports of its own and holds the keys and values of
its layers. The first also holds the embedding, the last the head. Between two chips travels the
residual stream, 32 bits a value; from the last to the first, a token's id.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

from emulator.blocks.block import Block
from emulator.blocks.wires import Wires
from emulator.chip import Stage
from emulator.errors import UsageError
from emulator.silicon.cost import Cost, Phase
from emulator.silicon.spec import ChipSpec
from emulator.timing.budget import (
    Work,
    area_parts,
    dynamic_parts,
    shape_of,
    static_parts,
    total,
    transistor_parts,
    users_held,
)
from emulator.timing.energy import values_at
from emulator.timing.events import Section, pace, path_of
from emulator.timing.prefill import prefill_cycles
from emulator.timing.schedule import stage_cycles, token_work

MOST_USERS = 64
VALUE_BITS = 32  # of the residual stream, Q15.16


@dataclass(frozen=True, slots=True)
class Link(Block):
    """The residual stream, or one token's id, on its way to another chip."""

    name: ClassVar[str] = "link"
    reads: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[tuple[str, ...]] = ()

    values: int

    def run(self, ops: ModuleType, wires: Wires) -> None:
        """The next chip sees the same bits."""

    def cost(self, spec: ChipSpec, context: int) -> Cost:
        bits = VALUE_BITS * self.values
        cycles = math.ceil(bits * spec.clock_hz / (8e9 * spec.link.bandwidth.value))
        latency = math.ceil(1e-6 * spec.link.latency.value * spec.clock_hz)
        return Cost((Phase(cycles, latency, cycles, unit="link"),))


@dataclass(frozen=True, slots=True)
class Cut:
    """Stages by chip, and all of them in a token's order with the links between."""

    chips: list[list[Stage]]
    stages: list[Stage]

    @classmethod
    def of(cls, chips: list[list[Stage]], hidden: int) -> Cut:
        stages: list[Stage] = []
        for number, chip in enumerate(chips):
            if number:
                stages.append(Stage(f"link {number}", [Link(hidden)]))
            stages += chip
        back = [Stage("link back", [Link(1)])] if len(chips) > 1 else []
        return cls(chips, [*stages, *back])


def cut(stages: list[Stage], spec: ChipSpec, hidden: int, chips: int | None) -> Cut:
    """Over `chips` chips as evenly as layers allow, or over as few as keep each within the die.

    Raises UsageError where there are more chips than layers, or one layer does not fit a die.
    """
    layers = sum(stage.layer is not None for stage in stages)
    if chips is not None:
        if not 1 <= chips <= layers:
            raise UsageError(
                f"--chips {chips}: the model has {layers} layers, one to a chip at least"
            )
        return Cut.of(_evenly(stages, layers, chips), hidden)
    limit = spec.published.die.value
    for number in range(1, layers + 1):
        parts = _evenly(stages, layers, number)
        if max(_mm2(part, spec) for part in parts) <= limit:
            return Cut.of(parts, hidden)
    raise UsageError(f"--chips auto: even one layer a chip is larger than {limit:,.0f} mm2")


def _evenly(stages: list[Stage], layers: int, chips: int) -> list[list[Stage]]:
    """Embedding with the first layers, head with the last; layer counts differ by one at most.

    The first and the last chip, which hold a table each, have the fewer layers.
    """
    least, more = divmod(layers, chips)
    sizes = [least] * chips
    middle_first = sorted(range(chips), key=lambda i: (i in (0, chips - 1), i))
    for place in middle_first[:more]:
        sizes[place] += 1
    parts, begin = [], 1
    for size in sizes:
        parts.append(stages[begin : begin + size])
        begin += size
    parts[0] = [stages[0], *parts[0]]
    parts[-1] = [*parts[-1], *stages[begin:]]
    return parts


def _mm2(part: list[Stage], spec: ChipSpec) -> float:
    return float(total(area_parts(values_at(spec), shape_of(part))))


@dataclass(frozen=True, slots=True)
class Rack:
    """Chips at work at one context; middle estimates."""

    context: int
    layers: list[int]  # by chip
    mm2: list[float]
    billions: list[float]  # transistors
    tokens_per_second: float  # one user
    link_share: float  # of a token's time
    first_token_s: dict[str, float]  # of a prompt as long as the context, by hypothesis
    power_w: float  # all cards, one user
    users: int  # whom the KV SRAM holds, at most MOST_USERS
    users_tokens_per_second: float  # of all together
    users_power_w: float

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def rack(found: Cut, spec: ChipSpec, context: int) -> Rack:
    """What the chips together do and take."""
    at = values_at(spec)
    shapes = [shape_of(part) for part in found.chips]
    cycles = stage_cycles(found.stages, spec, context)
    rate = spec.clock_hz / sum(cycles.values())
    positions = int(spec.kv_sram.positions)
    users = min(MOST_USERS, *(users_held(shape, positions, context) for shape in shapes))
    together = spec.clock_hz / pace([_path(found, spec, context)] * users)
    joule = sum(
        float(total(dynamic_parts(at, shape, Work.of(token_work(part, spec, context)))))
        for shape, part in zip(shapes, found.chips, strict=True)
    )
    wired = sum(
        VALUE_BITS * block.values
        for stage in found.stages
        for block in stage.blocks
        if isinstance(block, Link)
    )
    joule += wired * spec.link.energy.value * 1e-12
    idle = sum(float(total(static_parts(at, shape))) for shape in shapes)
    prefill = prefill_cycles(found.stages, spec, context)
    links = sum(n for name, n in cycles.items() if name.startswith("link"))
    return Rack(
        context=context,
        layers=[shape.layers for shape in shapes],
        mm2=[float(total(area_parts(at, shape))) for shape in shapes],
        billions=[float(total(transistor_parts(at, shape))) for shape in shapes],
        tokens_per_second=rate,
        link_share=links / sum(cycles.values()),
        first_token_s={name: n / spec.clock_hz for name, n in prefill.items()},
        power_w=idle + joule * rate,
        users=users,
        users_tokens_per_second=together,
        users_power_w=idle + joule * together,
    )


def _path(found: Cut, spec: ChipSpec, context: int) -> list[Section]:
    """A token's way; every chip and every link is hardware of its own."""
    sections: list[Section] = []
    owner = {stage.name: n for n, part in enumerate(found.chips) for stage in part}
    for stage in found.stages:
        place = owner.get(stage.name, stage.name)
        for section in path_of([stage], spec, context):
            named = f"{place}: {section.hardware}" if section.hardware else ""
            sections.append(Section(section.phase, named))
    return sections
