"""What the twenty most used dense families say in their `config.json`: keys and values are facts.

Each is one well-known model of its family, by the name of its repository; without values of no
interest to shape or meaning (versions of programs, dropout).
"""

from __future__ import annotations

from typing import Any


def _shape(
    hidden: int, ffn: int, layers: int, heads: int, kv_heads: int, vocabulary: int, context: int
) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        "max_position_embeddings": context,
        "initializer_range": 0.02,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.51.0",
        "use_cache": True,
    }


LLAMA = {
    **{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "attention_bias": False},
    **{"attention_dropout": 0.0, "hidden_act": "silu", "mlp_bias": False, "pretraining_tp": 1},
    **{"rms_norm_eps": 1e-5, "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2},
}
LLAMA3_SCALING = {
    **{"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "rope_type": "llama3"},
    "original_max_position_embeddings": 8192,
}
QWEN = {
    **{"hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 1000000.0},
    **{"bos_token_id": 151643, "eos_token_id": 151645, "attention_dropout": 0.0},
    **{"use_sliding_window": False, "tie_word_embeddings": False},
}
GEMMA = {
    **{"hidden_act": "gelu_pytorch_tanh", "rms_norm_eps": 1e-6, "rope_theta": 10000.0},
    **{"attention_bias": False, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0},
    "head_dim": 256,
}

CONFIGS: dict[str, dict[str, Any]] = {
    "Llama-2-7b": LLAMA | _shape(4096, 11008, 32, 32, 32, 32000, 4096) | {"rope_scaling": None},
    "Meta-Llama-3-8B": LLAMA
    | _shape(4096, 14336, 32, 32, 8, 128256, 8192)
    | {
        "rope_theta": 500000.0,
        "rope_scaling": None,
        "bos_token_id": 128000,
        "eos_token_id": 128001,
    },
    "Llama-3.1-8B-Instruct": LLAMA
    | _shape(4096, 14336, 32, 32, 8, 128256, 131072)
    | {"rope_theta": 500000.0, "rope_scaling": LLAMA3_SCALING, "bos_token_id": 128000}
    | {"eos_token_id": [128001, 128008, 128009]},
    "SmolLM2-1.7B-Instruct": LLAMA
    | _shape(2048, 8192, 24, 32, 32, 49152, 8192)
    | {"rope_theta": 130000, "rope_interleaved": False, "tie_word_embeddings": True}
    | {"transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16"}}},
    "DeepSeek-R1-Distill-Llama-8B": LLAMA
    | _shape(4096, 14336, 32, 32, 8, 128256, 131072)
    | {"rope_theta": 500000.0, "rope_scaling": LLAMA3_SCALING, "bos_token_id": 128000}
    | {"eos_token_id": 128001},
    "Yi-1.5-9B": LLAMA
    | _shape(4096, 11008, 48, 32, 4, 64000, 4096)
    | {"rope_theta": 5000000.0, "rms_norm_eps": 1e-6, "pad_token_id": 0},
    "Falcon3-7B-Instruct": LLAMA
    | _shape(3072, 23040, 28, 12, 4, 131072, 32768)
    | {"rope_theta": 1000042, "rms_norm_eps": 1e-6, "head_dim": 256, "activation": "swiglu"}
    | {"bos_token_id": 11, "eos_token_id": 11},
    "Mistral-7B-v0.1": {
        **{"model_type": "mistral", "hidden_act": "silu", "rms_norm_eps": 1e-5},
        **{"rope_theta": 10000.0, "sliding_window": 4096, "tie_word_embeddings": False},
        **{"bos_token_id": 1, "eos_token_id": 2},
    }
    | _shape(4096, 14336, 32, 32, 8, 32000, 32768),
    "Mistral-Nemo-Instruct-2407": {
        **{"model_type": "mistral", "hidden_act": "silu", "rms_norm_eps": 1e-5, "head_dim": 128},
        **{"rope_theta": 1000000.0, "sliding_window": None, "tie_word_embeddings": False},
        **{"bos_token_id": 1, "eos_token_id": 2},
    }
    | _shape(5120, 14336, 40, 32, 8, 131072, 1024000),
    "Qwen2.5-7B-Instruct": QWEN
    | _shape(3584, 18944, 28, 28, 4, 152064, 32768)
    | {"model_type": "qwen2", "max_window_layers": 28, "sliding_window": 131072},
    "Qwen3-8B": QWEN
    | _shape(4096, 12288, 36, 32, 8, 151936, 40960)
    | {"model_type": "qwen3", "max_window_layers": 36, "sliding_window": None, "head_dim": 128}
    | {"attention_bias": False, "rope_scaling": None},
    "SmolLM3-3B": {
        **{"model_type": "smollm3", "hidden_act": "silu", "rms_norm_eps": 1e-6},
        **{"rope_theta": 5000000.0, "rope_scaling": None, "attention_bias": False},
        **{"mlp_bias": False, "no_rope_layer_interval": 4, "use_sliding_window": False},
        **{"no_rope_layers": [1, 1, 1, 0] * 9, "layer_types": ["full_attention"] * 36},
        **{"sliding_window": None, "max_window_layers": 28, "pretraining_tp": 2},
        **{"tie_word_embeddings": True, "bos_token_id": 128000, "eos_token_id": 128012},
        "pad_token_id": 128004,
    }
    | _shape(2048, 11008, 36, 16, 4, 128256, 65536),
    "Phi-3-mini-4k-instruct": {
        **{"model_type": "phi3", "hidden_act": "silu", "rms_norm_eps": 1e-5, "embd_pdrop": 0.0},
        **{"rope_theta": 10000.0, "rope_scaling": None, "sliding_window": 2047},
        **{"original_max_position_embeddings": 4096, "resid_pdrop": 0.0, "attention_bias": False},
        **{"tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 32000},
        "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"},
    }
    | _shape(3072, 8192, 32, 32, 32, 32064, 4096),
    "Phi-4-mini-instruct": {
        **{"model_type": "phi3", "hidden_act": "silu", "rms_norm_eps": 1e-5, "mlp_bias": False},
        **{"rope_theta": 10000.0, "sliding_window": 262144, "partial_rotary_factor": 0.75},
        **{"original_max_position_embeddings": 4096, "tie_word_embeddings": True},
        **{"attention_bias": False, "bos_token_id": 199999, "eos_token_id": 199999},
        "rope_scaling": {"type": "longrope", "long_factor": [1.0] * 48, "short_factor": [1.0] * 48},
    }
    | _shape(3072, 8192, 32, 24, 8, 200064, 131072),
    "Seed-OSS-36B-Instruct": {
        **{"model_type": "seed_oss", "hidden_act": "silu", "rms_norm_eps": 1e-6, "head_dim": 128},
        **{"attention_bias": True, "attention_out_bias": False, "mlp_bias": False},
        **{"rope_theta": 10000000.0, "rope_scaling": {"rope_type": "default"}},
        **{"residual_dropout": 0.1, "tie_word_embeddings": False, "pretraining_tp": 1},
        **{"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1},
    }
    | _shape(5120, 27648, 64, 80, 8, 155136, 524288),
    "gemma-7b": GEMMA
    | _shape(3072, 24576, 28, 16, 16, 256000, 8192)
    | {"model_type": "gemma", "hidden_activation": None},
    "gemma-2-9b": GEMMA
    | _shape(3584, 14336, 42, 16, 8, 256000, 8192)
    | {"model_type": "gemma2", "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
    | {"sliding_window": 4096, "query_pre_attn_scalar": 256, "cache_implementation": "hybrid"},
    "granite-3.1-8b-instruct": {
        **{"model_type": "granite", "hidden_act": "silu", "rms_norm_eps": 1e-5},
        **{"rope_theta": 10000000.0, "rope_scaling": None, "attention_bias": False},
        **{"embedding_multiplier": 12.0, "residual_multiplier": 0.22, "logits_scaling": 16.0},
        **{"attention_multiplier": 0.0078125, "mlp_bias": False, "tie_word_embeddings": True},
    }
    | _shape(4096, 12800, 40, 32, 8, 49155, 131072),
    "OLMo-2-1124-7B": {
        **{"model_type": "olmo2", "hidden_act": "silu", "rms_norm_eps": 1e-6},
        **{"rope_theta": 500000, "rope_scaling": None, "attention_bias": False},
        **{"tie_word_embeddings": False, "eos_token_id": 100257},
    }
    | _shape(4096, 11008, 32, 32, 32, 100352, 4096),
    "stablelm-2-12b": {
        **{"model_type": "stablelm", "hidden_act": "silu", "layer_norm_eps": 1e-5},
        **{"rope_theta": 10000, "partial_rotary_factor": 0.25, "qk_layernorm": True},
        **{"use_parallel_residual": True, "use_qkv_bias": False, "tie_word_embeddings": False},
    }
    | _shape(5120, 13824, 40, 32, 8, 100352, 4096),
    "glm-4-9b-hf": {
        **{"model_type": "glm", "hidden_act": "silu", "rms_norm_eps": 1.5625e-07},
        **{"attention_bias": True, "head_dim": 128, "partial_rotary_factor": 0.5},
        **{"tie_word_embeddings": False, "rope_theta": 10000.0},
    }
    | _shape(4096, 13696, 40, 32, 2, 151552, 131072),
    "gpt2": {
        **{"model_type": "gpt2", "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024},
        **{"activation_function": "gelu_new", "vocab_size": 50257},
    },
}
