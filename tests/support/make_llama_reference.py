"""Write tests/data/llama_logits.npz: what transformers computes, in float32, for Llama 3 shapes.

Two layers of Llama 3.1 8B and of Llama 3.2 1B over synthetic weights (benchmarks/checkpoint.py),
at full width and narrow: fewer heads of the true size, the true rotary scaling. Needs torch
and transformers (`pip install -e .[reference]`) and 16 GB of memory. From the repository's root:

    python tests/support/make_llama_reference.py [OUTPUT]

Per shape NAME, for the P = 160 positions that `positions()` gives, of the tokens `tokens(..)`:

    NAME_sha256       uint8[32]              SHA-256 of the checkpoint's only shard
    NAME_frequencies  float32[head_dim / 2]  radians a position, of each pair of dimensions
    NAME_top          int32[P, 8]            the most likely next tokens, best first
    NAME_top_logit    float32[P, 8]          their logits
    NAME_sample       float32[P, 32]         the logits of every (vocabulary / 32)th token
    NAME_exact        float32[P, 32]         the same, with rotary angles in float64
    NAME_log_sum      float64[P]             log of the sum of exp(logit) over the vocabulary
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.checkpoint import LLAMA_31_8B, LLAMA_32_1B, write_checkpoint
from weights.checkpoint import sha256_file
from weights.rope_table import frequencies
from weights.safetensors_source import SafetensorsCheckpoint

OUTPUT = Path(__file__).parents[1] / "data" / "llama_logits.npz"
TWO_LAYERS = {"num_hidden_layers": 2}
NARROW = {  # 7 blocks of a power of two stay in the feed-forward of 3.1
    **TWO_LAYERS,
    "hidden_size": 512,
    "vocab_size": 2048,
    "bos_token_id": 0,
    "eos_token_id": [1],
}


def _heads(query: int, key_value: int) -> dict[str, int]:
    return {"num_attention_heads": query, "num_key_value_heads": key_value}


SHAPES: dict[str, dict[str, Any]] = {
    "llama_31_8b": {**LLAMA_31_8B, **TWO_LAYERS},
    "llama_32_1b": {**LLAMA_32_1B, **TWO_LAYERS},
    "narrow_31": {**LLAMA_31_8B, **NARROW, **_heads(4, 1), "intermediate_size": 1792},
    "narrow_32": {**LLAMA_32_1B, **NARROW, **_heads(8, 2), "intermediate_size": 2048},
}
STARTS, RUN = (0, 1000, 2000, 4000, 5968), 32  # runs of positions; the last is 5,999
TOP, SAMPLE = 8, 32


def tokens(vocabulary: int) -> list[int]:
    """Ids for all positions up to the last. Few different ones, so that places tell them apart."""
    raw = np.random.PCG64(5).random_raw(STARTS[-1] + RUN)
    return [int(i) * (vocabulary // 512) for i in raw % np.uint64(512)]


def positions() -> list[int]:
    """The positions whose logits are compared."""
    return [start + i for start in STARTS for i in range(RUN)]


def shard_sha256(folder: Path) -> str:
    """Of the checkpoint's only shard."""
    (shard,) = folder.glob("*.safetensors")
    return sha256_file(shard)


def summary(logits: np.ndarray) -> dict[str, np.ndarray]:
    """What the file holds of logits float32[P, vocabulary]."""
    top = np.argsort(-logits, axis=1, kind="stable")[:, :TOP]
    high = logits.max(axis=1, keepdims=True).astype(np.float64)
    return {
        "top": top.astype(np.int32),
        "top_logit": np.take_along_axis(logits, top, axis=1),
        "sample": logits[:, :: logits.shape[1] // SAMPLE],
        "log_sum": high[:, 0] + np.log(np.exp(logits - high).sum(axis=1)),
    }


def reference(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits float32[P, vocabulary] of transformers, the same with exact angles, its frequencies.

    transformers computes the rotary frequencies in float32, to 3e-7 of their value: angles are up
    to 0.002 radians off at position 6,000. The second run differs in that alone.
    """
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.tensor([tokens(model.config.vocab_size)])
    exact = torch.tensor(frequencies(SafetensorsCheckpoint(folder).config), dtype=torch.float64)

    def exact_tables(
        x: torch.Tensor, position_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        angles = position_ids[..., None].double() * exact
        angles = torch.cat([angles, angles], dim=-1)
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)

    def logits() -> np.ndarray:
        with torch.inference_mode():
            hidden = model.model(ids, use_cache=False).last_hidden_state[0, positions()]
            return np.asarray(model.lm_head(hidden).numpy())

    plain, rotary = logits(), model.model.rotary_emb
    rotary.forward = exact_tables
    return plain, logits(), rotary.inv_freq.numpy()


def main() -> None:
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    arrays = {}
    for name, shape in SHAPES.items():
        with tempfile.TemporaryDirectory() as scratch:
            folder = write_checkpoint(Path(scratch) / name, shape, "{}")
            digest = np.frombuffer(bytes.fromhex(shard_sha256(folder)), np.uint8)
            logits, exact, frequency = reference(folder)
        found = {"sha256": digest, "frequencies": frequency, **summary(logits)}
        found["exact"] = summary(exact)["sample"]
        arrays |= {f"{name}_{key}": value for key, value in found.items()}
        print(f"{name}: logits of deviation {logits.std():.3f}", flush=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(output, **arrays)
    print(f"{output}: {output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
