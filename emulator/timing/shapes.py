"""The shape of any dense Llama-like model from its `config.json`, for time and area alone.

What can be compiled is read as it is for that (`emulator.config`), with its biases, norms and
windows. Of others the widths are read: time depends on little else, and what a file names and the
shape leaves out is said in notes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emulator.config import LlamaConfig, from_hub_config, size
from emulator.config.families import FAMILIES, REFUSED
from emulator.errors import EmulatorError, UnsupportedError
from emulator.fields import Fields, read_object, shown

MAX_BYTES = 1 << 20
GATED = (*FAMILIES, "gemma", "gemma2", "olmo2", "granite")
EXPERTS = ("mixtral", "qwen2_moe", "qwen3_moe", "deepseek_v2", "deepseek_v3")
EXPERT_COUNTS = ("n_routed_experts", "num_local_experts", "num_experts")
LEFT_OUT = {  # key -> what of it is not counted
    "attention_bias": "biases of attention add a value a row",
    "sliding_window": "every layer attends to the whole context",
    "attn_logit_softcapping": "the cap on scores takes no cycles",
    "quantization_config": "the checkpoint's own format; --mix says the chip's",
}


def shape_from_file(path: Path | str) -> tuple[LlamaConfig, list[str]]:
    """Widths, and notes on what they leave out.

    Of a mixture of experts, the part that one token meets: its experts side by side as one wide
    feed-forward. Raises UnsupportedError for another kind of model or shape, naming the field.
    """
    path = Path(path)
    path = path / "config.json" if path.is_dir() else path
    source = read_object(path, MAX_BYTES, UnsupportedError)
    kind = source.values.get("model_type")
    if kind not in (*GATED, *EXPERTS):
        known = ", ".join((*GATED, *EXPERTS))
        raise UnsupportedError(f"{path}: model_type {shown(kind)}: shapes are known of {known}")
    try:
        return from_hub_config({"rms_norm_eps": 1e-5, **source.values}, str(path)), []
    except EmulatorError as error:
        why = str(error).removeprefix(f"{path}: ")
    notes = [f"{key}: {what}" for key, what in LEFT_OUT.items() if source.values.get(key)]
    if kind in FAMILIES or kind in REFUSED:
        notes.append(f"only the widths are read, for {why}")
    if kind in ("qwen3", "qwen3_moe", "olmo2"):
        notes.append("norms of q and k take no cycles")
    hidden, heads = (
        size(source, "hidden", "hidden_size"),
        size(source, "heads", "num_attention_heads"),
    )
    head_dim = size(source, "head_dim", "head_dim", hidden // heads)
    if source.has("kv_lora_rank"):
        head_dim = size(source, "head_dim", "v_head_dim")
        notes.append(
            "latent attention counts as plain heads: more KV SRAM and cycles than it needs"
        )
    ffn = size(source, "ffn", "intermediate_size")
    if kind in EXPERTS:
        ffn, note = _active(source, ffn)
        notes.append(note)
    tied = source.truth("tie_word_embeddings") if source.has("tie_word_embeddings") else False
    config = LlamaConfig(
        hidden=hidden,
        layers=size(source, "layers", "num_hidden_layers"),
        heads=heads,
        kv_heads=size(source, "kv_heads", "num_key_value_heads", heads),
        head_dim=head_dim,
        ffn=ffn,
        vocabulary=size(source, "vocabulary", "vocab_size"),
        context=size(source, "context", "max_position_embeddings"),
        rms_epsilon=1e-5,
        rope_theta=10000.0,
        rope_scaling=None,
        tied=tied,
        bos_id=None,
        end_ids=(),
    ).checked()
    return config, notes


def _active(source: Fields, dense: int) -> tuple[int, str]:
    """Width of the experts that one token meets, and what that leaves out."""
    expert = size(source, "ffn", "moe_intermediate_size", dense)
    each = source.whole("num_experts_per_tok", 1, 1024)
    shared: Any = source.values.get("n_shared_experts") or 0
    together = source.whole("n_shared_experts", 0, 1024) if shared else 0
    key = next((name for name in EXPERT_COUNTS if source.has(name)), None)
    if key is None:
        raise UnsupportedError(f"{source.where} lacks {EXPERT_COUNTS[0]!r}")
    count = source.whole(key, 1, 1 << 16)
    note = (
        f"{each} of {count} experts are counted: time is a token's, but ROM, area and chips are of "
        "these alone, and neither router nor links to the others are"
    )
    return expert * (each + together), note
