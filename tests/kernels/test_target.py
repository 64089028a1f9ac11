"""The choice of instructions: the best that is there, never one that is not, less where wanted."""

from __future__ import annotations

import os

import pytest
from llvmlite import binding

from kernels.host import simd
from kernels.host.target import Target, choose, features_of

AVX2, AVX_VNNI = {"+avx2"}, {"+avx2", "+avxvnni"}
AVX512 = {"+avx2", "+avx512vnni", "+avx512vl", "+avx512bw", "+avx512vbmi"}
PORTABLE = Target(False, False, False, False)


@pytest.mark.parametrize(
    ("features", "wanted", "body", "wide"),
    [
        (set(), "", "portable", False),
        ({"+sse2", "-avx2"}, "", "portable", False),
        (AVX2, "", "avx2", False),
        (AVX_VNNI, "", "vnni", False),
        (AVX512, "", "vnni", True),
        (AVX512 - {"+avx512bw"}, "", "vnni", False),
        (AVX512 - {"+avx512vbmi"}, "", "vnni", False),
        (AVX512 - {"+avx512vl"}, "", "avx2", False),
        (AVX_VNNI | {"+avx512bw"}, "", "vnni", False),
        (AVX512 - {"+avx2"}, "", "portable", False),
        (AVX512, "avx2", "avx2", False),
        (AVX512, "portable", "portable", False),
        (set(), "avx2", "portable", False),
        (AVX512, "reference", "vnni", True),  # no word of this choice
        ({"+neon"}, "", "portable", False),
        ({"+neon", "+dotprod"}, "", "sdot", False),
        ({"+neon", "+dotprod"}, "portable", "portable", False),
    ],
)
def test_choose(features, wanted, body, wide):
    target = choose(features, wanted)
    assert (target.body, target.wide) == (body, wide)
    assert target.avx2 or not target.vnni
    assert target.vnni or not target.wide
    assert target.avx2 <= ("+avx2" in features)


@pytest.mark.parametrize(
    ("cpu", "features", "body"),
    [
        ("cortex-a53", "", "portable"),
        ("generic", "+neon", "portable"),
        ("generic", "+dotprod", "sdot"),
        ("neoverse-n1", "+neon,+lse,-sve", "sdot"),  # as LLVM describes one; the name implies it
        ("apple-m1", "", "sdot"),
    ],
)
def test_what_an_aarch64_has(cpu: str, features: str, body: str):
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    for triple in ("aarch64-unknown-linux-gnu", "arm64-apple-darwin23.0.0"):
        assert choose(features_of(triple, cpu, features)).body == body


def test_the_process_has_one_choice():
    """The names that kernels use are those of TARGET."""
    wanted = os.environ.get("HARDWIRED_KERNELS", "")
    assert choose(simd.FEATURES, wanted) == simd.TARGET
    assert (
        simd.TARGET.avx2,
        simd.TARGET.vnni,
        simd.TARGET.wide,
        simd.TARGET.sdot,
    ) == (simd.AVX2, simd.VNNI, simd.WIDE, simd.SDOT)
    assert simd.TARGET.body == simd.BODY
    assert choose(simd.FEATURES, "portable") == PORTABLE
