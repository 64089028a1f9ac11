"""AMX for numba: eight tile registers of up to 16 rows of 64 bytes, and the product of two.

A thread first says what shape each register has (`configure`), and at last gives them up
(`release`), so that the system need not keep them for it. A register is part of an instruction,
so there is one function for each: LOAD[3](address, stride).
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.core.extending import intrinsic

from kernels.host.simd import I8, _call, _pointer

REGISTERS = range(8)
ROWS, ROW_BYTES = 16, 64  # of a whole register
TILE_BYTES = ROWS * ROW_BYTES
SHAPES_BYTES = 64  # what `configure` reads: 1; from 16 on the rows' bytes, uint16; from 48 on rows


@intrinsic
def configure(typing, shapes):
    """Take the registers' shapes from an address; their contents become 0."""

    def code(context, builder, signature, args):
        _call(builder, "llvm.x86.ldtilecfg", ir.VoidType(), _pointer(builder, args[0], I8))
        return context.get_dummy_value()

    return types.void(types.int64), code


@intrinsic
def release(typing):
    """Give the registers up."""

    def code(context, builder, signature, args):
        _call(builder, "llvm.x86.tilerelease", ir.VoidType())
        return context.get_dummy_value()

    return types.void(), code


def _mover(name: str, register: int):
    @intrinsic
    def move(typing, address, stride):
        def code(context, builder, signature, args):
            place = ir.Constant(I8, register), _pointer(builder, args[0], I8), args[1]
            _call(builder, name, ir.VoidType(), *place)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), code

    return move


def _clearer(register: int):
    @intrinsic
    def clear(typing):
        def code(context, builder, signature, args):
            _call(builder, "llvm.x86.tilezero", ir.VoidType(), ir.Constant(I8, register))
            return context.get_dummy_value()

        return types.void(), code

    return clear


def product(total: int, a: int, b: int):
    """A function that adds to the register `total` int32[M, N] the product of two others.

    a int8[M, 4 K]; b int8[K, N, 4], as panels hold weights: four columns of a row side by side.
    """

    @intrinsic
    def add_product(typing):
        def code(context, builder, signature, args):
            registers = [ir.Constant(I8, register) for register in (total, a, b)]
            _call(builder, "llvm.x86.tdpbssd", ir.VoidType(), *registers)
            return context.get_dummy_value()

        return types.void(), code

    return add_product


LOAD = [_mover("llvm.x86.tileloadd64", register) for register in REGISTERS]
STORE = [_mover("llvm.x86.tilestored64", register) for register in REGISTERS]
CLEAR = [_clearer(register) for register in REGISTERS]
