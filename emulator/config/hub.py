"""A Hugging Face `config.json` as a LlamaConfig: every key understood, without effect, or refused.

A key that a file lacks has the value that transformers gives it, which differs between families.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emulator.config.families import FAMILIES, NEUTRAL, NO_EFFECT, READ, REFUSED, Family
from emulator.config.limits import EPSILON, SIZES, THETA, size
from emulator.config.model import GELU, GELU_TANH, PASSES, RELU2, SILU, LlamaConfig
from emulator.config.rope import rope_object, scaling_from_hub
from emulator.errors import CheckpointError, UnsupportedError
from emulator.fields import Fields, shown

ACTIVATIONS = {  # names of transformers' ACT2FN
    "silu": SILU,
    "swish": SILU,
    "gelu": GELU,
    "gelu_python": GELU,
    "gelu_new": GELU_TANH,
    "gelu_fast": GELU_TANH,
    "gelu_pytorch_tanh": GELU_TANH,
    "relu2": RELU2,
}
FULL, SLIDING = "full_attention", "sliding_attention"


def from_hub_config(config: Mapping[str, Any], where: str = "config.json") -> LlamaConfig:
    """A Hugging Face `config.json` -> LlamaConfig; `where` names the file in messages.

    Raises UnsupportedError, naming the key, for a family, key or value that this chip has no
    blocks for, and CheckpointError for a missing or malformed value.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        why = REFUSED.get(kind) if isinstance(kind, str) else None
        known = f"compiled can be {', '.join(FAMILIES)}"
        raise UnsupportedError(f"{where}: model_type {shown(kind)}: {why or known}")
    family = FAMILIES[kind]
    _refuse_unknown(config, family, where, kind)
    source = Fields(where, {**family.defaults, **config}, CheckpointError)
    hidden = size(source, "hidden", "hidden_size")
    heads = size(source, "heads", "num_attention_heads")
    head_dim = size(source, "head_dim", "head_dim", hidden // heads)
    layers = size(source, "layers", "num_hidden_layers")
    vocabulary = size(source, "vocabulary", "vocab_size")
    context = size(source, "context", "max_position_embeddings")
    bos, eos = "bos_token_id", "eos_token_id"
    rope = rope_object(source)
    theta = next((f for f in (rope, source) if f is not None and f.has("rope_theta")), None)
    unrotated = _unrotated(source, family, layers)
    window, windowed = _windows(source, family, layers, unrotated)
    return LlamaConfig(
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=size(source, "kv_heads", "num_key_value_heads", heads),
        head_dim=head_dim,
        ffn=size(source, "ffn", "intermediate_size"),
        vocabulary=vocabulary,
        context=context,
        rms_epsilon=source.real("rms_norm_eps", *EPSILON),
        rope_theta=theta.real("rope_theta", *THETA) if theta is not None else 10000.0,
        rope_scaling=scaling_from_hub(rope, context, _original(source)) if rope else None,
        tied=_truth(source, "tie_word_embeddings"),
        bos_id=source.whole(bos, 0, vocabulary - 1) if source.has(bos) else None,
        end_ids=source.wholes(eos, 0, vocabulary - 1) if source.has(eos) else (),
        activation=_activation(source, family),
        biases=_biases(source, family),
        head_norm=family.head_norm,
        rotary_dim=_rotary_dim(source, family, rope, head_dim),
        window=window,
        windowed=windowed,
        unrotated=unrotated,
    ).checked()


def _refuse_unknown(config: Mapping[str, Any], family: Family, where: str, kind: str) -> None:
    """Raise UnsupportedError for the first key whose meaning is not known, unless it is null."""
    for name, value in config.items():
        if name in READ or name in NO_EFFECT or name.startswith("_"):
            continue
        if name in family.reads or name in family.without_effect or value is None:
            continue
        if name in NEUTRAL:
            if not any(type(value) is type(one) and value == one for one in NEUTRAL[name]):
                message = f"{name} = {shown(value)}: this chip has no such block"
                raise UnsupportedError(f"{where}: {message}")
            continue
        raise UnsupportedError(
            f"{where}: {shown(name)[1:-1]} = {shown(value)}: what this key means for {kind} is not"
            " known"
        )


def _truth(source: Fields, key: str) -> bool:
    return source.truth(key) if source.has(key) else False


def _original(source: Fields) -> int | None:
    """What transformers prefers to the rotary object's own value."""
    key = "original_max_position_embeddings"
    return source.whole(key, *SIZES["context"]) if source.has(key) else None


def _activation(source: Fields, family: Family) -> str:
    value = source.values.get("hidden_act", "silu")
    if "hidden_activation" in family.reads:
        value = source.values.get("hidden_activation") or value
    if not isinstance(value, str) or value not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise UnsupportedError(
            f"{source.where}: hidden_act = {shown(value)}: there are tables of {known}"
        )
    return GELU_TANH if family.tanh_gelu and value == "gelu" else ACTIVATIONS[value]


def _biases(source: Fields, family: Family) -> tuple[str, ...]:
    found = set(family.biases)
    for key, passes in family.bias_keys.items():
        if _truth(source, key):
            found |= set(passes)
    return tuple(name for name in PASSES if name in found)


def _rotary_dim(source: Fields, family: Family, rope: Fields | None, head_dim: int) -> int | None:
    """Values of a head that turn, if not all; only some families know a part."""
    key = "partial_rotary_factor"
    holder = next((f for f in (rope, source) if f is not None and f.has(key)), None)
    if holder is None or (factor := holder.real(key, 1e-3, 1)) == 1:
        return None
    if not family.turns_a_part:
        kind = source.values["model_type"]
        raise UnsupportedError(
            f"{source.where}: {key} = {factor:g}: in transformers a {kind} turns whole heads"
        )
    return int(head_dim * factor)


def _unrotated(source: Fields, family: Family, layers: int) -> tuple[int, ...]:
    """Layers without RoPE: a 0 in `no_rope_layers`, or every `no_rope_layer_interval`th."""
    if "no_rope_layers" not in family.reads:
        return ()
    if not source.has("no_rope_layers"):
        every = source.whole("no_rope_layer_interval", 1, SIZES["layers"][1])
        return tuple(i for i in range(layers) if (i + 1) % every == 0)
    turns = source.wholes("no_rope_layers", 0, 1)
    if len(turns) < layers:
        source.refuse("no_rope_layers", f"a list with an entry for each of {layers} layers")
    return tuple(i for i in range(layers) if not turns[i])


def _windows(
    source: Fields, family: Family, layers: int, unrotated: tuple[int, ...]
) -> tuple[int | None, tuple[int, ...]]:
    """The sliding window, and the layers that have it."""
    used = "use_sliding_window" not in family.reads or _truth(source, "use_sliding_window")
    window = None
    if "sliding_window" in family.reads and source.has("sliding_window") and used:
        window = source.whole("sliding_window", 1, SIZES["context"][1])
    if source.has("layer_types"):
        windowed = _by_type(source, layers)
        every = tuple(range(layers)) if window else ()
        if "layer_types" not in family.reads and windowed != every:
            kind = source.values["model_type"]
            raise UnsupportedError(
                f"{source.where}: layer_types: in transformers all layers of a {kind} are alike"
            )
        if windowed and window is None:
            raise CheckpointError(f"{source.where}: layer_types has {SLIDING}, but no window")
    elif window is None:
        windowed = ()
    elif "no_rope_layers" in family.reads:
        windowed = unrotated
    elif "max_window_layers" in family.reads:
        first = source.whole("max_window_layers", 0, SIZES["layers"][1])
        windowed = tuple(range(first, layers))
    else:
        windowed = tuple(range(layers))
    return (window, windowed) if windowed else (None, ())


def _by_type(source: Fields, layers: int) -> tuple[int, ...]:
    """Layers of SLIDING, of a list with a type for each."""
    types = source.texts("layer_types")
    if len(types) != layers:
        source.refuse("layer_types", f"a list of {layers} types")
    for one in types:
        if one not in (FULL, SLIDING):
            message = f"layer_types has {shown(one)}: this chip has no such block"
            raise UnsupportedError(f"{source.where}: {message}")
    return tuple(i for i, one in enumerate(types) if one == SLIDING)
