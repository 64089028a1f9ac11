"""What a large circuit is written with: modules of which there are many, masks as files.

Where a library is handed to `elaborate` (Amaranth's `platform`), rows of a fabric become instances
of one module that is written once, and their masks are read by `$readmemh`: else each of thousands
of rows would be elaborated, and compiled by Verilator, for itself. Without one, everything is part
of the circuit, as its simulator needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from amaranth.hdl import (
    ClockSignal,
    Elaboratable,
    Instance,
    Module,
    ResetSignal,
    Signal,
    Value,
)

from emulator.rtl.pipeline import bind
from emulator.rtl.rom import read_rom, word_of

ROM_MODULE = """
module mask #(parameter WIDTH = 1, DEPTH = 1, BITS = 1, FILE = "")
    (input [BITS-1:0] address, output [WIDTH-1:0] data);
  reg [WIDTH-1:0] words [0:DEPTH-1];
  initial $readmemh(FILE, words);
  assign data = words[address];
endmodule
"""
Rows = Sequence[tuple[np.ndarray, int]]  # of each word its numbers and their bits


class Library:
    """Modules by name, and files of masks, that a circuit refers to."""

    def __init__(self) -> None:
        self.modules: dict[str, Elaboratable] = {}
        self.files: dict[str, str] = {}


def place(m: Module, library: Library | None, name: str, unit: Any) -> None:
    """A unit with `name`, `inputs` and `outputs`, as a submodule or as an instance."""
    if library is None:
        m.submodules[name] = unit
        return
    library.modules.setdefault(unit.name, unit)
    ports: dict[str, Any] = {f"i_{n}": signal for n, signal in unit.inputs.items()}
    ports |= {f"o_{n}": signal for n, signal in unit.outputs.items()}
    m.submodules[name] = Instance(unit.name, i_clk=ClockSignal(), i_rst=ResetSignal(), **ports)


def read_large_rom(
    m: Module, library: Library | None, name: str, index: Value, words: Rows
) -> Value:
    """The word of this number, in the same cycle."""
    width = words[0][0].size * words[0][1]
    if library is None:
        whole = [word_of(numbers.ravel().tolist(), bits) for numbers, bits in words]
        return bind(m, read_rom(m, index, whole, width))
    file = f"{name}_{len(library.files)}.hex"
    library.files[file] = "".join(f"{_hex(*word)}\n" for word in words)
    address, data = bind(m, index), Signal(width)
    m.submodules[f"{name}_mask"] = Instance(
        "mask", p_WIDTH=width, p_DEPTH=len(words), p_BITS=len(address), p_FILE=file,
        i_address=address, o_data=data,
    )  # fmt: skip
    return data


def _hex(numbers: np.ndarray, bits: int) -> str:
    """A word as one number, its first value in the lowest bits."""
    each = (numbers.ravel().astype(np.int64)[:, None] >> np.arange(bits)) & 1
    return np.packbits(each.astype(np.uint8), bitorder="little")[::-1].tobytes().hex()
