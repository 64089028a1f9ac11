"""Which instructions the kernels are made of: a choice from what the CPU has and what is asked."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """Bodies of the operations in `kernels.host.simd`; all give the same bits."""

    avx2: bool
    vnni: bool  # sums of four byte products in one instruction; needs avx2
    wide: bool  # two row tiles in vectors of 512 bits, a lookup of 64 bytes; needs vnni

    @property
    def body(self) -> str:
        """One word for it: "vnni", "avx2" or "portable"."""
        return "vnni" if self.vnni else "avx2" if self.avx2 else "portable"


def choose(features: Set[str], wanted: str = "") -> Target:
    """The best that the features allow ("+avx2", as LLVM names them), or less where it is wanted.

    `wanted` is "avx2" or "portable"; any other word sets no limit. Never chooses an instruction
    that the features lack: LLVM would abort the process.
    """
    avx2 = "+avx2" in features and wanted != "portable"
    evex = {"+avx512vnni", "+avx512vl"} <= features
    vnni = avx2 and wanted != "avx2" and ("+avxvnni" in features or evex)
    wide = vnni and evex and {"+avx512bw", "+avx512vbmi"} <= features
    return Target(avx2, vnni, wide)
