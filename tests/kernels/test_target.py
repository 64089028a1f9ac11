"""The choice of instructions: the best that is there, never one that is not, less where wanted."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
from llvmlite import binding

from kernels.host import simd
from kernels.host.target import Target, choose, features_of, usable

AVX2, AVX_VNNI = {"+avx2"}, {"+avx2", "+avxvnni"}
AVX512 = {"+avx2", "+avx512vnni", "+avx512vl", "+avx512bw", "+avx512vbmi"}
AMX = AVX512 | {"+amx-tile", "+amx-int8"}
PORTABLE = Target(False, False, False, False, False)


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
        (AMX, "", "amx", True),
        (AMX, "vnni", "vnni", True),
        (AMX, "avx2", "avx2", False),
        (AMX - {"+amx-int8"}, "", "vnni", True),
        (AMX - {"+avx512vbmi"}, "", "vnni", False),
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
    assert target.wide or not target.amx
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
        simd.TARGET.amx,
        simd.TARGET.sdot,
    ) == (simd.AVX2, simd.VNNI, simd.WIDE, simd.AMX, simd.SDOT)
    assert simd.TARGET.body == simd.BODY
    assert choose(simd.FEATURES, "portable") == PORTABLE


def test_tiles_are_asked_for(monkeypatch: pytest.MonkeyPatch):
    """A process that the system refuses them does without."""
    assert usable(AVX512) == AVX512
    for answer, features in ((0, AMX), (-1, AVX512)):
        library = SimpleNamespace(syscall=lambda *_, answer=answer: answer)
        monkeypatch.setattr("ctypes.CDLL", lambda _, library=library: library)
        assert usable(AMX) == features
    monkeypatch.setattr("ctypes.CDLL", lambda _: SimpleNamespace())
    assert usable(AMX) == AVX512
