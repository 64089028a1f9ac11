"""Write tests/data/family_logits.npz: what transformers computes, in float32, family by family.

Two narrow layers each, of synthetic weights (benchmarks/checkpoint.py) that the tests make again.
Needs torch and transformers (`pip install -e .[reference]`). From the repository's root:

    python tests/support/make_family_reference.py [OUTPUT]

Per family NAME, of the tokens that `tokens()` gives:

    NAME_sha256       uint8[32]          SHA-256 of the checkpoint's only shard
    NAME_frequencies  float32[turning / 2]  radians a position, of each pair that turns
    NAME_sample       float32[T, 32]     the logits of every (vocabulary / 32)th token
    NAME_log_sum      float64[T]         log of the sum of exp(logit) over the vocabulary
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.checkpoint import write_checkpoint
from tests.support.make_llama_reference import SAMPLE, shard_sha256, summary

OUTPUT = Path(__file__).parents[1] / "data" / "family_logits.npz"
TOKENS = 96
WINDOW = 40  # that a text of TOKENS crosses
NARROW: dict[str, Any] = {
    "hidden_size": 192,  # 3 blocks of a power of two
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 320,
    "vocab_size": 512,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "pad_token_id": 2,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}


def _narrow(kind: str, **changes: Any) -> dict[str, Any]:
    return {**NARROW, "model_type": kind, **changes}


FAMILIES: dict[str, dict[str, Any]] = {
    "older_llama": _narrow(  # a head of 48 for each query, linear scaling, all biases
        "llama",
        num_key_value_heads=4,
        rope_scaling={"type": "linear", "factor": 4.0},
        attention_bias=True,
        mlp_bias=True,
        hidden_act="gelu_pytorch_tanh",
    ),
    "mistral": _narrow("mistral", num_key_value_heads=1, head_dim=64, sliding_window=WINDOW),
    "ministral": _narrow(
        "ministral",
        head_dim=32,
        hidden_act="relu2",
        sliding_window=WINDOW,
        layer_types=["sliding_attention", "full_attention"],
    ),
    "qwen2": _narrow(
        "qwen2",
        tie_word_embeddings=True,
        use_sliding_window=True,
        sliding_window=WINDOW,
        max_window_layers=1,
    ),
    "qwen2_yarn": _narrow("qwen2", num_key_value_heads=1, head_dim=64, rope_scaling=YARN),
    "qwen3": _narrow("qwen3", head_dim=80, attention_bias=True),
    "smollm3": _narrow("smollm3", no_rope_layers=[1, 0], head_dim=64, rope_theta=5000000.0),
    "phi3": _narrow("phi3", partial_rotary_factor=0.75, head_dim=96, sliding_window=WINDOW),
    "gemma": _narrow("gemma", head_dim=64, hidden_act="gelu"),
    "granite": _narrow(
        "granite",
        attention_bias=True,
        mlp_bias=True,
        embedding_multiplier=2.0,
        residual_multiplier=0.5,
        logits_scaling=1.25,
        attention_multiplier=0.2,
    ),
    "granite_tied": _narrow(
        "granite",
        tie_word_embeddings=True,
        embedding_multiplier=0.5,
        residual_multiplier=0.7,
        logits_scaling=1.5,
        attention_multiplier=0.1,
    ),
    "seed_oss": _narrow(
        "seed_oss",
        head_dim=64,
        attention_out_bias=True,
        hidden_act="gelu",
        rope_parameters={
            **YARN,
            **{"mscale": 1.2, "mscale_all_dim": 0.4, "beta_fast": 16.0, "truncate": False},
        },
    ),
}


def tokens() -> list[int]:
    """Ids of a text; few different ones, so that places tell them apart."""
    raw = np.random.PCG64(9).random_raw(TOKENS)
    return [int(i) * 4 for i in raw % np.uint64(NARROW["vocab_size"] // 4)]


def checkpoint(folder: Path, name: str) -> Path:
    """Write the checkpoint of a family to `folder`, which it returns."""
    return write_checkpoint(folder, FAMILIES[name], "{}")


def reference(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Logits float32[T, vocabulary] of transformers, and its rotary frequencies."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        logits = model(torch.tensor([tokens()]), use_cache=False).logits[0]
    return logits.numpy(), model.model.rotary_emb.inv_freq.numpy()


def main() -> None:
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    arrays = {}
    for name in FAMILIES:
        with tempfile.TemporaryDirectory() as scratch:
            folder = checkpoint(Path(scratch) / name, name)
            digest = np.frombuffer(bytes.fromhex(shard_sha256(folder)), np.uint8)
            logits, frequency = reference(folder)
        found = summary(logits)
        arrays |= {
            f"{name}_sha256": digest,
            f"{name}_frequencies": frequency,
            f"{name}_sample": found["sample"],
            f"{name}_log_sum": found["log_sum"],
        }
        print(f"{name}: logits of deviation {logits.std():.3f}, {SAMPLE} a position", flush=True)
    np.savez_compressed(output, **arrays)
    print(f"{output}: {output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
