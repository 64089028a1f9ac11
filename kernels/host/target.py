"""Which instructions the kernels are made of: a choice from what the CPU has and what is asked."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Set
from dataclasses import dataclass

from llvmlite import binding

TILES = {"+amx-tile", "+amx-int8"}
ARCH_PRCTL, REQUEST, TILE_DATA = 158, 0x1023, 18  # of x86-64, the only one with tiles
# A sum of products of signed bytes: LLVM makes `sdot` of it where an AArch64 has that.
SUM_OF_PRODUCTS = """
declare i32 @llvm.vector.reduce.add.v16i32(<16 x i32>)
define i32 @sum(<16 x i8> %a, <16 x i8> %b) {
  %x = sext <16 x i8> %a to <16 x i32>
  %y = sext <16 x i8> %b to <16 x i32>
  %products = mul <16 x i32> %x, %y
  %sum = call i32 @llvm.vector.reduce.add.v16i32(<16 x i32> %products)
  ret i32 %sum
}
"""


@dataclass(frozen=True, slots=True)
class Target:
    """Bodies of the operations in `kernels.host.simd`; all give the same bits."""

    avx2: bool
    vnni: bool  # sums of four byte products in one instruction; needs avx2
    wide: bool  # two row tiles in vectors of 512 bits, a lookup of 64 bytes; needs vnni
    amx: bool  # products of tiles, for many tokens; needs wide
    sdot: bool  # AArch64: sums of four products of signed bytes, a lookup of 16 bytes

    @property
    def body(self) -> str:
        """One word for it: "amx", "vnni", "avx2", "sdot" or "portable"."""
        names = {"amx": self.amx, "vnni": self.vnni, "avx2": self.avx2, "sdot": self.sdot}
        return next((name for name, chosen in names.items() if chosen), "portable")


def features_of(triple: str, cpu: str, features: str) -> set[str]:
    """Of what LLVM compiles for: "+avx2", as it names them; and "+dotprod", asked by what it emits.

    Its features leave "dotprod" out, on a Neoverse N1 for one, where the CPU's name implies it.
    """
    found = set(features.split(","))
    if triple.startswith(("aarch64", "arm64")):
        target = binding.Target.from_triple(triple)
        machine = target.create_target_machine(cpu=cpu, features=features)
        if "sdot" in machine.emit_assembly(binding.parse_assembly(SUM_OF_PRODUCTS)):
            found.add("+dotprod")
    return found


def usable(features: Set[str]) -> Set[str]:
    """The features without those that the system refuses.

    Linux saves the large registers only for processes that have asked (arch_prctl(2)).
    """
    if features >= TILES and sys.platform == "linux":
        syscall = getattr(ctypes.CDLL(None), "syscall", None)
        if syscall is not None and syscall(ARCH_PRCTL, REQUEST, TILE_DATA) == 0:
            return features
    return features - TILES


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
    sdot = "+dotprod" in features and wanted != "portable"
    return Target(avx2, vnni, wide, amx, sdot)
