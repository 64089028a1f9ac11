"""The kills of kills.py, in a process of their own: numba's threads do not survive a fork."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.paths import ROOT


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills need fork")
@pytest.mark.parametrize("which", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_kills(which):
    file = ROOT / "tests" / "support" / "kills.py"
    command = [sys.executable, "-m", "pytest", "-q", "-m", which, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-4000:]
