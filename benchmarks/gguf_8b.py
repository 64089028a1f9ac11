"""A GGUF file with the shape of Llama 3.1 8B and random weights, for llama.cpp: Q3_K, head Q6_K."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

from emulator.config import LlamaConfig

# Bytes of a block of 256 weights, and where its float16 scale lies.
BLOCKS = {
    GGMLQuantizationType.Q3_K: (110, 108),
    GGMLQuantizationType.Q6_K: (210, 208),
}
SCALE = np.float16(2e-5)  # small enough for finite activations whatever the other bits are


def random_blocks(
    rng: np.random.Generator, rows: int, columns: int, kind: GGMLQuantizationType
) -> np.ndarray:
    size, place = BLOCKS[kind]
    blocks = np.frombuffer(bytearray(rng.bytes(rows * columns // 256 * size)), np.uint8)
    blocks = blocks.reshape(-1, size)
    blocks[:, place : place + 2] = np.frombuffer(SCALE.tobytes(), np.uint8)
    return blocks.reshape(rows, columns // 256 * size)


def write_gguf(path: Path, config: LlamaConfig) -> None:
    """Every tensor of the model; no tokenizer, for only ids are fed."""
    rng = np.random.default_rng(8)
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.hidden)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.ffn)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.rms_epsilon)
    writer.add_vocab_size(config.vocabulary)
    writer.add_tokenizer_model("none")
    q, kv = config.heads * config.head_dim, config.kv_heads * config.head_dim
    low, high = GGMLQuantizationType.Q3_K, GGMLQuantizationType.Q6_K
    gain = np.ones(config.hidden, np.float32)
    matrices = {
        "token_embd": (config.vocabulary, config.hidden, low),
        "output": (config.vocabulary, config.hidden, high),
    }
    writer.add_tensor("output_norm.weight", gain)
    for layer in range(config.layers):
        stem = f"blk.{layer}."
        writer.add_tensor(f"{stem}attn_norm.weight", gain)
        writer.add_tensor(f"{stem}ffn_norm.weight", gain)
        matrices |= {
            f"{stem}attn_q": (q, config.hidden, low),
            f"{stem}attn_k": (kv, config.hidden, low),
            f"{stem}attn_v": (kv, config.hidden, low),
            f"{stem}attn_output": (config.hidden, q, low),
            f"{stem}ffn_gate": (config.ffn, config.hidden, low),
            f"{stem}ffn_up": (config.ffn, config.hidden, low),
            f"{stem}ffn_down": (config.hidden, config.ffn, low),
        }
    for name, (rows, columns, kind) in matrices.items():  # declared first, then written one by one
        size = BLOCKS[kind][0]
        writer.add_tensor_info(
            f"{name}.weight",
            (rows, columns // 256 * size),
            np.dtype(np.uint8),
            rows * columns // 256 * size,
            raw_dtype=kind,
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _ in range(2 * config.layers + 1):
        writer.write_tensor_data(gain)
    for rows, columns, kind in matrices.values():
        writer.write_tensor_data(random_blocks(rng, rows, columns, kind))
    writer.close()
