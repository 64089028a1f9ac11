# amaranth: UnusedElaboratable=no
"""A block's RTL beside a vector: which port carries which signal, and whether both agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from emulator.blocks.attention import Attention
from emulator.blocks.bias_add import BiasAdd
from emulator.blocks.block import Block
from emulator.blocks.embedding import Embedding
from emulator.blocks.head_norm import HeadNorm
from emulator.blocks.kv_sram import KvSram
from emulator.blocks.lora import Lora
from emulator.blocks.other_gates import GeGlu, ReLu2Glu
from emulator.blocks.residual_add import ResidualAdd
from emulator.blocks.rms_norm import FinalGain, RmsNorm
from emulator.blocks.rope import Rope
from emulator.blocks.swiglu import SwiGlu
from emulator.blocks.top_k import TopK
from emulator.blocks.weight_fabric import FabricSums, WeightFabric
from emulator.blocks.wires import Arrays
from emulator.errors import UsageError
from emulator.rtl.attention import AttentionRtl
from emulator.rtl.bias_add import BiasAddRtl
from emulator.rtl.block_rtl import BlockRtl
from emulator.rtl.embedding import EmbeddingRtl
from emulator.rtl.gate import GateRtl
from emulator.rtl.head_norm import HeadNormRtl
from emulator.rtl.kv_sram import KvSramRtl
from emulator.rtl.lora import LoraRtl
from emulator.rtl.residual_add import ResidualAddRtl
from emulator.rtl.rms_norm import FinalGainRtl, RmsNormRtl
from emulator.rtl.rope import RopeRtl
from emulator.rtl.simulate import simulate
from emulator.rtl.top_k import TopKRtl
from emulator.rtl.weight_fabric import FabricSumsRtl, WeightFabricRtl
from emulator.silicon.spec import ChipSpec
from emulator.verification.vector_files import Vector
from emulator.verification.vectors import known_blocks

KINDS: dict[type, Any] = {
    BiasAdd: BiasAddRtl, Embedding: EmbeddingRtl, FabricSums: FabricSumsRtl,
    FinalGain: FinalGainRtl, GeGlu: GateRtl,
    HeadNorm: HeadNormRtl, KvSram: KvSramRtl, Lora: LoraRtl, ReLu2Glu: GateRtl,
    ResidualAdd: ResidualAddRtl, RmsNorm: RmsNormRtl,
    Rope: RopeRtl, SwiGlu: GateRtl, TopK: TopKRtl,
    WeightFabric: WeightFabricRtl,
}  # fmt: skip
WIRES = {
    "sum": "residual",
    "q_k_turned": "q_k",
    "q_k_normed": "q_k",
}  # ports that are no signal's namesake


@dataclass(frozen=True)
class Bench:
    """An RTL, what each port takes and must answer, and the cycles that the time model counts."""

    dut: BlockRtl
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    cycles: int


@dataclass(frozen=True)
class Verdict:
    """Values that differ, by port, and cycles measured and counted."""

    wrong: dict[str, int]
    values: int
    cycles: int
    counted: int

    @property
    def equal(self) -> bool:
        return not any(self.wrong.values()) and self.cycles == self.counted


def rtl_of(block: Block, spec: ChipSpec, context: int) -> BlockRtl:
    """The RTL of a block; `context` positions for attention. Raises UsageError for none."""
    if isinstance(block, Attention):
        dut = AttentionRtl(block, spec, context)
        dut.memory.filled(in_ring(block.memory, context, dut.window))
        return dut
    if type(block) not in KINDS:
        raise UsageError(f"block {block.name} is a wire: it has no RTL")
    found: BlockRtl = KINDS[type(block)](block, spec)
    return found


def in_ring(memory: Arrays, context: int, window: int) -> Arrays:
    """The last `window` of the first `context` positions, each in its place of a ring."""
    places = np.arange(context - window, context)
    return {name: array[places[np.argsort(places % window)]] for name, array in memory.items()}


def bench_of(vector: Vector, spec: ChipSpec) -> Bench:
    """What a vector asks of the block that it describes."""
    adapted = vector.block.startswith(("sums_", "lora_"))
    block = known_blocks(adapted)[vector.block].rebuilt(vector.parameters, vector.arrays["rom"])
    context = vector.parameters["start"] + 1
    if vector.arrays["memory"]:
        block = block.with_memory(vector.arrays["memory"])
    dut = rtl_of(block, spec, context)
    inputs = {port.name: _input(dut, block, vector, port.name) for port in dut.inputs}
    outputs = {port.name: output_values(dut, vector, port.name) for port in dut.outputs}
    return Bench(dut, inputs, outputs, block.cost(spec, context).cycles)


def check(bench: Bench) -> Verdict:
    """Run it in Amaranth's simulator."""
    answer = simulate(bench.dut, bench.inputs)
    wrong = {
        name: int((answer.arrays[name] != np.ravel(array)).sum())
        for name, array in bench.outputs.items()
    }
    values = sum(array.size for array in bench.outputs.values())
    return Verdict(wrong, values, answer.cycles, bench.cycles)


def parts_of(name: str) -> list[str]:
    """The signals that a port of this name carries, one behind the other."""
    name = WIRES.get(name, name).removeprefix("biased_")
    if name.startswith("sram_"):
        return [name.removeprefix("sram_")]
    return [name] if name.endswith("_scale") else name.split("_")


def _input(dut: BlockRtl, block: Block, vector: Vector, name: str) -> np.ndarray:
    arrays = vector.arrays["in"]
    if name == "start":
        return np.array([vector.parameters["start"]])
    if name == "tokens" and isinstance(block, Embedding) and block.row_numbers.size:
        return np.searchsorted(block.row_numbers, arrays["tokens"])
    return _on_bus(dut, [np.ravel(arrays[part]) for part in parts_of(name)])


def output_values(dut: BlockRtl, vector: Vector, name: str) -> np.ndarray:
    """What a port of this name must give, in the order of its bus."""
    if name == "best":
        return np.ravel(vector.arrays["in"]["logits"])[vector.arrays["out"]["top"]]
    role = "memory_out" if name.startswith("sram_") else "out"
    arrays = [np.ravel(vector.arrays[role][part]) for part in parts_of(name)]
    return _on_bus(dut, arrays)


def _on_bus(dut: BlockRtl, arrays: list[np.ndarray]) -> np.ndarray:
    """Signals that share a port: one behind the other, or value by value in pairs."""
    if dut.pairs and len(arrays) > 1:
        return np.stack(arrays, axis=-1).ravel()
    return np.concatenate(arrays)
