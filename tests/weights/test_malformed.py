"""Damaged and foreign checkpoints: each ends in one line of the right error."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from emulator.errors import CheckpointError, EmulatorError, ImageError, UnsupportedError
from tests.support.refusals import leaves_nothing, refused
from tests.support.tiny_model import compile_broken, tiny_tensors, write_tiny_checkpoint
from weights.safetensors_file import SafetensorsFile
from weights.safetensors_source import SafetensorsCheckpoint


def shard(header: Any, data: bytes = bytes(16), length: int | None = None) -> bytes:
    """A safetensors file from a header (JSON value or raw bytes) and its data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype: Any = "F32", shape: Any = (4,), offsets: Any = (0, 16)) -> dict[str, Any]:
    return {"w": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


SHARDS = {
    "empty": (b"", "truncated: 0 bytes"),
    "five bytes": (b"\1\0\0\0\0", "truncated: 5 bytes"),
    "truncated header": (shard(entry())[:30], "truncated"),
    "header length huge": (shard(entry(), length=2**63), "truncated, or not a safetensors"),
    "header length all ones": (shard(entry(), length=2**64 - 1), "truncated, or not a safetensors"),
    "not JSON": (shard(b"{not json}"), "damaged header"),
    "not UTF-8": (shard(b"\xff\xfe{}"), "damaged header"),
    "deep JSON": (shard(b"[" * 100_000), "damaged header"),
    "a list": (shard([1, 2]), "damaged header"),
    "entry is text": (shard({"w": "F32"}), "'w' has a malformed entry"),
    "entry without shape": (shard({"w": {"dtype": "F32"}}), "'w' has a malformed entry"),
    "negative offset": (shard(entry(offsets=(-16, 0))), "'w' has a malformed entry"),
    "negative shape": (shard(entry(shape=(-4,))), "'w' has a malformed entry"),
    "fractional shape": (shard(entry(shape=(4.0,))), "'w' has a malformed entry"),
    "truth in shape": (shard(entry(shape=(True, 4))), "'w' has a malformed entry"),
    "three offsets": (shard(entry(offsets=(0, 8, 16))), "'w' has a malformed entry"),
    "offsets reversed": (shard(entry(offsets=(16, 0))), "offsets do not fit its shape"),
    "offsets beyond the file": (shard(entry(offsets=(8, 24))), "'w' ends beyond the file"),
    "offsets far beyond": (shard(entry(offsets=(2**70, 2**70 + 16))), "'w' ends beyond the file"),
    "shape larger than offsets": (shard(entry(shape=(5,))), "offsets do not fit its shape"),
    "huge shape": (shard(entry(shape=(2**40, 2**40))), "offsets do not fit its shape"),
    "unknown dtype": (shard(entry(dtype="F8_E4M3")), "unknown type 'F8_E4M3'"),
    "dtype is a number": (shard(entry(dtype=32)), "unknown type 32"),
    "dtype is a list": (shard(entry(dtype=[])), r"'w' has unknown type \[\]"),
    "shape is text": (shard(entry(shape="")), "'w' has a malformed entry"),
    "70 dimensions": (shard(entry(shape=(1,) * 70, offsets=(0, 4))), "'w' has a malformed entry"),
    "trailing byte": (shard(entry(), bytes(17)), "1 bytes after the last tensor"),
    "another file behind": (shard(entry(), bytes(16) + shard(entry())), "after the last tensor"),
    "no tensors, but bytes": (shard({}), "16 bytes after the last tensor"),
    "a hole at the start": (shard(entry(offsets=(8, 24)), bytes(24)), "8 bytes before 'w'"),
    "a hole between": (
        shard({**entry(), "x": entry(offsets=(20, 36))["w"]}, bytes(36)),
        "4 bytes before 'x' belong to none",
    ),
    "byte order mark": (shard(b"\xef\xbb\xbf" + json.dumps(entry()).encode()), "damaged header"),
    "UTF-16": (shard(json.dumps(entry()).encode("utf-16")), "damaged header"),
    "UTF-16 without a mark": (shard(json.dumps(entry()).encode("utf-16-le")), "damaged header"),
    "UTF-32": (shard(json.dumps(entry()).encode("utf-32-le")), "damaged header"),
    "a space first": (shard(b" " + json.dumps(entry()).encode()), "damaged header"),
    "a line first": (shard(b"\n" + json.dumps(entry()).encode()), "damaged header"),
    "metadata is a list": (shard({**entry(), "__metadata__": []}), "no object of texts"),
    "metadata is null": (shard({**entry(), "__metadata__": None}), "no object of texts"),
    "metadata is text": (shard({**entry(), "__metadata__": "pt"}), "no object of texts"),
    "metadata of numbers": (shard({**entry(), "__metadata__": {"a": 1}}), "no object of texts"),
    "metadata of objects": (shard({**entry(), "__metadata__": {"a": {}}}), "no object of texts"),
    "two objects": (shard(json.dumps(entry()).encode() * 2), "damaged header"),
    "2**63 times 0": (shard(entry(shape=(2**63, 0), offsets=(0, 0))), "'w' has an impossible sh"),
}


@pytest.mark.parametrize(("data", "message"), SHARDS.values(), ids=SHARDS)
def test_safetensors_file(tmp_path, data, message):
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    refused(CheckpointError, message, lambda: SafetensorsFile(path))
    refused(ImageError, message, lambda: SafetensorsFile(path, ImageError))


def test_safetensors_file_of_integers(tmp_path):
    """An integer tensor is no weight."""
    (tmp_path / "a").write_bytes(shard(entry(dtype="I32")))
    file = SafetensorsFile(tmp_path / "a")
    refused(CheckpointError, "has type I32, not a float", lambda: file.float32("w"))


def scaling(**change: Any) -> dict[str, Any]:
    """Llama 3.1's rotary settings with a change."""
    keys = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    rest = {"rope_type": "llama3", "original_max_position_embeddings": 8}
    return {"rope_scaling": {**keys, **rest, **change}}


CONFIGS: dict[str, tuple[dict[str, Any], type[EmulatorError], str]] = {
    "wrong model type": ({"model_type": "mamba"}, UnsupportedError, "model_type 'mamba'"),
    "type is a list": ({"model_type": []}, UnsupportedError, r"model_type \[\]"),
    "attention bias": ({"attention_bias": 1}, CheckpointError, "attention_bias must be true or f"),
    "no biases": ({"attention_bias": True}, CheckpointError, "no tensor .*q_proj.bias"),
    "unknown key": (
        {"altup_active_idx": 0},
        UnsupportedError,
        "altup_active_idx = 0: what this key",
    ),
    "experts": ({"num_local_experts": 8}, UnsupportedError, "num_local_experts = 8"),
    "other activation": ({"hidden_act": "mish"}, UnsupportedError, "hidden_act = 'mish'"),
    "zero layers": ({"num_hidden_layers": 0}, CheckpointError, "num_hidden_layers must be a whole"),
    "true layers": ({"num_hidden_layers": True}, CheckpointError, "num_hidden_layers must be a wh"),
    "zero heads": ({"num_attention_heads": 0}, CheckpointError, "num_attention_heads must be a wh"),
    "heads as text": ({"num_attention_heads": "4"}, CheckpointError, "1024, not '4'"),
    "zero KV heads": ({"num_key_value_heads": 0}, CheckpointError, "num_key_value_heads must be a"),
    "odd KV heads": ({"num_key_value_heads": 3}, CheckpointError, "4 heads cannot share 3"),
    "zero head_dim": ({"head_dim": 0}, CheckpointError, "head_dim must be a whole number"),
    "no room for heads": (
        {"head_dim": None, "num_attention_heads": 128},
        UnsupportedError,
        "head_dim must be a multiple of 16: 0",
    ),
    "odd width": ({"intermediate_size": 100}, UnsupportedError, "ffn must be a multiple of 32"),
    "huge width": ({"hidden_size": 10**30}, CheckpointError, "hidden_size must be a whole number"),
    "hidden of 65536": ({"hidden_size": 65536}, UnsupportedError, "Hadamard transform of 65536"),
    "ffn of 3 * 65536": ({"intermediate_size": 196608}, UnsupportedError, "transform of 65536"),
    "eos outside": ({"eos_token_id": 320}, CheckpointError, "eos_token_id must be .* 0 to 319"),
    "eos is true": ({"eos_token_id": [1, True]}, CheckpointError, "eos_token_id must be whole"),
    "bos below": ({"bos_token_id": -1}, CheckpointError, "bos_token_id must be .* 0 to 319"),
    "seven tokens": ({"vocab_size": 7}, CheckpointError, "vocab_size must be .* from 8"),
    "tied is text": ({"tie_word_embeddings": "no"}, CheckpointError, "must be true or false"),
    "negative epsilon": ({"rms_norm_eps": -1}, CheckpointError, "rms_norm_eps must be a number"),
    "huge epsilon": ({"rms_norm_eps": 1e300}, CheckpointError, "rms_norm_eps must be a number"),
    "theta is true": ({"rope_theta": True}, CheckpointError, "rope_theta must be a number"),
    "theta is NaN": (
        {"rope_theta": float("nan")},
        CheckpointError,
        "rope_theta must be .* not nan",
    ),
    "huge theta": ({"rope_theta": 10**400}, CheckpointError, "rope_theta must be a number"),
    "quantised": (
        {"quantization_config": {"quant_method": "fp8"}},
        UnsupportedError,
        "quantization_config",
    ),
    "experts, newer": ({"num_experts": 8}, UnsupportedError, "num_experts = 8"),
    "part rotated": ({"partial_rotary_factor": 0.5}, UnsupportedError, "partial_rotary_factor"),
    "dynamic": (
        {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
        UnsupportedError,
        "rope_type 'dynamic': the angles grow with the text",
    ),
    "a kind of objects": (
        {"rope_scaling": {"rope_type": {"a": 1}, "factor": 2.0}},
        UnsupportedError,
        r"rope_type \{'a': 1\}: only",
    ),
    "a kind of lists": (
        {"rope_scaling": {"rope_type": ["linear"], "factor": 2.0}},
        UnsupportedError,
        r"rope_type \['linear'\]: only",
    ),
    "yarn's key": (
        {"rope_scaling": {"rope_type": "linear", "factor": 2.0, "beta_fast": 3}},
        UnsupportedError,
        "beta_fast = 3: not known of rope_type linear",
    ),
    "far too long": (
        {"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "attention_factor": 2.5}},
        CheckpointError,
        "attention_factor must be a number from 0.001 to 1.99",
    ),
    "half a scaling": (
        {"rope_scaling": {"rope_type": "llama3"}},
        CheckpointError,
        "lacks 'factor'",
    ),
    "scaling is a list": ({"rope_scaling": [1]}, CheckpointError, "rope_scaling must be an object"),
    "scaling is text": ({"rope_scaling": "llama3"}, CheckpointError, "rope_scaling must be an obj"),
    "factor is text": (scaling(factor="x"), CheckpointError, "rope_scaling: factor must be a num"),
    "no factor": (scaling(factor=0), CheckpointError, "rope_scaling: factor must be a number"),
    "factor is NaN": (scaling(factor=float("nan")), CheckpointError, "rope_scaling: factor must"),
    "factor is true": (scaling(factor=True), CheckpointError, "rope_scaling: factor must be"),
    "no low factor": (scaling(low_freq_factor=0), CheckpointError, "low_freq_factor must be"),
    "equal factors": (
        scaling(low_freq_factor=4),
        CheckpointError,
        "high_freq_factor must be above",
    ),
    "endless context": (
        scaling(original_max_position_embeddings=float("inf")),
        CheckpointError,
        "original_max_position_embeddings must be a whole number",
    ),
}


@pytest.mark.parametrize(("change", "kind", "message"), CONFIGS.values(), ids=CONFIGS)
def test_config(checkpoint, change, kind, message):
    path = checkpoint / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    refused(kind, message, lambda: compile_broken(checkpoint))
    assert leaves_nothing(checkpoint)


@pytest.mark.parametrize("key", ["hidden_size", "vocab_size", "rms_norm_eps", "intermediate_size"])
def test_config_without_a_key(checkpoint, key):
    path = checkpoint / "config.json"
    config = json.loads(path.read_text())
    del config[key]
    path.write_text(json.dumps(config))
    refused(CheckpointError, f"config.json lacks '{key}'", lambda: compile_broken(checkpoint))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("text", [None, "", "{", "[1]", "\udcff", "[" * 100_000])
def test_json_files(checkpoint, name, text):
    """Missing, empty, cut off, a list, not UTF-8, nested too deep."""
    (checkpoint / name).unlink()
    if text is not None:
        (checkpoint / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    message = f"{name}: (cannot be read|not JSON|does not hold an object)"
    refused(CheckpointError, message, lambda: compile_broken(checkpoint))
    assert leaves_nothing(checkpoint)


PLAIN = "w must be a plain file name"
INDICES = {
    "no map": ({}, "lacks 'weight_map'"),
    "map is a list": ({"weight_map": ["a"]}, "weight_map must be an object"),
    "missing shard": (
        {"weight_map": {"w": "model-2.safetensors"}},
        "'model-2.safetensors' is miss",
    ),
    "traversal": ({"weight_map": {"w": "../secret"}}, PLAIN),
    "absolute": ({"weight_map": {"w": "/etc/passwd"}}, PLAIN),
    "parent": ({"weight_map": {"w": ".."}}, PLAIN),
    "NUL": ({"weight_map": {"w": "a\0b"}}, PLAIN),
    "surrogate": ({"weight_map": {"w": "\ud800"}}, PLAIN),
    "long": ({"weight_map": {"w": "a" * 5000}}, PLAIN),
    "not a name": ({"weight_map": {"w": None}}, PLAIN),
}


@pytest.mark.parametrize(("index", "message"), INDICES.values(), ids=INDICES)
def test_index(checkpoint, index, message):
    """The path that a traversal names exists, and is refused all the same."""
    (checkpoint.parent / "secret").write_bytes(shard(entry()))
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(CheckpointError, message, lambda: SafetensorsCheckpoint(checkpoint))


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"w": "b.safetensors", "x": "a.safetensors"}, "'w' is in two|says 'b.safetensors'"),
        ({"w": "a.safetensors"}, "tensor 'x' is in a.safetensors; .* says 'no shard'"),
        ({"x": "a.safetensors"}, "tensor 'w' is in a.safetensors; .* says 'no shard'"),
        ({"w": "a.safetensors", "x": "b.safetensors"}, "'w' is in two|says 'b.safetensors'"),
    ],
)
def test_an_index_against_its_shards(checkpoint, where, message):
    two = {**entry(), "x": entry(offsets=(16, 32))["w"]}
    (checkpoint / "a.safetensors").write_bytes(shard(two, bytes(32)))
    (checkpoint / "b.safetensors").write_bytes(shard(entry()))
    index = json.dumps({"weight_map": where})
    (checkpoint / "model.safetensors.index.json").write_text(index)
    refused(CheckpointError, message, lambda: SafetensorsCheckpoint(checkpoint))


Q = "model.layers.1.self_attn.q_proj.weight"
TENSORS: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray | None], str]] = {
    "NaN": (Q, lambda w: np.where(w == w.max(), np.nan, w), "not finite"),
    "infinity": (Q, lambda w: np.where(w == w.max(), np.inf, w), "not finite"),
    "huge": (Q, lambda w: w * 1e6, r"beyond \+-32768"),
    "wrong shape": (Q, lambda w: w[:-1], r"has shape \(127, 64\), not \(128, 64\)"),
    "flat": (Q, lambda w: w.reshape(-1), r"has shape \(8192,\)"),
    "missing": (Q, lambda w: None, "no tensor model.layers.1.self_attn.q_proj.weight"),
    "NaN gain": ("model.norm.weight", lambda w: w * np.nan, "not finite"),
}


@pytest.mark.parametrize(("name", "change", "message"), TENSORS.values(), ids=TENSORS)
def test_tensors(checkpoint, name, change, message):
    """A weight that is wrong in layer 1 stops the compiler, and takes layer 0 away again."""
    tensors = tiny_tensors(tied=True)
    changed = change(tensors.pop(name))
    if changed is not None:
        tensors[name] = np.ascontiguousarray(changed, np.float32)
    save_file(tensors, checkpoint / "model.safetensors")
    refused(CheckpointError, message, lambda: compile_broken(checkpoint))
    assert leaves_nothing(checkpoint)


def test_untied_model_without_a_head(tmp_path):
    folder = write_tiny_checkpoint(tmp_path / "in" / "checkpoint", tied=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    refused(CheckpointError, "no tensor lm_head.weight", lambda: compile_broken(folder))
    assert leaves_nothing(folder)


def test_no_checkpoint_at_all(tmp_path):
    """A missing folder, and a file in its place."""
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "none", tmp_path / "file", tmp_path):
        refused(CheckpointError, "is missing", lambda p=path: SafetensorsCheckpoint(p))


@pytest.mark.parametrize(
    ("config", "generation", "expected"),
    [
        (257, None, (257,)),
        ([257, 5], [5, 257, 9], (257, 5, 9)),
        (None, 9, (9,)),
        (257, {"x": 1}, (257,)),
    ],
)
def test_end_tokens(checkpoint, config, generation, expected):
    """Of config.json and generation_config.json together."""
    for name, value in (("config", config), ("generation_config", generation)):
        path = checkpoint / f"{name}.json"
        values = json.loads(path.read_text()) if path.exists() else {}
        values |= value if isinstance(value, dict) else {"eos_token_id": value}
        path.write_text(json.dumps(values))
    assert SafetensorsCheckpoint(checkpoint).config.end_ids == expected


def test_end_token_beyond_the_vocabulary(checkpoint):
    (checkpoint / "generation_config.json").write_text('{"eos_token_id": [257, 320]}')
    message = "generation_config.json: eos_token_id must be whole numbers from 0 to 319"
    refused(CheckpointError, message, lambda: SafetensorsCheckpoint(checkpoint).config)
