"""Write tests/data/llama_logits.npz: what transformers computes, in float32, for Llama 3 shapes.

Two layers of Llama 3.1 8B's and of Llama 3.2 1B's widths, with their RoPE scaling, over synthetic
weights (benchmarks/checkpoint.py); the vocabulary is cut to 2,048 words, whose ids do not matter.
Needs torch and transformers (`pip install -e .[reference]`). From the repository's root:

    python tests/make_llama_reference.py [OUTPUT]

Per shape NAME the file holds `NAME_positions` int32[P] and `NAME_logits` float16[P, 2048]: at
some positions of the tokens that `tokens(count)` gives, the logits there.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks.checkpoint import LLAMA_31_8B, LLAMA_32_1B, write_checkpoint

OUTPUT = Path(__file__).parent / "data" / "llama_logits.npz"
VOCABULARY = 2048
CUT = {"num_hidden_layers": 2, "vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": [1]}
SHAPES: dict[str, dict[str, Any]] = {
    "llama_31_8b": {**LLAMA_31_8B, **CUT},
    "llama_32_1b": {**LLAMA_32_1B, **CUT},
}
POSITIONS = {
    "llama_31_8b": (0, 1, 63, 500, 1000, 2000, 3000, 4000, 5000, 5999),
    "llama_32_1b": (0, 1, 63, 127, 255, 500, 750, 1023),
}


def tokens(count: int) -> list[int]:
    """A fixed sequence of ids."""
    rng = np.random.Generator(np.random.PCG64(5))
    return [int(i) for i in rng.integers(0, VOCABULARY, count)]


def reference(name: str) -> np.ndarray:
    """float32[P, vocabulary]: logits at the shape's positions."""
    import torch
    from transformers import AutoModelForCausalLM

    with tempfile.TemporaryDirectory() as scratch:
        folder = write_checkpoint(Path(scratch) / name, SHAPES[name], "{}")
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    positions = POSITIONS[name]
    ids = torch.tensor([tokens(positions[-1] + 1)])
    with torch.inference_mode():
        hidden = model.eval().model(ids).last_hidden_state[0, list(positions)]
        return np.asarray(model.lm_head(hidden).numpy())


def main() -> None:
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    arrays = {}
    for name, positions in POSITIONS.items():
        logits = reference(name)
        arrays[f"{name}_positions"] = np.array(positions, np.int32)
        arrays[f"{name}_logits"] = logits.astype(np.float16)
        print(f"{name}: logits of deviation {logits.std():.3f}", flush=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(output, **arrays)
    print(f"{output}: {output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
