"""Which instructions the kernels are made of: a choice from what the CPU has and what is asked."""

from __future__ import annotations

import ctypes
from collections.abc import Set
from dataclasses import dataclass

TILES = {"+amx-tile", "+amx-int8"}
ARCH_PRCTL, REQUEST, TILE_DATA = 158, 0x1023, 18  # of x86-64, the only one with tiles


@dataclass(frozen=True, slots=True)
class Target:
    """Bodies of the operations in `kernels.host.simd`; all give the same bits."""

    avx2: bool
    vnni: bool  # sums of four byte products in one instruction; needs avx2
    wide: bool  # two row tiles in vectors of 512 bits, a lookup of 64 bytes; needs vnni
    amx: bool  # products of tiles, for many tokens; needs wide

    @property
    def body(self) -> str:
        """One word for it: "amx", "vnni", "avx2" or "portable"."""
        return "amx" if self.amx else "vnni" if self.vnni else "avx2" if self.avx2 else "portable"


def choose(features: Set[str], wanted: str = "") -> Target:
    """The best that the features allow ("+avx2", as LLVM names them), or less where it is wanted.

    `wanted` is "vnni", "avx2" or "portable"; any other word sets no limit. Never chooses an
    instruction that the features lack: LLVM would abort the process.
    """
    avx2 = "+avx2" in features and wanted != "portable"
    evex = {"+avx512vnni", "+avx512vl"} <= features
    vnni = avx2 and wanted != "avx2" and ("+avxvnni" in features or evex)
    wide = vnni and evex and {"+avx512bw", "+avx512vbmi"} <= features
    amx = wide and wanted != "vnni" and features >= TILES
    return Target(avx2, vnni, wide, amx)


def usable(features: Set[str]) -> Set[str]:
    """The features without those that the system refuses.

    Linux saves the large registers only for processes that have asked (arch_prctl(2)).
    """
    if not features >= TILES:
        return features
    syscall = getattr(ctypes.CDLL(None), "syscall", None)
    allowed = syscall is not None and syscall(ARCH_PRCTL, REQUEST, TILE_DATA) == 0
    return features if allowed else features - TILES
