"""Killed while it writes: nothing that is not whole is taken for an image."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.paths import ROOT
from tests.support.tiny_model import compile_tiny
from weights.rom import MANIFEST, open_image


def test_a_half_written_folder_is_no_image(tmp_path, tiny_checkpoint):
    """Whatever was written before the manifest: `models` and `chat` do not take it for one."""
    out = compile_tiny(tiny_checkpoint, tmp_path / "image")
    (out / MANIFEST).unlink()
    with pytest.raises(Exception, match=r"not a ROM image: no rom\.json"):
        open_image(out)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills need fork")
def test_kills():
    """Those of kills.py, in a process of their own: numba's threads do not survive a fork."""
    file = ROOT / "tests" / "support" / "kills.py"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "slow", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-4000:]
