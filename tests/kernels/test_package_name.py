"""Our `kernels` package beside transformers, which looks for another library of that name.

transformers asks the package metadata for a version of `kernels`, and imports its names when the
answer lies in a range it knows. As a folder on the path ours has no metadata; installed, it
answers with this project's version. Both must leave transformers in working order.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from emulator import __version__
from tests.support.paths import ROOT

PROGRAM = """
import kernels
import transformers
from transformers import LlamaForCausalLM
assert kernels.load("reference").FRACTION == 16
print(kernels.__file__)
print(LlamaForCausalLM.__name__)
"""

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None or importlib.util.find_spec("torch") is None,
    reason="transformers and torch are not installed: pip install -e .[reference]",
)


@pytest.mark.parametrize("installed", [False, True], ids=["on the path", "installed"])
def test_transformers_and_our_kernels_live_together(tmp_path, installed):
    if installed:  # what an installation adds: metadata that says whose package `kernels` is
        info = tmp_path / f"hardwired_llama-{__version__}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: hardwired-llama\nVersion: {__version__}\n"
        )
        (info / "top_level.txt").write_text("emulator\nkernels\nweights\n")
    paths = [str(ROOT), str(tmp_path), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    ours, model = result.stdout.split("\n")[:2]
    assert Path(ours) == ROOT / "kernels" / "__init__.py"
    assert model == "LlamaForCausalLM"
