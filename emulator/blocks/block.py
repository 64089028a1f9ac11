"""What a block is: its signals, memory and ROM, what it computes and what that costs.

A block is a frozen dataclass. Its fields are what is built into it: whole numbers, arrays in ROM,
packed matrices, and for some the KV SRAM. Everything else that the project knows about a block
(vectors for RTL, the comparison of kernel and twin, the timeline) follows from what its class says.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from emulator.blocks.plain_matrix import first_rows, packed_matrix, plain_arrays
from emulator.blocks.wires import Arrays, Wires
from emulator.silicon.cost import Cost
from emulator.silicon.spec import ChipSpec
from kernels.rom.pack import PackedMatrix


@dataclass(frozen=True, slots=True)
class Block(ABC):
    """One fixed-function block. A class has `name`, `reads`, `writes`, `run` and `cost`."""

    writes_memory: ClassVar[bool] = False
    recordable: ClassVar[bool] = (
        True  # all that `run` does is call kernels  # `run` changes the arrays of `memory`
    )

    @property
    @abstractmethod
    def name(self) -> str:
        """As reports, vectors and the commit log call it; blocks of one name are alike."""

    @property
    @abstractmethod
    def reads(self) -> tuple[str, ...]:
        """Names of the wires that `run` reads."""

    @property
    @abstractmethod
    def writes(self) -> tuple[str, ...]:
        """Names of the wires that `run` writes."""

    @abstractmethod
    def run(self, ops: ModuleType, wires: Wires) -> None:
        """Compute: read some wires, write others. `ops` are the kernels or their twins."""

    @abstractmethod
    def cost(self, spec: ChipSpec, context: int) -> Cost:
        """Cycles and work for one token that attends to `context` positions, itself included."""

    # What a block with memory or with matrices adds.

    @property
    def memory(self) -> Arrays:
        """Arrays of the KV SRAM that the block uses, [context, ..] each, by name."""
        return {}

    def with_memory(self, arrays: Arrays) -> Block:
        """The block on an SRAM of these arrays. Raises KeyError where one is missing."""
        return self

    @property
    def matrices_by_name(self) -> dict[str, PackedMatrix]:
        """The packed matrices, by the names that they have in a vector."""
        return {}

    def with_matrices(self, matrices: dict[str, PackedMatrix]) -> Block:
        """The block with these in the place of its own."""
        return self

    @property
    def sizes(self) -> dict[str, int]:
        """Sizes of its signals that the model's configuration does not say."""
        return {}

    # What follows from the fields.

    @property
    def parameters(self) -> dict[str, int]:
        """Its whole numbers, and the code bits and group of each matrix."""
        own = {item.name: getattr(self, item.name) for item in fields(self)}
        numbers = {name: value for name, value in own.items() if type(value) is int}
        matrices = self.matrices_by_name
        numbers |= {f"{name}.bits": matrix.bits for name, matrix in matrices.items()}
        return numbers | {f"{name}.group": matrix.group for name, matrix in matrices.items()}

    @property
    def rom(self) -> Arrays:
        """What is in the masks: constants, tables, and matrices as plain rows."""
        own = {name: getattr(self, name) for name in self._rom_fields()}
        for name, matrix in self.matrices_by_name.items():
            own |= {f"{name}.{part}": array for part, array in plain_arrays(matrix).items()}
        return own

    def rebuilt(self, parameters: dict[str, int], rom: Arrays) -> Block:
        """A block of this kind from what `parameters` and `rom` of another gave.

        Raises KeyError where something is missing.
        """
        whole = [f.name for f in fields(self) if type(getattr(self, f.name)) is int]
        own: dict[str, Any] = {name: parameters[name] for name in whole}
        own |= {name: rom[name] for name in self._rom_fields()}
        matrices = {name: packed_matrix(name, parameters, rom) for name in self.matrices_by_name}
        return replace(self, **own).with_matrices(matrices)

    def cut(self, rows: int) -> Block:
        """The block with about the first `rows` rows of each matrix, in whole tiles."""
        return self.with_matrices(
            {name: first_rows(matrix, rows) for name, matrix in self.matrices_by_name.items()}
        )

    def cut_output(self, wire: str, values: NDArray[Any]) -> NDArray[Any]:
        """Of an uncut block's output, [T, ..], what this one would give."""
        return values

    def for_pass(self, wires: Wires) -> Block:
        """The block with no more of its tables than this pass reads."""
        return self

    def _rom_fields(self) -> list[str]:
        return [
            item.name
            for item in fields(self)
            if isinstance(getattr(self, item.name), np.ndarray) and item.name not in self.memory
        ]
