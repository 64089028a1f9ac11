"""Synthetic checkpoints in the hub's form: BF16 shards with an index, any family, any size.

Weights are sums of random bytes, so close to Gaussian, and behave as trained ones do: some columns
are louder, a token attends to a few of those before it, logits differ by a few nats. They come from
a generator's raw integers: the same seed gives the same bytes on every host.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from emulator.config import LlamaConfig, from_hub_config
from weights.checkpoint import LAYER_TENSORS, hub_name, layer_vectors, tensor_shape
from weights.safetensors_source import INDEX

LLAMA_31_8B: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "rope_scaling": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "bos_token_id": 128000,
    "eos_token_id": [128001, 128008, 128009],
}
LLAMA_32_1B: dict[str, Any] = {
    **LLAMA_31_8B,
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "head_dim": 64,
    "intermediate_size": 8192,
    "rope_scaling": {**LLAMA_31_8B["rope_scaling"], "factor": 32.0},
    "tie_word_embeddings": True,
}
SHARD_BYTES = 5 << 30  # as the hub's own
PIECE = 1 << 22  # values made at a time
LOUD_COLUMNS, LOUDNESS = 1 / 256, 4.0
SHARPNESS = 1.2  # of q and k: scores differ by 1.7 or so
SPREAD = 2.0  # of logits


def write_checkpoint(folder: Path, hub: dict[str, Any], tokenizer_json: str, seed: int = 1) -> Path:
    """Write config.json, tokenizer.json, the shards and their index; returns the folder."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(hub))
    (folder / "tokenizer.json").write_text(tokenizer_json)
    config = from_hub_config(hub)
    fused = hub["model_type"] == "phi3"
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    room = SHARD_BYTES
    for name, shape in _tensors(config):
        room -= 2 * int(np.prod(shape))
        if room < 0 and shards[-1]:
            shards.append({})
            room = SHARD_BYTES
        shards[-1][name] = shape
    rng = np.random.PCG64(seed)
    where = {}
    for i, tensors in enumerate(shards):
        file = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        stored = _write_shard(folder / file, tensors, _lengths(config), rng, fused)
        where |= dict.fromkeys(stored, file)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return folder


def _tensors(config: LlamaConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    for name in ("embedding", *(() if config.tied else ("head",)), "norm"):
        yield hub_name(name), tensor_shape(config, name)
    for layer in range(config.layers):
        for name in (*LAYER_TENSORS, *layer_vectors(config)):
            yield hub_name(name, layer), tensor_shape(config, name)


def _lengths(config: LlamaConfig) -> dict[str, float]:
    """Of a matrix's rows, by a part of its name; 1 for all others.

    An embedding's values are near 1, as what the layers add; in a tied model, where a token would
    then be its own best successor by far, the layers have the word.
    """
    tokens = SPREAD if config.tied else math.sqrt(config.hidden)
    return {"q_proj": SHARPNESS, "k_proj": SHARPNESS, "lm_head": SPREAD, "embed_tokens": tokens}


def _write_shard(
    path: Path,
    tensors: dict[str, tuple[int, ...]],
    lengths: dict[str, float],
    rng: np.random.PCG64,
    fused: bool,
) -> list[str]:
    """Names in the file. Fused, q, k and v are one tensor, gate and up another; same bytes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # transformers asks for it
    end = 0
    for name, shape in tensors.items():
        begin, end = end, end + 2 * int(np.prod(shape))
        stored, rows = _stored(name) if fused else name, shape[0]
        if stored in header:
            begin = header[stored]["data_offsets"][0]
            rows += header[stored]["shape"][0]
        whole = [rows, *shape[1:]]
        header[stored] = {"dtype": "BF16", "shape": whole, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in tensors.items():
            length = next((length for part, length in lengths.items() if part in name), 1.0)
            _write_tensor(file, shape, length, rng, name.endswith("bias"))
    return [name for name in header if name != "__metadata__"]


def _stored(name: str) -> str:
    """The tensor that holds this one in a Phi-3."""
    stem, _, part = name.rpartition("_proj.weight")[0].rpartition(".")
    together = {**dict.fromkeys("qkv", "qkv"), **dict.fromkeys(("gate", "up"), "gate_up")}
    return f"{stem}.{together[part]}_proj.weight" if part in together else name


def _write_tensor(
    file: BinaryIO, shape: tuple[int, ...], length: float, rng: np.random.PCG64, bias: bool
) -> None:
    """Gains around 1, biases around 0; rows whose products are `length` times their input."""
    columns = shape[-1]
    if len(shape) == 1:
        _write_bf16(file, (0 if bias else 1) + _bell(rng, columns) * np.float32(0.2))
        return
    scale = np.full(columns, length / math.sqrt(columns), np.float32)
    loud = rng.random_raw(int(columns * LOUD_COLUMNS)) % np.uint64(columns)
    scale[loud] *= np.float32(LOUDNESS)
    rows = max(1, PIECE // columns)
    for start in range(0, shape[0], rows):
        count = min(rows, shape[0] - start)
        _write_bf16(file, _bell(rng, count * columns).reshape(count, columns) * scale)


def _bell(rng: np.random.PCG64, count: int) -> np.ndarray:
    """float32[count] of variance 1: the sum of 4 bytes, centred."""
    raw = rng.random_raw((count + 1) // 2).astype("<u8").view(np.uint8)[: 4 * count]
    total = raw.reshape(4, count).sum(axis=0, dtype=np.int16) - 510
    return total.astype(np.float32) * np.float32(1 / math.sqrt(4 * (256**2 - 1) / 12))


def _write_bf16(file: BinaryIO, values: np.ndarray) -> None:
    """The upper halves of the float32 numbers, rounded towards zero."""
    file.write((np.ascontiguousarray(values, np.float32).view(np.uint32) >> 16).astype("<u2"))
