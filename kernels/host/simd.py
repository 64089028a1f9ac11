"""Vectors for numba: a type, and functions on it that become LLVM instructions.

Kernels written with them read like plain Python and stay in registers. Each function that has no
exact LLVM counterpart has two bodies with the same bits: one instruction of the CPU, or portable
vector IR that LLVM lowers to whatever the machine has. TARGET is the process's choice, made by
`kernels.host.target` from the features that numba compiles for.

A vector holds 256 bits: i8 x 32, i16 x 16 or i32 x 8; i64 x 8 (two registers) holds sums. Where
TARGET is wide, the fabric has vectors of 512 bits. Addresses are int64 and need no alignment.
"""

from __future__ import annotations

import os

from llvmlite import ir
from numba import carray, njit
from numba.core import cgutils, types
from numba.core.extending import intrinsic, models, register_model
from numba.core.registry import cpu_target

from kernels.host.entry import INNER
from kernels.host.target import choose, features_of, usable

FEATURES = usable(features_of(*cpu_target.target_context.codegen().magic_tuple()))
TARGET = choose(FEATURES, os.environ.get("HARDWIRED_KERNELS", ""))
AVX2, VNNI, WIDE, AMX = TARGET.avx2, TARGET.vnni, TARGET.wide, TARGET.amx
SDOT, BODY = TARGET.sdot, TARGET.body

I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
X86 = cpu_target.target_context.codegen().magic_tuple()[0].startswith(("x86", "i686"))


class Vector(types.Type):
    """`lanes` integers of `bits` bits; whether they have a sign is the operation's business."""

    def __init__(self, bits: int, lanes: int) -> None:
        self.bits, self.lanes = bits, lanes
        self.ir = ir.VectorType(ir.IntType(bits), lanes)
        super().__init__(name=f"i{bits}x{lanes}")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector):
        super().__init__(manager, vector, vector.ir)


i8x32, i16x16, i32x8, i64x8 = Vector(8, 32), Vector(16, 16), Vector(32, 8), Vector(64, 8)
# Two of each, for kernels that have the registers.
i8x64, i16x32, i32x16, i64x16 = Vector(8, 64), Vector(16, 32), Vector(32, 16), Vector(64, 16)


def _call(builder, name, result, *values):
    """Call an LLVM intrinsic by its full name."""
    kind = ir.FunctionType(result, [v.type for v in values])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), values)


def _splat(builder, value, vector):
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, I32(0))
    mask = ir.Constant(ir.VectorType(I32, vector.count), [0] * vector.count)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), mask)


def _every_second(builder, v, first):
    """Lanes first, first + 2, .. of v."""
    lanes = ir.Constant(ir.VectorType(I32, v.type.count // 2), list(range(first, v.type.count, 2)))
    return builder.shuffle_vector(v, ir.Constant(v.type, ir.Undefined), lanes)


def _pair_sums(builder, products):
    return builder.add(_every_second(builder, products, 0), _every_second(builder, products, 1))


def _extend(builder, v, bits, signed=True):
    wide = ir.VectorType(ir.IntType(bits), v.type.count)
    return builder.sext(v, wide) if signed else builder.zext(v, wide)


def _pointer(builder, address, kind):
    return builder.inttoptr(address, kind.as_pointer())


def _load(builder, address, kind):
    return builder.load(_pointer(builder, address, kind), align=1)


# --- memory -------------------------------------------------------------------------------------


def _loader(result: types.Type, kind: ir.Type, widen):
    """An intrinsic f(address): loads `kind`, makes it a `result` by widen(builder, value)."""

    @intrinsic
    def load(typing, address):
        def code(context, builder, signature, args):
            return widen(builder, _load(builder, args[0], kind))

        return result(types.int64), code

    return load


def _joined(builder, low, high):
    """Two vectors side by side in one."""
    lanes = ir.Constant(ir.VectorType(I32, 2 * low.type.count), list(range(2 * low.type.count)))
    return builder.shuffle_vector(low, high, lanes)


def _two_loader(result: types.Type, kind: ir.Type, widen):
    """As `_loader`, of two addresses whose values stand side by side."""

    @intrinsic
    def load(typing, first, second):
        def code(context, builder, signature, args):
            low, high = (_load(builder, address, kind) for address in args)
            return widen(builder, _joined(builder, low, high))

        return result(types.int64, types.int64), code

    return load


def _scale_bytes(builder, v):
    """int8 s -> (s, 256 s) as two int16 of a lane of 32 bits: what `add_scaled` multiplies by."""
    bytes_ = builder.bitcast(_extend(builder, v, 32), ir.VectorType(I8, 4 * v.type.count))
    lanes = [x for row in range(v.type.count) for x in (4 * row, 4 * row + 1, -1, 4 * row)]
    return _shuffle_or_zero(builder, bytes_, lanes)


def _shuffle_or_zero(builder, v, lanes):
    """Bytes `lanes` of v; 0 where a lane is -1."""
    zero = ir.Constant(v.type, [0] * v.type.count)
    mask = [v.type.count if lane < 0 else lane for lane in lanes]
    return builder.shuffle_vector(v, zero, ir.Constant(ir.VectorType(I32, len(mask)), mask))


def _scale_pairs(builder, v):
    wide = _extend(builder, v, 16)
    mask = ir.Constant(ir.VectorType(I32, 16), [row for row in range(8) for _ in range(2)])
    return builder.shuffle_vector(wide, ir.Constant(wide.type, None), mask)


load_i8x32 = _loader(i8x32, i8x32.ir, lambda builder, v: v)
load_i32x8 = _loader(i32x8, i32x8.ir, lambda builder, v: v)
load_i8x64 = _loader(i8x64, i8x64.ir, lambda builder, v: v)
load_i32x16 = _loader(i32x16, i32x16.ir, lambda builder, v: v)
load_i64x16 = _loader(i64x16, i64x16.ir, lambda builder, v: v)
load_i64x8 = _loader(i64x8, i64x8.ir, lambda builder, v: v)
load_i16x16 = _loader(i16x16, i16x16.ir, lambda builder, v: v)
load_i16x32 = _loader(i16x32, i16x32.ir, lambda builder, v: v)
widen_i8x16 = _loader(  # sixteen int8, as int16
    i16x16, ir.VectorType(I8, 16), lambda builder, v: _extend(builder, v, 16)
)
widen_i8x8 = _loader(  # eight int8, as int32
    i32x8, ir.VectorType(I8, 8), lambda builder, v: _extend(builder, v, 32)
)
load_low_i8x64 = _loader(  # 32 bytes, then as many of 0
    i8x64, i8x32.ir, lambda builder, v: _joined(builder, v, ir.Constant(i8x32.ir, [0] * 32))
)
load_two_i8x32 = _two_loader(i8x64, i8x32.ir, lambda builder, v: v)
broadcast4 = _loader(  # four bytes, eight times
    i8x32, I32, lambda builder, v: builder.bitcast(_splat(builder, v, i32x8.ir), i8x32.ir)
)
broadcast4_twice = _loader(  # four bytes, sixteen times
    i8x64, I32, lambda builder, v: builder.bitcast(_splat(builder, v, i32x16.ir), i8x64.ir)
)
broadcast_i32x8 = _loader(i32x8, I32, lambda builder, v: _splat(builder, v, i32x8.ir))
broadcast_i32x16 = _loader(i32x16, I32, lambda builder, v: _splat(builder, v, i32x16.ir))
broadcast_pair = _loader(  # two int16, eight times
    i16x16, I32, lambda builder, v: builder.bitcast(_splat(builder, v, i32x8.ir), i16x16.ir)
)
broadcast_pair_twice = _loader(  # the same sixteen times
    i16x32, I32, lambda builder, v: builder.bitcast(_splat(builder, v, i32x16.ir), i16x32.ir)
)
scale_bytes = _loader(i8x32, ir.VectorType(I8, 8), _scale_bytes)  # eight int8
two_scale_bytes = _two_loader(i8x64, ir.VectorType(I8, 8), _scale_bytes)
scale_pairs = _loader(  # eight int8, each as two equal int16
    i16x16, ir.VectorType(I8, 8), _scale_pairs
)
get_u8 = _loader(types.int64, I8, lambda builder, v: builder.zext(v, I64))
get_i8 = _loader(types.int64, I8, lambda builder, v: builder.sext(v, I64))
get_u16 = _loader(types.int64, I16, lambda builder, v: builder.zext(v, I64))
get_i32 = _loader(types.int64, I32, lambda builder, v: builder.sext(v, I64))
get_i64 = _loader(types.int64, I64, lambda builder, v: v)


@intrinsic
def store(typing, address, v):
    """Write a vector, or an integer at its own width."""

    def code(context, builder, signature, args):
        pointer = _pointer(builder, args[0], args[1].type)
        builder.store(args[1], pointer, align=1)
        return context.get_dummy_value()

    return types.void(types.int64, v), code


@intrinsic
def prefetch(typing, address):
    """Ask for a cache line that is read soon, once."""

    def code(context, builder, signature, args):
        pointer = _pointer(builder, args[0], I8)
        _call(builder, "llvm.prefetch.p0", ir.VoidType(), pointer, I32(0), I32(3), I32(1))
        return context.get_dummy_value()

    return types.void(types.int64), code


# --- lanes --------------------------------------------------------------------------------------


def _lanewise(method: str):
    """An intrinsic f(a, b) on two vectors of one type."""

    @intrinsic
    def operation(typing, a, b):
        def code(context, builder, signature, args):
            return getattr(builder, method)(*args)

        return a(a, b), code

    return operation


add, subtract, multiply = _lanewise("add"), _lanewise("sub"), _lanewise("mul")
both, either = _lanewise("and_"), _lanewise("or_")
shift_right = _lanewise("lshr")  # each by its own number of bits


@intrinsic
def least_unsigned(typing, a, b):
    """The smaller lane of two."""

    def code(context, builder, signature, args):
        return builder.select(builder.icmp_unsigned("<", *args), *args)

    return a(a, b), code


@intrinsic
def only_lanes(typing, v, first, end):
    """Lanes from `first` to before `end`, both int64; 0 elsewhere."""

    def code(context, builder, signature, args):
        v, first, end = args
        number = ir.Constant(v.type, list(range(v.type.count)))
        first, end = (_splat(builder, builder.trunc(n, I32), v.type) for n in (first, end))
        inside = builder.and_(
            builder.icmp_signed(">=", number, first), builder.icmp_signed("<", number, end)
        )
        return builder.select(inside, v, ir.Constant(v.type, [0] * v.type.count))

    return v(v, types.int64, types.int64), code


@intrinsic
def store_low_words(typing, address, v):
    """Write the low int16 of each int32 lane."""

    def code(context, builder, signature, args):
        words = builder.trunc(args[1], ir.VectorType(I16, v.lanes))
        builder.store(words, _pointer(builder, args[0], words.type), align=1)
        return context.get_dummy_value()

    return types.void(types.int64, v), code


def _filler(vector: Vector):
    @intrinsic
    def fill(typing, value):
        def code(context, builder, signature, args):
            lane = builder.trunc(args[0], vector.ir.element) if vector.bits < 64 else args[0]
            return _splat(builder, lane, vector.ir)

        return vector(types.int64), code

    return fill


fill_i8, fill_i32, fill_i64 = (_filler(v) for v in (i8x32, i32x8, i64x8))
fill_i8x64, fill_i32x16 = _filler(i8x64), _filler(i32x16)


@intrinsic
def shift_bytes(typing, v, n):
    """Bytes shifted right by n bits; bits of the next byte come in from above."""

    def code(context, builder, signature, args):
        pairs = ir.VectorType(I16, v.lanes // 2)
        amount = _splat(builder, builder.trunc(args[1], I16), pairs)
        words = builder.lshr(builder.bitcast(args[0], pairs), amount)
        return builder.bitcast(words, args[0].type)

    return v(v, types.int64), code


@intrinsic
def widen(typing, v):
    """i32x8 -> i64x8, i32x16 -> i64x16"""

    def code(context, builder, signature, args):
        return _extend(builder, args[0], 64)

    return (i64x8 if v == i32x8 else i64x16)(v), code


@intrinsic
def lane_sum(typing, v):
    """Sum of the int32 lanes, as int64."""

    def code(context, builder, signature, args):
        total = _call(builder, f"llvm.vector.reduce.add.v{v.lanes}i32", I32, args[0])
        return builder.sext(total, I64)

    return types.int64(v), code


@intrinsic
def pairs_by_four(typing, a, b):
    """Bytes, unsigned -> four of int16, of which the s-th holds (a, b) of bytes s, 4 + s, 8 + s, ..

    Few of these instructions are bound to one of a CPU's ports, where shuffles would all be.
    """
    words = {i8x32: i16x16, i8x64: i16x32}[a]
    doubles = ir.VectorType(I32, words.lanes // 2)

    def code(context, builder, signature, args):
        def each(value):
            return ir.Constant(doubles, [value] * doubles.count)

        a, b = (builder.bitcast(v, doubles) for v in args)
        half, low_half, high_half = each(16), each(0xFFFF), each(0xFFFF0000)
        eight, low_bytes = ir.Constant(words.ir, [8] * words.lanes), each(0xFF00FF)
        found = []
        for pair in (
            builder.or_(builder.and_(a, low_half), builder.shl(b, half)),
            builder.or_(builder.lshr(a, half), builder.and_(b, high_half)),
        ):
            found.append(builder.bitcast(builder.and_(pair, low_bytes), words.ir))
            found.append(builder.lshr(builder.bitcast(pair, words.ir), eight))
        return context.make_tuple(builder, signature.return_type, found)

    return types.UniTuple(words, 4)(a, b), code


@intrinsic
def interleave(typing, a, b):
    """Sixteen int8 at address a and sixteen at b -> (a0 b0 a1 b1 ..) as two i16x16."""

    def code(context, builder, signature, args):
        low, high = (_load(builder, address, ir.VectorType(I8, 16)) for address in args)
        halves = []
        for first in (0, 8):
            lanes = [lane for i in range(first, first + 8) for lane in (i, 16 + i)]
            mask = ir.Constant(ir.VectorType(I32, 16), lanes)
            halves.append(_extend(builder, builder.shuffle_vector(low, high, mask), 16))
        return context.make_tuple(builder, signature.return_type, halves)

    return types.UniTuple(i16x16, 2)(types.int64, types.int64), code


@intrinsic
def store_columns(typing, at, stride, to):
    """Eight times four bytes of each of 8 rows: first those of all rows, then the next four, ..

    Of 16 rows where TARGET is wide; they lie `stride` apart. 128 is added to each byte.
    """
    kind = i32x16 if WIDE else i32x8

    def code(context, builder, signature, args):
        at, stride, to = args
        sign = ir.Constant(kind.ir, [0x80808080] * kind.lanes)
        rows = []
        for row in range(kind.lanes):
            address = builder.add(at, builder.mul(stride, I64(row)))
            rows.append(_load(builder, address, i32x8.ir))
        if WIDE:
            rows = [_joined(builder, *rows[row::8]) for row in range(8)]
        for step in (1, 2, 4):  # transpose 8 x 8: change places in blocks of `step`
            for row in [row for row in range(8) if not row & step]:
                a, b = rows[row], rows[row + step]
                for place, other in ((row, 0), (row + step, step)):
                    lanes = [
                        kind.lanes + lane - step + other if lane & step else lane + other
                        for lane in range(kind.lanes)
                    ]
                    mask = ir.Constant(ir.VectorType(I32, kind.lanes), lanes)
                    rows[place] = builder.shuffle_vector(a, b, mask)
        for column, v in enumerate(rows):
            address = builder.add(to, I64(4 * kind.lanes * column))
            builder.store(builder.xor(v, sign), _pointer(builder, address, kind.ir), align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), code


@intrinsic
def hadamard8(typing, v):
    """Walsh-Hadamard transform of the eight lanes of an i32x8."""

    def code(context, builder, signature, args):
        v = args[0]
        for step in (1, 2, 4):
            partner = ir.Constant(i32x8.ir, [lane ^ step for lane in range(8)])
            other = builder.shuffle_vector(v, v, partner)
            # Lanes whose bit `step` is clear take the sum, the others the difference.
            lanes = [lane + 8 * (lane & step > 0) for lane in range(8)]
            sums, differences = builder.add(v, other), builder.sub(other, v)
            v = builder.shuffle_vector(sums, differences, ir.Constant(i32x8.ir, lanes))
        return v

    return v(v), code


@intrinsic
def bit_length(typing, x):
    """Bits of a non-negative int64; 0 for 0."""

    def code(context, builder, signature, args):
        zeros = _call(builder, "llvm.ctlz.i64", I64, args[0], ir.Constant(ir.IntType(1), 0))
        return builder.sub(I64(64), zeros)

    return types.int64(types.int64), code


def _viewer(dtype):
    """A function (address, n) -> an array of n values there."""

    @intrinsic
    def pointer(typing, address):
        def code(context, builder, signature, args):
            kind = context.get_value_type(signature.return_type)
            return builder.inttoptr(args[0], kind)

        return types.CPointer(dtype)(types.int64), code

    @inline
    def view(address, n):
        return carray(pointer(address), (n,))

    return view


inline = njit(forceinline=True, **INNER)
view_i8, view_i16, view_u16, view_i32, view_i64 = (
    _viewer(kind) for kind in (types.int8, types.int16, types.uint16, types.int32, types.int64)
)


# --- what CPUs do in different ways -----------------------------------------------------------


def _half(builder, v, which):
    """The lower half of v's lanes, 0, or the upper one, 1."""
    n = v.type.count // 2
    lanes = ir.Constant(ir.VectorType(I32, n), list(range(n * which, n * which + n)))
    return builder.shuffle_vector(v, ir.Constant(v.type, ir.Undefined), lanes)


def _neon(builder, name, *values):
    """An LLVM intrinsic of AArch64, which has vectors of 128 bits, on both halves of 256.

    What it gives has the type of the first value.
    """
    low, high = ([_half(builder, v, which) for v in values] for which in (0, 1))
    kind, name = low[0].type, f"llvm.aarch64.neon.{name}"
    return _joined(builder, _call(builder, name, kind, *low), _call(builder, name, kind, *high))


def _sdot(builder, total, a, b):
    """total + sums of four neighbouring products of signed bytes."""
    return _neon(builder, "sdot.v4i32.v16i8", total, a, b)


@intrinsic
def lookup(typing, table, index):
    """i8x32: table[index & 15], the table given twice; bit 7 of an index must be 0."""

    def avx2(context, builder, signature, args):
        return _call(builder, "llvm.x86.avx2.pshuf.b", i8x32.ir, *args)

    def neon(context, builder, signature, args):
        low = builder.and_(args[1], ir.Constant(i8x32.ir, [15] * 32))
        return _neon(builder, "tbl1.v16i8", args[0], low)

    def portable(context, builder, signature, args):
        low = builder.and_(args[1], ir.Constant(i8x32.ir, [15] * 32))
        result = ir.Constant(i8x32.ir, [0] * 32)
        for entry in range(16):
            level = _splat(builder, builder.extract_element(args[0], I32(entry)), i8x32.ir)
            hit = builder.icmp_unsigned("==", low, ir.Constant(i8x32.ir, [entry] * 32))
            result = builder.select(hit, level, result)
        return result

    return i8x32(table, index), avx2 if AVX2 else neon if SDOT else portable


@intrinsic
def gather(typing, address, index):
    """int32 number index[lane] of those at an address, for each lane."""
    lanes = index.lanes

    def code(context, builder, signature, args):
        address, index = args
        kind = index.type
        zero, table = ir.Constant(kind, [0] * lanes), _pointer(builder, address, I8)
        if WIDE and lanes == 16:
            name, ones = "llvm.x86.avx512.mask.gather.dpi.512", ir.VectorType(ir.IntType(1), lanes)
            mask = ir.Constant(ones, [1] * lanes)
            return _call(builder, name, kind, zero, table, index, mask, I32(4))
        if AVX2 and lanes == 8:
            mask = ir.Constant(kind, [-1] * lanes)
            name = "llvm.x86.avx2.gather.d.d.256"
            return _call(builder, name, kind, zero, table, index, mask, I8(4))
        result = zero
        for lane in range(lanes):
            offset = builder.zext(builder.extract_element(index, I32(lane)), I64)
            at = builder.add(address, builder.mul(offset, I64(4)))
            result = builder.insert_element(result, _load(builder, at, I32), I32(lane))
        return result

    return index(types.int64, index), code


@intrinsic
def lookup_wide(typing, table, index):
    """i8x64: table[index & 63] (VBMI)."""

    def code(context, builder, signature, args):
        return _call(builder, "llvm.x86.avx512.permvar.qi.512", i8x64.ir, *args)

    return i8x64(table, index), code


@intrinsic
def dot_i8(typing, u, s):
    """Sums of two neighbouring products, unsigned bytes times signed: i16x16.

    Exact, and the same in both bodies, where u <= 128: 2 * 128 * -128 is the least int16.
    """

    def avx2(context, builder, signature, args):
        return _call(builder, "llvm.x86.avx2.pmadd.ub.sw", i16x16.ir, *args)

    def portable(context, builder, signature, args):
        unsigned = _extend(builder, args[0], 16, signed=False)
        return _pair_sums(builder, builder.mul(unsigned, _extend(builder, args[1], 16)))

    return i16x16(u, s), avx2 if AVX2 else portable


def _dot_i16(builder, a, b):
    if AVX2:
        return _call(builder, "llvm.x86.avx2.pmadd.wd", i32x8.ir, a, b)
    return _pair_sums(builder, builder.mul(_extend(builder, a, 32), _extend(builder, b, 32)))


@intrinsic
def dot_i16(typing, a, b):
    """Sums of two neighbouring products of int16: i32x8."""

    def code(context, builder, signature, args):
        return _dot_i16(builder, *args)

    return i32x8(a, b), code


def _dot_product(builder, instruction, total, a, b):
    """VNNI: total + the products of a and b. All of int32, as LLVM had it before bytes and words:
    old versions know nothing else, and new ones read it as theirs.
    """
    kind = total.type
    name = f"llvm.x86.avx512.{instruction}.{32 * kind.count}"
    return _call(builder, name, kind, total, builder.bitcast(a, kind), builder.bitcast(b, kind))


@intrinsic
def _dot4(typing, total, u, s):
    """total + sums of four neighbouring products, unsigned bytes times signed (VNNI)."""

    def code(context, builder, signature, args):
        return _dot_product(builder, "vpdpbusd", *args)

    return total(total, u, s), code


@intrinsic
def dot_pairs(typing, total, a, b):
    """total + sums of two neighbouring products of int16."""

    def vnni(context, builder, signature, args):
        return _dot_product(builder, "vpdpwssd", *args)

    def others(context, builder, signature, args):
        return builder.add(args[0], _dot_i16(builder, *args[1:]))

    return total(total, a, b), vnni if VNNI else others


@intrinsic
def _scaled4(typing, total, part, scale):
    """total + part * scale, |part| < 2**23; the scale as `scale_bytes` gives it (VNNI).

    part = 256 high + low, as two int16: one instruction multiplies both and adds them up. A
    product of 32 bits takes two, and the addition.
    """

    def code(context, builder, signature, args):
        lanes = total.lanes
        bytes_ = ir.VectorType(I8, 4 * lanes)
        place = [x for i in range(lanes) for x in (4 * i, -1, 4 * i + 1, 4 * i + 2)]
        pairs = _shuffle_or_zero(builder, builder.bitcast(args[1], bytes_), place)
        return _dot_product(builder, "vpdpwssd", args[0], pairs, args[2])

    return total(total, part, scale), code


@intrinsic
def _low_words(typing, v):
    """The low int16 of each lane of 32 bits, as int32."""

    def code(context, builder, signature, args):
        half = ir.Constant(i32x8.ir, [16] * 8)
        low = builder.shl(builder.bitcast(args[0], i32x8.ir), half)
        return builder.ashr(low, half)

    return i32x8(v), code


@intrinsic
def _sdot4(typing, total, a, b):
    """total + sums of four neighbouring products of signed bytes (AArch64)."""

    def code(context, builder, signature, args):
        return _sdot(builder, *args)

    return total(total, a, b), code


if VNNI:
    dot_u8 = _dot4
else:

    @intrinsic
    def dot_u8(typing, total, u, s):
        """total + sums of four neighbouring products, unsigned bytes (any) times signed: i32x8."""

        def sdot(context, builder, signature, args):
            """(u - 128) s + 128 s; the compiler makes the second once for all u that meet an s."""
            total, u, s = args
            least = ir.Constant(u.type, [-128] * 32)
            offset = _sdot(builder, ir.Constant(total.type, [0] * 8), least, s)
            return builder.sub(_sdot(builder, total, builder.xor(u, least), s), offset)

        def portable(context, builder, signature, args):
            unsigned = _extend(builder, args[1], 16, signed=False)
            products = builder.mul(unsigned, _extend(builder, args[2], 16))  # 255 * 128 < 2**15
            pairs = _pair_sums(builder, _extend(builder, products, 32))
            return builder.add(args[0], _pair_sums(builder, pairs))

        return total(total, u, s), sdot if SDOT else portable


# A group's products meet its scale in `accumulate`, where widening to 32 bits multiplies anyway,
# or in `add_scaled`, once a group, where an instruction exists that widens and adds.
if VNNI:
    group_scales = scale_bytes

    @inline
    def begin(start, scale):
        """The first part of a group: the sum that `scale` is to meet, int32 lanes.

        `start`: -64 times the sum of all inputs s that follow.
        """
        return start

    @inline
    def accumulate(part, u, s, scale):
        """part + u * s, four bytes a lane; `add_scaled` must follow at the end of the group."""
        return _dot4(part, u, s)

    @inline
    def add_scaled(total, part, scale):
        """total + scale * part"""
        return _scaled4(total, part, scale)

elif SDOT:
    group_scales = widen_i8x8

    @inline
    def begin(start, scale):
        """The bytes become levels, so nothing has to make up for them."""
        return fill_i32(0)

    @inline
    def accumulate(part, u, s, scale):
        """part + (u - 64) * s, four bytes a lane; `add_scaled` must follow as with VNNI."""
        return _sdot4(part, subtract(u, fill_i8(64)), s)

    @inline
    def add_scaled(total, part, scale):
        return add(total, multiply(part, scale))

else:
    group_scales = scale_pairs

    @inline
    def begin(start, scale):
        return multiply(start, _low_words(scale))

    @inline
    def accumulate(part, u, s, scale):
        """part + scale * u * s, four bytes a lane; scale as `scale_pairs` gives it."""
        return add(part, dot_i16(dot_i8(u, s), scale))

    @inline
    def add_scaled(total, part, scale):
        return add(total, part)
