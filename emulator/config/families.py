"""The families that can be compiled: the keys of each, and the values that a missing key has.

Keys, defaults and their meaning are those of transformers 5.24.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

READ = frozenset(  # of every family
    {
        *("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "head_dim"),
        *("num_key_value_heads", "intermediate_size", "vocab_size", "max_position_embeddings"),
        *("rms_norm_eps", "rope_theta", "rope_scaling", "rope_parameters", "hidden_act"),
        *("original_max_position_embeddings", "partial_rotary_factor", "tie_word_embeddings"),
        *("bos_token_id", "eos_token_id", "layer_types"),
    }
)
NO_EFFECT = frozenset(
    {
        # who made the file, and of what numbers
        *("architectures", "auto_map", "transformers_version", "torch_dtype", "dtype"),
        *("name_or_path", "unsloth_fixed", "unsloth_version", "transformers.js_config"),
        # training
        *("attention_dropout", "hidden_dropout", "residual_dropout", "embd_pdrop", "resid_pdrop"),
        *("classifier_dropout", "initializer_range", "use_cache", "pretraining_tp"),
        *("is_llama_config", "loss_type", "ignore_index", "gradient_checkpointing"),
        # how transformers runs and returns it
        *("output_attentions", "output_hidden_states", "return_dict", "torchscript"),
        *("use_bfloat16", "chunk_size_feed_forward", "attn_implementation", "use_return_dict"),
        *(
            "cache_implementation",
            "base_model_tp_plan",
            "base_model_pp_plan",
            "max_sequence_length",
        ),
        *("pruned_heads", "tf_legacy_loss", "return_dict_in_generate", "tie_last_hidden_states"),
        # what a file of another family keeps, and only Qwen's read
        "max_window_layers",
        # other tasks than the next token
        *("id2label", "label2id", "num_labels", "problem_type", "finetuning_task"),
        *("task_specific_params", "tokenizer_class", "prefix", "sep_token_id", "pad_token_id"),
        *("unk_token_id", "mask_token_id", "decoder_start_token_id", "cls_token_id"),
        # generation, which a request decides here
        *("do_sample", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty"),
        *("max_length", "min_length", "max_new_tokens", "num_beams", "num_beam_groups"),
        *("length_penalty", "early_stopping", "diversity_penalty", "no_repeat_ngram_size"),
        *("encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences"),
        *("output_scores", "forced_bos_token_id", "forced_eos_token_id", "suppress_tokens"),
        *("begin_suppress_tokens", "remove_invalid_values", "exponential_decay_length_penalty"),
    }
)
# Keys of other families, and the values with which they ask for nothing; null always is one.
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    **dict.fromkeys(("num_local_experts", "num_experts", "n_routed_experts"), ()),
    **dict.fromkeys(("attn_logit_softcapping", "final_logit_softcapping"), ()),
    **dict.fromkeys(("quantization_config", "sliding_window", "per_layer_config"), ()),
    **dict.fromkeys(("embedding_multiplier", "logits_scaling"), (1, 1.0)),
    **dict.fromkeys(("residual_multiplier", "attention_multiplier", "logit_scale"), (1, 1.0)),
    **dict.fromkeys(("attention_bias", "mlp_bias", "attention_out_bias", "bias"), (False,)),
    **dict.fromkeys(("qk_norm", "use_qk_norm", "use_sliding_window"), (False,)),
    **dict.fromkeys(("use_bidirectional_attention", "use_mrope", "rope_interleaved"), (False,)),
    "lm_head_bias": (False,),
    **dict.fromkeys(("full_attn_mod", "interpolate_factor"), (1,)),
    **dict.fromkeys(("add_cross_attention", "is_decoder", "is_encoder_decoder"), (False,)),
    **dict.fromkeys(("cross_attention_hidden_size", "tie_encoder_decoder"), (False,)),
    "clip_qkv": (),
    "activation": ("swiglu",),  # as some of Falcon's call a SiLU gate
}
AFTER = "norms behind attention and feed-forward"
LAYER_NORM = "LayerNorm, whose mean this chip does not take"
EXPERTS = "experts, of which a token chooses some"
REFUSED = {  # model types that are well known, and the first thing that this chip lacks of each
    "glm": "neighbouring values of a head turn together",
    "cohere": LAYER_NORM,
    **dict.fromkeys(("gemma2", "gemma3_text", "olmo2", "olmo3", "glm4", "exaone4"), AFTER),
    **dict.fromkeys(("gpt2", "gpt_neox", "gptj", "falcon", "stablelm", "phi"), LAYER_NORM),
    **dict.fromkeys(("starcoder2", "nemotron", "opt", "bloom", "mpt"), LAYER_NORM),
    **dict.fromkeys(("mixtral", "qwen2_moe", "qwen3_moe", "deepseek_v2", "deepseek_v3"), EXPERTS),
    **dict.fromkeys(("gpt_oss", "phimoe", "olmoe", "granitemoe", "llama4_text"), EXPERTS),
}


@dataclass(frozen=True, slots=True)
class Family:
    """What of a `config.json` a family understands beyond READ."""

    reads: frozenset[str] = frozenset()
    defaults: Mapping[str, Any] = field(default_factory=dict)  # of keys that a file lacks
    without_effect: frozenset[str] = frozenset()  # keys that transformers keeps and never reads
    biases: tuple[str, ...] = ()  # fabric passes that always have them
    bias_keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # key -> passes
    head_norm: bool = False
    tanh_gelu: bool = False  # "gelu" means the one by tanh
    turns_a_part: bool = False  # `partial_rotary_factor` leaves the rest of a head as it is


def _family(
    *reads: str,
    bias_keys: Mapping[str, tuple[str, ...]] | None = None,
    without_effect: tuple[str, ...] = (),
    biases: tuple[str, ...] = (),
    head_norm: bool = False,
    tanh_gelu: bool = False,
    turns_a_part: bool = False,
    **defaults: Any,
) -> Family:
    keys = bias_keys or {}
    named = frozenset({*reads, *keys, *(key for key in defaults if key not in READ)})
    ignored = frozenset(without_effect)
    return Family(named, defaults, ignored, biases, keys, head_norm, tanh_gelu, turns_a_part)


ATTENTION: dict[str, tuple[str, ...]] = {"attention_bias": ("qkv", "o")}
MLP: dict[str, tuple[str, ...]] = {"mlp_bias": ("gate_up", "down")}
QWEN_WINDOW: dict[str, Any] = {
    "use_sliding_window": False,
    "sliding_window": 4096,
    "max_window_layers": 28,
}
FAMILIES: Mapping[str, Family] = {
    "llama": _family(bias_keys=ATTENTION | MLP),
    "mistral": _family(num_key_value_heads=8, sliding_window=4096),
    "ministral": _family("layer_types", num_key_value_heads=8, sliding_window=4096),
    "qwen2": _family(
        "layer_types",
        without_effect=("attention_bias",),  # it has them, whatever the key says
        biases=("qkv",),
        num_key_value_heads=32,
        **QWEN_WINDOW,
    ),
    "qwen3": _family(
        "layer_types",
        bias_keys=ATTENTION,
        head_norm=True,
        num_key_value_heads=32,
        head_dim=128,
        **QWEN_WINDOW,
    ),
    "smollm3": _family(
        *("layer_types", "no_rope_layers", "sliding_window"),
        bias_keys=ATTENTION | MLP,
        num_key_value_heads=4,
        rope_theta=2000000.0,
        tie_word_embeddings=True,
        no_rope_layer_interval=4,
        use_sliding_window=False,
    ),
    "phi3": _family("sliding_window", turns_a_part=True),
    "granite": _family(
        *("embedding_multiplier", "residual_multiplier", "logits_scaling", "attention_multiplier"),
        bias_keys=ATTENTION | MLP,
    ),
    "gemma": _family(
        "hidden_activation",
        bias_keys={"attention_bias": ("qkv", "o")},
        tanh_gelu=True,
        num_key_value_heads=16,
        head_dim=256,
        hidden_act="gelu_pytorch_tanh",
        tie_word_embeddings=True,
    ),
    "seed_oss": _family(
        bias_keys={"attention_bias": ("qkv",), "attention_out_bias": ("o",)} | MLP,
        num_key_value_heads=8,
        head_dim=128,
        attention_bias=True,
    ),
}
