"""Kernels limited to AVX2 and to portable vectors: the same tests, the same hashes.

A process has one body, so each runs in processes of its own; two of them fill an empty cache of
compiled kernels at the same time.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import kernels
from emulator.chip import Chip
from kernels.host import simd
from kernels.host.target import choose
from tests.support.paths import ROOT
from weights.rom import RomImage

TESTS = [
    "tests/blocks",
    "tests/kernels/test_compiled.py",
    "tests/kernels/test_simd.py",
    "tests/test_chip.py",
]
HASH = """
import hashlib, sys
from pathlib import Path
from emulator.chip import Chip
from kernels.host import simd
from weights.rom import open_image
wires = Chip(open_image(Path(sys.argv[1]))).forward(list(range(40)), all_logits=True)
print(simd.BODY, hashlib.sha256(wires.logits.tobytes()).hexdigest())
"""
BODIES = [b for b in kernels.BODIES if b != simd.BODY and choose(simd.FEATURES, b).body == b]

pytestmark = pytest.mark.skipif(
    simd.BODY in kernels.BODIES and os.environ.get("HARDWIRED_KERNELS") == simd.BODY,
    reason="this is one of the processes",
)


def environment(home: Path, body: str) -> dict[str, str]:
    more = {"HARDWIRED_HOME": str(home), "HARDWIRED_KERNELS": body, "NUMBA_CACHE_DIR": ""}
    return {**os.environ, **more}


@pytest.mark.slow
@pytest.mark.parametrize("body", BODIES)
def test_a_body(body: str, tmp_path: Path, untied_image: RomImage):
    """Two processes at once on an empty cache, then the kernels' own tests on the full one."""
    command = [sys.executable, "-c", HASH, str(untied_image.folder)]
    both = [
        subprocess.Popen(
            command, cwd=ROOT, env=environment(tmp_path, body), stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    answers = [process.communicate(timeout=600)[0].split() for process in both]
    wires = Chip(untied_image, ops=kernels.load("reference")).forward(
        list(range(40)), all_logits=True
    )
    assert answers == [[body, hashlib.sha256(wires.logits.tobytes()).hexdigest()]] * 2

    (cache,) = (tmp_path / "kernels").iterdir()
    assert len([*cache.glob("copy-*/complete-*")]) == 1
    files = sorted(cache.rglob("*.nbc"))
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *TESTS],
        cwd=ROOT,
        env=environment(tmp_path, body),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert tests.returncode == 0, tests.stdout
    assert sorted(cache.rglob("*.nbc")) == files  # nothing was compiled again


def test_a_body_that_was_not_chosen(monkeypatch: pytest.MonkeyPatch):
    """One line, instead of an instruction that the process does not use."""
    other = next(b for b in kernels.BODIES if b != simd.BODY)
    with pytest.raises(ValueError, match=f"HARDWIRED_KERNELS={other}"):
        kernels.load(other)
