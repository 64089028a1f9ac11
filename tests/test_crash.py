"""The kills of kills.py, in a process of their own: numba's threads do not survive a fork."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills need fork")
@pytest.mark.parametrize("which", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_kills(which):
    file = Path(__file__).with_name("kills.py")
    command = [sys.executable, "-m", "pytest", "-q", "-m", which, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=file.parent)
    assert done.returncode == 0, done.stdout[-4000:]
