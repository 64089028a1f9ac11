"""The test bench of what is emitted: SystemVerilog that drives, compares, and counts cycles."""

from __future__ import annotations

import numpy as np

from emulator.rtl.bench import Bench
from emulator.rtl.pipeline import Port

MARGIN = 64  # cycles that the bench waits behind the counted ones


def hex_lines(port: Port, values: np.ndarray) -> str:
    """A port's values, one a line, for $readmemh."""
    mask, digits = (1 << port.width) - 1, -(-port.width // 4)
    return "".join(f"{int(v) & mask:0{digits}x}\n" for v in np.ravel(values))


def bench_text(bench: Bench, name: str) -> str:
    """SystemVerilog: beats in from cycle 0, answers compared, cycles counted."""
    dut, lines = bench.dut, []
    ports = [*dut.inputs, *dut.outputs]
    begin = max(port.at for port in dut.inputs)
    lines += [
        "// Drives the block with its vector, compares every value that it answers, counts cycles.",
        "`timescale 1ns/1ps",
        "module bench;",
        f"  localparam int CYCLES = {bench.cycles};  // as the emulator's time model counts them",
        "  logic clk = 0, rst = 1;",
        "  int cycle = -1, wrong = 0, values = 0, last = 0;",
    ]
    for port in ports:
        bits = f"[{len(port.data) - 1}:0]"
        lines += [
            f"  logic {bits} {port.name}; logic {port.name}_valid;",
            f"  logic [{port.width - 1}:0] {port.name}_values [0:{port.beats * port.lanes - 1}];",
        ]
    lines += [f"  int {port.name}_beat = 0;" for port in dut.outputs]
    links = ", ".join(f".{p.name}, .{p.name}_valid" for p in ports)
    lines += [f"  {name} dut(.clk, .rst, {links});", "  always #0.5 clk = ~clk;", "  initial begin"]
    for port in ports:
        known = port.name in bench.inputs or port.name in bench.outputs
        if known:
            lines += [
                f"    for (int i = 0; i < {port.beats * port.lanes}; i++)",
                f"      {port.name}_values[i] = 0;",
                f'    $readmemh("{port.name}.hex", {port.name}_values, 0, {port.values - 1});',
            ]
    lines += [f"    {port.name}_valid = 0;" for port in dut.inputs]
    lines += [
        "    repeat (3) @(negedge clk);",
        "    rst = 0;",
        f"    for (cycle = 0; cycle <= CYCLES + {begin + MARGIN}; cycle++) begin",
    ]
    for port in dut.inputs:
        beat = f"(cycle - {port.at})" if port.at else "cycle"
        here = f"{beat} >= 0 && {beat} < {port.beats}" if port.at else f"cycle < {port.beats}"
        lines += [
            f"      {port.name}_valid = {here};",
            f"      if ({here}) for (int i = 0; i < {port.lanes}; i++)",
            f"        {port.name}[i*{port.width} +: {port.width}] = "
            f"{port.name}_values[{beat}*{port.lanes} + i];",
        ]
    lines.append("      #0.1;")
    for port in dut.outputs:
        if port.name not in bench.outputs:
            continue
        count = (
            ""
            if port.name.endswith("_scale")
            else f" last = cycle{f' - {begin}' if begin else ''};"
        )
        lines += [
            f"      if ({port.name}_valid) begin{count}",
            f"        for (int i = 0; i < {port.lanes}; i++)",
            f"          if ({port.name}_beat*{port.lanes} + i < {port.values}) begin",
            "            values++;",
            f"            if ({port.name}[i*{port.width} +: {port.width}] !== "
            f"{port.name}_values[{port.name}_beat*{port.lanes} + i]) wrong++;",
            "          end",
            f"        {port.name}_beat++;",
            "      end",
        ]
    total = sum(dut.port(n).values for n in bench.outputs)
    lines += [
        "      @(negedge clk);",
        "    end",
        f'    $display("{name}: %0d of {total} values, %0d wrong, %0d cycles of %0d", '
        "values, wrong, last, CYCLES);",
        f'    if (wrong != 0 || values != {total} || last != CYCLES) $fatal(1, "FAIL");',
        '    $display("PASS");',
        "    $finish;",
        "  end",
        "endmodule",
    ]
    return "\n".join(lines) + "\n"
