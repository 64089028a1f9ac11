"""Energy of a server under traffic, by component, with what it takes while it waits.

A token's work grows linearly with the positions it attends to, so the work of all requests follows
from how many tokens there are and the sum of their positions, in whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from emulator.chip import Stage
from emulator.silicon.cost import Cost
from emulator.silicon.spec import ChipSpec
from emulator.timing.energy import token_energy
from emulator.timing.schedule import token_work
from emulator.traffic.requests import NS
from emulator.traffic.server import Served


@dataclass(frozen=True, slots=True)
class Work:
    """Work of a token as `base + slope * positions`."""

    base: Cost
    slope: Cost

    @staticmethod
    def of(stages: list[Stage], spec: ChipSpec, with_head: bool) -> Work:
        one, two = (token_work(stages, spec, context, with_head) for context in (1, 2))
        slope = _sum((two, 1), (one, -1))
        return Work(_sum((one, 1), (slope, -1)), slope)

    def total(self, tokens: int, positions: int) -> Cost:
        """Of so many tokens that attend to so many positions together."""
        return _sum((self.base, tokens), (self.slope, positions))


def server_energy(
    served: Served, stages: list[Stage], spec: ChipSpec, host_w: float
) -> dict[str, Any]:
    """J and W by component over the whole run, and J a token. Middle estimates, with a bracket.

    Leakage and a card's own losses are drawn all the time; the host's power is its own estimate.
    """
    done = served.done
    prompt, output = served.requests.prompt[done], served.requests.output[done]
    cached = served.cached[done]
    seconds = (served.end_ns - served.begin_ns) / NS
    # The last prompt token and all answer tokens but the last run through the head.
    prompt_tokens = int((prompt - 1 - cached).sum())
    prompt_positions = int((((prompt - 1) * prompt - cached * (cached + 1)) // 2).sum())
    last = prompt + output - 1
    head_positions = int(((last * (last + 1) - (prompt - 1) * prompt) // 2).sum())
    work = _sum(
        (Work.of(stages, spec, False).total(prompt_tokens, prompt_positions), 1),
        (Work.of(stages, spec, True).total(int(output.sum()), head_positions), 1),
    )
    bracket = token_energy(spec, work, seconds * served.cards)
    parts = dict(bracket.mid) | {"host": host_w * seconds}
    total, outputs = sum(parts.values()), int(output.sum())
    return {
        "joules": total,
        "joules_by_part": parts,
        "watts": total / seconds,
        "watts_by_part": {name: joules / seconds for name, joules in parts.items()},
        "joule_per_output_token": total / outputs,
        "joule_per_token": total / (outputs + int(prompt.sum())),
        "joules_range": [sum(end.values()) + parts["host"] for end in (bracket.low, bracket.high)],
        "published_card_w": spec.published.power.value,
    }


def _sum(*terms: tuple[Cost, int]) -> Cost:
    return Cost(
        macs=sum(times * cost.macs for cost, times in terms),
        rom_bits=sum(times * cost.rom_bits for cost, times in terms),
        sram_bits=sum(times * cost.sram_bits for cost, times in terms),
    )
