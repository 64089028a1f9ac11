"""Models whose shape is known by a name: what their own `config.json` says, as facts."""

from __future__ import annotations

from typing import Any

from emulator.config import LlamaConfig, RopeScaling, from_hub_config


def _llama(
    hidden: int, layers: int, heads: int, kv_heads: int, head_dim: int, ffn: int, tied: bool
) -> LlamaConfig:
    """A Llama 3 with its vocabulary; `rope_scaling` does not touch the time."""
    return LlamaConfig(
        hidden, layers, heads, kv_heads, head_dim, ffn, 128256, 131072, 1e-5, 500000.0,
        RopeScaling(8.0, 1.0, 4.0, 8192), tied, 128000, (128001, 128008, 128009),
    )  # fmt: skip


LLAMAS = {
    "llama-3.1-8b": _llama(4096, 32, 32, 8, 128, 14336, tied=False),
    "llama-3.2-1b": _llama(2048, 16, 32, 8, 64, 8192, tied=True),
    "llama-3.2-3b": _llama(3072, 28, 24, 8, 128, 8192, tied=True),
    "llama-3.3-70b": _llama(8192, 80, 64, 8, 128, 28672, tied=False),
    "smollm2-135m": LlamaConfig(
        576, 30, 9, 3, 64, 1536, 49152, 8192, 1e-5, 100000.0, None, True, 1, (2,)
    ),
    "smollm2-360m": LlamaConfig(
        960, 32, 15, 5, 64, 2560, 49152, 8192, 1e-5, 100000.0, None, True, 1, (2,)
    ),
    "smollm2-1.7b": LlamaConfig(
        2048, 24, 32, 32, 64, 8192, 49152, 8192, 1e-5, 130000.0, None, True, 1, (2,)
    ),
    "tinyllama-1.1b": LlamaConfig(
        2048, 22, 32, 4, 64, 5632, 32000, 2048, 1e-5, 10000.0, None, False, 1, (2,)
    ),
}


def _family(kind: str, vocabulary: int, context: int, theta: float, **more: Any) -> dict[str, Any]:
    return {
        "model_type": kind,
        "vocab_size": vocabulary,
        "max_position_embeddings": context,
        "rope_theta": theta,
        "rms_norm_eps": 1e-6,
        **more,
    }


def _widths(
    hidden: int, layers: int, heads: int, kv_heads: int, ffn: int, **more: Any
) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": ffn,
        **more,
    }


TIED = {"tie_word_embeddings": True}
EPSILON = {"rms_norm_eps": 1e-5}
LLAMA_2 = _family("llama", 32000, 4096, 10000.0, **EPSILON)
MISTRAL = _family("mistral", 32768, 32768, 1000000.0, sliding_window=None, **EPSILON)
MISTRAL_FIRST = _family("mistral", 32000, 32768, 10000.0, sliding_window=4096, **EPSILON)
NEMO = _family("mistral", 131072, 131072, 1000000.0, sliding_window=None, **EPSILON)
QWEN_2_5 = _family("qwen2", 152064, 32768, 1000000.0)
QWEN_2_5_SMALL = QWEN_2_5 | TIED | {"vocab_size": 151936}
QWEN_3 = _family("qwen3", 151936, 40960, 1000000.0, head_dim=128)
SMOLLM_3 = _family("smollm3", 128256, 65536, 5000000.0, no_rope_layer_interval=4, **TIED)
PHI_3 = _family("phi3", 32064, 4096, 10000.0, sliding_window=2047, **EPSILON)
PHI_4 = _family("phi3", 100352, 16384, 250000.0, sliding_window=None, **EPSILON)
HUB = {
    "llama-2-7b": LLAMA_2 | _widths(4096, 32, 32, 32, 11008),
    "llama-2-13b": LLAMA_2 | _widths(5120, 40, 40, 40, 13824),
    "mistral-7b": MISTRAL | _widths(4096, 32, 32, 8, 14336),
    "mistral-7b-v0.1": MISTRAL_FIRST | _widths(4096, 32, 32, 8, 14336),
    "mistral-nemo-12b": NEMO | _widths(5120, 40, 32, 8, 14336, head_dim=128),
    "phi-3-mini": PHI_3 | _widths(3072, 32, 32, 32, 8192),
    "phi-4": PHI_4 | _widths(5120, 40, 40, 10, 17920),
    "qwen2.5-0.5b": QWEN_2_5_SMALL | _widths(896, 24, 14, 2, 4864),
    "qwen2.5-1.5b": QWEN_2_5_SMALL | _widths(1536, 28, 12, 2, 8960),
    "qwen2.5-3b": QWEN_2_5_SMALL | _widths(2048, 36, 16, 2, 11008),
    "qwen2.5-7b": QWEN_2_5 | _widths(3584, 28, 28, 4, 18944),
    "qwen2.5-14b": QWEN_2_5 | _widths(5120, 48, 40, 8, 13824),
    "qwen2.5-32b": QWEN_2_5 | _widths(5120, 64, 40, 8, 27648),
    "qwen3-0.6b": QWEN_3 | TIED | _widths(1024, 28, 16, 8, 3072),
    "qwen3-1.7b": QWEN_3 | TIED | _widths(2048, 28, 16, 8, 6144),
    "qwen3-4b": QWEN_3 | TIED | _widths(2560, 36, 32, 8, 9728),
    "qwen3-8b": QWEN_3 | _widths(4096, 36, 32, 8, 12288),
    "qwen3-14b": QWEN_3 | _widths(5120, 40, 40, 8, 17408),
    "qwen3-32b": QWEN_3 | _widths(5120, 64, 64, 8, 25600),
    "smollm3-3b": SMOLLM_3 | _widths(2048, 36, 16, 4, 11008),
}
MODELS = LLAMAS | {name: from_hub_config(values, name) for name, values in HUB.items()}
