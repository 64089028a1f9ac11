"""A hub folder as a GGUF file, with the keys, names and order of rows that llama.cpp's have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import load_file

from weights.gguf_config import ARCHITECTURES
from weights.gguf_source import HUB_TO_GGUF, HUB_TOKENIZER

ARCHITECTURE = {"llama": "llama", "mistral": "llama"}  # of a model type; others keep their name


def write_gguf(folder: Path, path: Path) -> Path:
    """Write `path` from config.json, tokenizer.json and model.safetensors; returns the path."""
    config = json.loads((folder / "config.json").read_text())
    name = ARCHITECTURE.get(config["model_type"], config["model_type"])
    writer = gguf.GGUFWriter(path, name)
    _metadata(writer, name, config)
    tokenizer = (folder / "tokenizer.json").read_text()
    vocabulary = {i: token for token, i in json.loads(tokenizer)["model"]["vocab"].items()}
    added = {one["id"]: one["content"] for one in json.loads(tokenizer)["added_tokens"]}
    tokens = vocabulary | added
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([tokens.get(i, f"[{i}]") for i in range(config["vocab_size"])])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(name == "llama")
    writer.add_string(HUB_TOKENIZER, tokenizer)
    for hub, values in load_file(folder / "model.safetensors").items():
        writer.add_tensor(*_tensor(name, config, hub, values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _metadata(writer: gguf.GGUFWriter, name: str, config: dict[str, Any]) -> None:
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(0)
    if window := config.get("sliding_window"):
        writer.add_sliding_window(window)
        if types := config.get("layer_types"):
            marks = [one == "sliding_attention" for one in types]
            writer.add_array(f"{name}.attention.sliding_window_pattern", marks)
    if rope := config.get("rope_scaling"):
        kinds = {"linear": gguf.RopeScalingType.LINEAR, "yarn": gguf.RopeScalingType.YARN}
        writer.add_rope_scaling_type(kinds[rope["rope_type"]])
        writer.add_rope_scaling_factor(rope["factor"])
        if original := rope.get("original_max_position_embeddings"):
            writer.add_rope_scaling_orig_ctx_len(original)


def _tensor(
    name: str, config: dict[str, Any], hub: str, values: np.ndarray
) -> tuple[str, np.ndarray]:
    """Name in the file, and float32 values; q and k of some have neighbours that turn together."""
    stem, _, kind = hub.rpartition(".")
    if ARCHITECTURES[name].permuted and ".q_proj" in stem:
        values = _neighbours(values, config["num_attention_heads"])
    if ARCHITECTURES[name].permuted and ".k_proj" in stem:
        values = _neighbours(values, config["num_key_value_heads"])
    if stem.startswith("model.layers."):
        layer, part = stem.removeprefix("model.layers.").split(".", 1)
        return f"blk.{layer}.{HUB_TO_GGUF[part]}.{kind}", values
    return f"{HUB_TO_GGUF[stem]}.{kind}", values


def _neighbours(values: np.ndarray, heads: int) -> np.ndarray:
    """Row i of a head beside row i + half of it."""
    halves = values.reshape(heads, 2, len(values) // heads // 2, -1)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))
