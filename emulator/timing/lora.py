"""What an adapter of a given rank takes: SRAM that positions then lack, time, energy, loading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from emulator.chip import Stage
from emulator.config import LlamaConfig
from emulator.errors import UsageError
from emulator.silicon.spec import ChipSpec
from emulator.timing.budget import shape_of
from emulator.timing.energy import token_energy
from emulator.timing.models import kv_sram_bits
from emulator.timing.schedule import token_cycles, token_work
from kernels.sram_matrix import MOST_RANK, sram_bits
from weights.checkpoint import LAYER_MATRICES, tensor_shape

GIGA = 1e9


@dataclass(frozen=True, slots=True)
class AdapterBudget:
    """One adapter on one chip, at one context; all but the sizes are estimates."""

    parameters: int
    sram_bits: int
    positions: int  # without an adapter
    positions_left: int
    load_ms: float  # over the host link
    sram_mm2: float  # of its share of the SRAM
    unit_mm2: float  # of the multipliers
    cycles: int  # of a token, more than without
    tokens_per_second: float
    tokens_per_second_without: float
    energy_mj: float  # of a token, more than without, the middle estimate

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def ranks_of(rank: int, targets: str) -> dict[str, int]:
    """Rank by matrix, of "q,v" or "all". Raises UsageError."""
    names = list(LAYER_MATRICES) if targets == "all" else targets.split(",")
    for name in names:
        if name not in LAYER_MATRICES:
            raise UsageError(f"no matrix {name!r}; a layer has {', '.join(LAYER_MATRICES)}")
    if not 1 <= rank <= MOST_RANK:
        raise UsageError(f"rank {rank}: 1 to {MOST_RANK}")
    return dict.fromkeys(names, rank)


def adapter_bits(config: LlamaConfig, ranks: Mapping[str, int]) -> int:
    """Bits of SRAM over all layers."""
    layer = 0
    for name, rank in ranks.items():
        rows, columns = tensor_shape(config, name)
        layer += sram_bits(rows, columns, rank)
    return config.layers * layer


def adapter_budget(
    config: LlamaConfig,
    ranks: Mapping[str, int],
    stages: list[Stage],
    without: list[Stage],
    spec: ChipSpec,
    context: int,
) -> AdapterBudget:
    """`stages` and `without` are the model's blocks with the adapter and without.

    The unit's area counts a multiplier as one of attention's. Raises UsageError where the adapter
    alone is larger than the SRAM.
    """
    bits, positions = adapter_bits(config, ranks), int(spec.kv_sram.positions)
    room = kv_sram_bits(config, spec)
    left = (room - bits) // (room // positions)
    if left < 1:
        raise UsageError(
            f"the adapter takes {bits / 8e6:,.0f} MB, the SRAM has {room / 8e6:,.0f} MB in all"
        )
    shapes = [tensor_shape(config, name) for name in ranks]
    rank_sizes = zip(ranks.values(), shapes, strict=True)
    cycles, seconds, energy = [], [], []
    for one in (without, stages):
        cycles.append(sum(token_cycles(one, spec, context, True).values()))
        seconds.append(cycles[-1] / spec.clock_hz)
        work = token_work(one, spec, context)
        energy.append(token_energy(spec, shape_of(one), work, seconds[-1]).totals[1])
    transistors = spec.lora.macs.value * spec.transistors.attention.value / GIGA
    return AdapterBudget(
        parameters=config.layers * sum(rank * (m + n) for rank, (m, n) in rank_sizes),
        sram_bits=bits,
        positions=positions,
        positions_left=left,
        load_ms=bits / 8 / (spec.lora.host.value * 1e6),
        sram_mm2=bits / GIGA * spec.area.sram.value,
        unit_mm2=transistors * spec.area.logic.value,
        cycles=cycles[1] - cycles[0],
        tokens_per_second=1 / seconds[1],
        tokens_per_second_without=1 / seconds[0],
        energy_mj=1e3 * (energy[1] - energy[0]),
    )
