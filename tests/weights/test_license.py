"""Which checkpoints make an image that has to bear a notice."""

from __future__ import annotations

import pytest

from weights.checkpoint import Provenance
from weights.license import notice


@pytest.mark.parametrize(
    ("name", "licence", "repository", "style", "version"),
    [
        ("Llama-3.1-8B-Instruct", "llama3.1", "meta-llama/Llama-3.1-8B-Instruct", "llama3", "3.1"),
        ("mine", "llama3.2", "someone/mine", "chatml", "3.2"),
        ("Llama-3.2-1B", "as its source states", "", "llama3", "3.2"),
        ("folder", "as its source states", "", "llama3", "3"),
        ("Meta-Llama-3-8B", "llama3", "", "llama3", "3"),
        ("SmolLM2-135M-Instruct", "apache-2.0", "", "smollm2", None),
        ("TinyLlama-1.1B", "apache-2.0", "TinyLlama/TinyLlama-1.1B-Chat-v1.0", "plain", None),
    ],
)
def test_notice(name, licence, repository, style, version):
    text = notice(Provenance(name, licence, (), repository), style)
    assert bool(text) == (version is not None)
    if version:
        assert f"Llama {version} is licensed under the Llama {version} Community License" in text
        assert "Built with Llama" in text
        assert name in text
