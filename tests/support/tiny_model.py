"""A tiny Llama for the tests: written as a hub folder, compiled, edited; all from fixed seeds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from emulator.config import from_hub_config
from emulator.images.calibrator import ChipCalibrator
from weights.checkpoint import hub_name, layer_vectors, tensor_shape
from weights.compile import CompileOptions, compile_image
from weights.mix import Mix
from weights.rom import MANIFEST
from weights.rom_files import sealed
from weights.safetensors_source import SafetensorsCheckpoint

TINY_CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "intermediate_size": 96,  # 3 * 32: not a power of two
    "vocab_size": 320,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "bos_token_id": 256,
    "eos_token_id": 257,
}
TINY_MIX = "3,v=6,o=4,embedding=6"
TINY_CONTEXT = 64


def tiny_tokenizer() -> str:
    """Byte-level BPE without merges: 256 bytes, then <|im_start|> and <|im_end|>."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: index for index, letter in enumerate(letters)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|im_start|>", "<|im_end|>"]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    return tokenizer.to_str()


QWEN3: dict[str, Any] = {  # biases, head norms, a window in one layer, another gate
    **{"model_type": "qwen3", "attention_bias": True, "hidden_act": "gelu", "head_dim": 48},
    **{"layer_types": ["full_attention", "sliding_attention"], "sliding_window": 5},
    "use_sliding_window": True,
}
SMOLLM3: dict[str, Any] = {  # a layer without RoPE, biases of all matrices, another gate
    **{"model_type": "smollm3", "attention_bias": True, "mlp_bias": True, "hidden_act": "relu2"},
    "no_rope_layers": [1, 0],
}


def tiny_tensors(tied: bool, **changes: Any) -> dict[str, np.ndarray]:
    """Random weights with gains around 1 and a few outlier columns, as trained ones have."""
    rng = np.random.default_rng(7)
    c = TINY_CONFIG | changes
    hidden, ffn = c["hidden_size"], c["intermediate_size"]
    q, kv = c["num_attention_heads"] * c["head_dim"], c["num_key_value_heads"] * c["head_dim"]

    def matrix(rows: int, columns: int) -> np.ndarray:
        w = rng.normal(0, columns**-0.5, (rows, columns))
        w[:, rng.integers(0, columns, 2)] *= 6
        return w.astype(np.float32)

    def gain() -> np.ndarray:
        return rng.normal(1, 0.2, hidden).astype(np.float32)

    tensors = {
        "model.embed_tokens.weight": matrix(c["vocab_size"], hidden),
        "model.norm.weight": gain(),
    }
    if not tied:
        tensors["lm_head.weight"] = matrix(c["vocab_size"], hidden)
    for layer in range(c["num_hidden_layers"]):
        stem = f"model.layers.{layer}"
        for name, shape in {
            "self_attn.q_proj": (q, hidden),
            "self_attn.k_proj": (kv, hidden),
            "self_attn.v_proj": (kv, hidden),
            "self_attn.o_proj": (hidden, q),
            "mlp.gate_proj": (ffn, hidden),
            "mlp.up_proj": (ffn, hidden),
            "mlp.down_proj": (hidden, ffn),
        }.items():
            tensors[f"{stem}.{name}.weight"] = matrix(*shape)
        tensors[f"{stem}.input_layernorm.weight"] = gain()
        tensors[f"{stem}.post_attention_layernorm.weight"] = gain()
    config = from_hub_config(c | {"tie_word_embeddings": tied})
    for layer in range(config.layers):
        for name in layer_vectors(config):
            middle = 1 if name.endswith("gain") else 0
            vector = rng.normal(middle, 0.2, tensor_shape(config, name))
            tensors[hub_name(name, layer)] = vector.astype(np.float32)
    return tensors


def write_tiny_checkpoint(folder: Path, tied: bool = True, **changes: Any) -> Path:
    """Write the tiny model, with changes of its configuration, as a hub folder; returns it."""
    folder.mkdir(parents=True)
    config = {**TINY_CONFIG, "tie_word_embeddings": tied, **changes}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(tiny_tokenizer())
    save_file(tiny_tensors(tied, **changes), folder / "model.safetensors")
    return folder


def compile_tiny(checkpoint: Path, image: Path, level: str = "fast") -> Path:
    """Compile a tiny checkpoint folder with the tests' mix and context."""
    source = SafetensorsCheckpoint(checkpoint)
    windows = np.random.default_rng(0).integers(0, 256, (3, 48))
    calibrator = None if level == "fast" else ChipCalibrator(source.config, windows)
    options = CompileOptions(Mix.parse(TINY_MIX), context=TINY_CONTEXT, quantiser=level)
    compile_image(source, image, options, None, calibrator)
    return image


def compile_broken(checkpoint: Path, level: str = "fast") -> None:
    """Compile to out/image beside the checkpoint."""
    compile_tiny(checkpoint, checkpoint.parent / "out" / "image", level)


def edit_manifest(image: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change rom.json and seal it anew, so that what is wrong with it is the change alone."""
    manifest = json.loads((image / MANIFEST).read_text())
    change(manifest)
    (image / MANIFEST).write_bytes(sealed(manifest))
