"""The code widths: all that tells one from another, in one table.

A tile of b-bit codes is b words of 32 bytes; byte i of every word belongs to code i of the tile's
eight vectors (`kernels.rom.pack`). What is left over beside six vectors holds the other two:

    3 bits   word w: bits 0-2 vector 2w, bits 4-6 vector 2w + 1             96 bytes a tile
             bit 3 of words 0, 1, 2 = bits 0, 1, 2 of vector 6; bit 7 those of vector 7
    4 bits   word w: bits 0-3 vector 2w, bits 4-7 vector 2w + 1            128 bytes a tile
    6 bits   word w: bits 0-5 vector w                                     192 bytes a tile
             bits 6-7 of words 0, 1, 2 = bits 4-5, 2-3, 0-1 of vector 6; of words 3, 4, 5
             those of vector 7

How a kernel takes the codes out of a tile is in `kernels.rom.codes`. Another width is an entry
here and one there.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Width:
    """One code width: where its bits lie, and what the mask compiler makes of it."""

    bits: int
    # Where the bits of a code lie: (vector, lowest bit of the code, bits, word, lowest bit there).
    fields: tuple[tuple[int, int, int, int, int], ...]
    levels: tuple[int, ...]  # the compiler's alphabet, rising, within +-64
    error_left: float  # of a tensor's KL at 3 bits; docs/quality.md
    # Distances of evenly rising levels that kernels compute from the code, without a lookup:
    computed_steps: tuple[int, ...] = ()
    group: int = 32  # columns that share a scale, in what the compiler makes

    @property
    def tile_bytes(self) -> int:
        return 32 * self.bits


# Rotated weights are close to Gaussian. Levels of 3 and 4 bits have the least squared error for
# Gaussian groups that choose their scale and its sign: `python -m benchmarks.alphabet` finds them.
_WIDTHS = (
    Width(
        bits=3,
        fields=(
            *((v, 0, 3, v // 2, 4 * (v % 2)) for v in range(6)),
            *((v, bit, 1, bit, 3 + 4 * (v % 2)) for v in (6, 7) for bit in range(3)),
        ),
        levels=(-52, -32, -17, -3, 9, 23, 39, 64),
        error_left=1.0,
    ),
    Width(
        bits=4,
        fields=tuple((v, 0, 4, v // 2, 4 * (v % 2)) for v in range(8)),
        levels=(-60, -46, -36, -28, -21, -14, -8, -2, 4, 11, 17, 23, 31, 39, 49, 64),
        error_left=0.23,
    ),
    Width(
        bits=6,
        fields=(
            *((v, 0, 6, v, 0) for v in range(6)),
            *((v, 4 - 2 * i, 2, 3 * (v % 2) + i, 6) for v in (6, 7) for i in range(3)),
        ),
        levels=tuple(range(-32, 32)),
        error_left=0.017,
        computed_steps=(1, 2),
    ),
)
WIDTHS = {width.bits: width for width in _WIDTHS}
CODE_BITS = tuple(WIDTHS)
CODE_BITS_TEXT = f"{', '.join(map(str, CODE_BITS[:-1]))} or {CODE_BITS[-1]}"
