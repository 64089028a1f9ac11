"""AArch64: the instructions of its body, and on an emulated CPU the bits of this one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from llvmlite import binding, ir

from emulator.chip import Chip
from emulator.verification.golden import PROMPT_TOKENS, logits_digest
from kernels.host import simd
from tests.support import arm64
from weights.rom import RomImage


def assembly(result: ir.Type, *operands: ir.Type, code) -> list[str]:
    """The instructions that LLVM makes of code(builder, *operands) for AArch64 with dotprod."""
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(result, operands), "operation")
    builder = ir.IRBuilder(function.append_basic_block())
    builder.ret(code(builder, *function.args))
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    target = binding.Target.from_triple("aarch64-unknown-linux-gnu")
    machine = target.create_target_machine(cpu="generic", features="+dotprod")
    text = machine.emit_assembly(binding.parse_assembly(str(module)))
    lines = [line.strip().split("\t") for line in text.splitlines() if line.startswith("\t")]
    return [words[0] for words in lines if not words[0].startswith(".")]


def test_a_dot_product_is_two_instructions():
    """Two registers of 128 bits are a vector of 256."""
    i32x8, i8x32 = simd.i32x8.ir, simd.i8x32.ir
    dots = assembly(i32x8, i32x8, i8x32, i8x32, code=simd._sdot)
    assert dots.count("sdot") == 2


def test_a_lookup_is_two_instructions():
    i8x32 = simd.i8x32.ir
    lookups = assembly(i8x32, i8x32, i8x32, code=lambda *v: simd._neon(v[0], "tbl1.v16i8", *v[1:]))
    assert lookups.count("tbl") == 2


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> arm64.Arm64:
    """HARDWIRED_ARM64 names a folder that keeps it."""
    folder = os.environ.get("HARDWIRED_ARM64") or tmp_path_factory.mktemp("arm64")
    try:
        return arm64.make(Path(folder))
    except arm64.Arm64Error as error:
        pytest.skip(f"no Python for arm64: {error}")


@pytest.mark.slow
@pytest.mark.parametrize("body", arm64.BODIES)
def test_the_same_bits(body: str, machine: arm64.Arm64, untied_image: RomImage):
    """The twins' and every body's, on a CPU without what it does not use."""
    answer = machine.logits(body, untied_image.folder)
    assert answer["body"] == (body if body != "reference" else "portable")
    assert answer["logits"] == logits_digest(Chip(untied_image, context=PROMPT_TOKENS))


@pytest.mark.slow
@pytest.mark.parametrize("body", ["portable", "sdot"])
def test_its_operations(body: str, machine: arm64.Arm64):
    """At the corners of their operands."""
    options = ["-q", "-x", "--noconftest", "-p", "no:cacheprovider"]
    machine.run(body, "-m", "pytest", *options, "tests/kernels/test_simd.py")
