"""What needs llama.cpp says in one line that it is absent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.paths import ROOT


def test_peers_without_llama(tmp_path: Path):
    absent = tmp_path / "python"
    absent.write_text("#!/bin/sh\nexit 1\n")
    absent.chmod(0o755)
    command = [sys.executable, "benchmarks/peers.py", "--llama-python", str(absent)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")
    assert result.stderr.startswith("skipped: ")
    assert result.stderr.count("\n") == 1
