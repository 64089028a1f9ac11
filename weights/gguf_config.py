"""The metadata of a GGUF file as a LlamaConfig: every key and tensor understood, or refused.

Keys and their meaning are those of llama.cpp. It tells biases and tied tables by the tensors that a
file has, and where it has no key for something, its program says it by the architecture's name.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from emulator.config import EPSILON, PASSES, SIZES, THETA, Linear, LlamaConfig, Scaling, Yarn, size
from emulator.config.limits import FACTOR, LENGTH, STRETCH
from emulator.config.rope import longer
from emulator.errors import UnsupportedError
from emulator.fields import Fields, shown


@dataclass(frozen=True, slots=True)
class Architecture:
    """What llama.cpp knows of an architecture beside its keys."""

    permuted: bool  # rows of q and k are stored in another order than the hub's
    head_norm: bool = False
    unrotated_every: int = 0  # each so manieth layer has no RoPE
    theta: float = 10000.0  # of a file that does not say it


ARCHITECTURES = {  # Mistral is a llama
    "llama": Architecture(permuted=True),
    "qwen2": Architecture(permuted=False),
    "qwen3": Architecture(permuted=False, head_norm=True),
    "smollm3": Architecture(permuted=True, unrotated_every=4),
}
READ = {
    *("context_length", "embedding_length", "block_count", "feed_forward_length", "vocab_size"),
    *("attention.head_count", "attention.head_count_kv", "attention.key_length"),
    *("attention.value_length", "attention.layer_norm_rms_epsilon", "attention.sliding_window"),
    *("attention.sliding_window_pattern", "rope.freq_base", "rope.dimension_count"),
    *("rope.scaling.type", "rope.scaling.factor", "rope.scaling.original_context_length"),
    *("rope.scaling.attn_factor", "rope.scaling.yarn_attn_factor"),
    *("rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow"),
}
NEUTRAL = {  # keys of other models, and the value with which they ask for nothing
    **dict.fromkeys(("expert_count", "expert_used_count", "rope.scaling.alpha"), 0),
    **dict.fromkeys(("rope.scaling.yarn_log_multiplier", "pooling_type"), 0),
    **dict.fromkeys(("rope.scaling.yarn_ext_factor", "logit_scale", "embedding_scale"), 1),
    **dict.fromkeys(("residual_scale", "rope.scale_linear"), 1),
    "use_parallel_residual": False,
    "attention.causal": True,
}
NO_EFFECT = {"rope.scaling.finetuned", "tensor_data_layout"}
OTHER_PREFIXES = ("GGUF.", "general.", "quantize.", "training.")
TOKENIZER = "tokenizer."
TOKENIZER_NEUTRAL = {  # of texts; where a model asks for more, its own program does more
    "tokenizer.ggml.add_eos_token": False,
    "tokenizer.ggml.add_sep_token": False,
}
TOKENIZER_KNOWN = re.compile(  # read elsewhere, of another kind of tokenizer, or for training
    r"tokenizer\.(huggingface\.json|chat_templates?(\..+)?|rwkv\.world|ggml\.("
    r"model|pre|tokens|token_type|token_type_count|scores|merges|\w+_token_id|"
    r"add_bos_token|add_space_prefix|remove_extra_whitespaces|precompiled_charsmap))"
)
ENDS = ("eos", "eot", "eom")  # tokens after which llama.cpp ends an answer
PASS_BIAS = {"qkv": "attn_q", "o": "attn_output", "gate_up": "ffn_gate", "down": "ffn_down"}
BIAS_PASS = {
    **dict.fromkeys(("attn_q", "attn_k", "attn_v"), "qkv"),
    **dict.fromkeys(("ffn_gate", "ffn_up"), "gate_up"),
    **{"attn_output": "o", "ffn_down": "down"},
}
WEIGHTS = {*BIAS_PASS, "attn_norm", "ffn_norm", "attn_q_norm", "attn_k_norm", "attn_rot_embd"}
TABLES = {"token_embd.weight", "output_norm.weight", "output.weight"}
LAYER_TENSOR = re.compile(r"blk\.(0|[1-9]\d{0,4})\.(\w+)\.(weight|bias)")


def gguf_config(
    source: Fields, tensors: Collection[str], vocabulary: int, plain: bool
) -> LlamaConfig:
    """The configuration of a file with these tensors and so many tokens.

    `plain` says that no tensor is quantised. The numbers of such a file are those of the checkpoint
    that it was made from, which wrote them in decimals: 1e-05, not the float32 next to it.

    Raises UnsupportedError for a key or value that this chip has no blocks for, CheckpointError for
    a missing or malformed one.
    """
    name = source.text("general.architecture")
    arch, read = ARCHITECTURES[name], _Keys(source, name, plain)
    read.refuse_unknown()
    layers = read.size("layers", "block_count")
    heads = read.size("heads", "attention.head_count")
    hidden = read.size("hidden", "embedding_length")
    head_dim = read.size("head_dim", "attention.key_length", hidden // heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        if read.has(key) and read.size("head_dim", key) != head_dim:
            read.unsupported(key, f"a head has {head_dim} values")
    if "rope_freqs.weight" in tensors:
        raise UnsupportedError(
            f"{source.where}: rope_freqs.weight: Llama 3's RoPE scaling is not read from GGUF; "
            "use safetensors"
        )
    if read.has("vocab_size") and read.size("vocabulary", "vocab_size") != vocabulary:
        read.unsupported("vocab_size", f"the file has {vocabulary} tokens")
    _refuse_unread(source, tensors, layers)
    window, windowed = read.windows(layers)
    every = arch.unrotated_every
    return LlamaConfig(
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=read.size("kv_heads", "attention.head_count_kv", heads),
        head_dim=head_dim,
        ffn=read.size("ffn", "feed_forward_length"),
        vocabulary=vocabulary,
        context=read.size("context", "context_length"),
        rms_epsilon=read.real("attention.layer_norm_rms_epsilon", *EPSILON),
        rope_theta=read.real("rope.freq_base", *THETA, default=arch.theta),
        rope_scaling=read.scaling(),
        tied="output.weight" not in tensors,
        bos_id=_bos(source, vocabulary - 1, plain),
        end_ids=_ends(source, vocabulary - 1),
        biases=tuple(one for one in PASSES if f"blk.0.{PASS_BIAS[one]}.bias" in tensors),
        head_norm=arch.head_norm,
        window=window,
        windowed=windowed,
        unrotated=tuple(i for i in range(layers) if every and (i + 1) % every == 0),
    ).checked()


def _bos(source: Fields, last: int, plain: bool) -> int | None:
    """The token that starts a text, where the file says that one does."""
    key, adds = "tokenizer.ggml.bos_token_id", "tokenizer.ggml.add_bos_token"
    wanted = source.truth(adds) if source.has(adds) else True
    if not wanted and not (plain and source.has(key)):  # the hub's files name it all the same
        return None
    return source.whole(key, 0, last)


def _ends(source: Fields, last: int) -> tuple[int, ...]:
    """The tokens that end an answer: of a text, and of a turn or a message if the file has one."""
    keys = [f"tokenizer.ggml.{name}_token_id" for name in ENDS]
    found = [source.whole(key, 0, last) for key in keys if key == keys[0] or source.has(key)]
    return tuple(dict.fromkeys(found))


def _refuse_unread(source: Fields, tensors: Collection[str], layers: int) -> None:
    """Raise UnsupportedError for a tensor that this program would leave out.

    A bias counts as read where the first layer has the one that its pass is known by.
    """
    passes = {PASS_BIAS[one]: one for one in PASS_BIAS}
    biased = {one for name, one in passes.items() if f"blk.0.{name}.bias" in tensors}
    for tensor in tensors:
        match = LAYER_TENSOR.fullmatch(tensor)
        if match is None:
            known = tensor in TABLES
        elif match[3] == "bias":
            known = int(match[1]) < layers and BIAS_PASS.get(match[2]) in biased
        else:
            known = int(match[1]) < layers and match[2] in WEIGHTS
        if not known:
            raise UnsupportedError(
                f"{source.where}: tensor {shown(tensor)}: what it does to the model is not known"
            )


@dataclass(frozen=True, slots=True)
class _Keys:
    """Reads the keys of one architecture."""

    source: Fields
    name: str
    plain: bool

    def key(self, short: str) -> str:
        return f"{self.name}.{short}"

    def has(self, short: str) -> bool:
        return self.source.has(self.key(short))

    def size(self, name: str, short: str, default: int | None = None) -> int:
        return size(self.source, name, self.key(short), default)

    def real(self, short: str, least: float, most: float, default: float | None = None) -> float:
        """A float32 number, or the shortest decimal that is it."""
        if default is not None and not self.has(short):
            return default
        value = self.source.real(self.key(short), least, most)
        return float(str(np.float32(value))) if self.plain else value

    def unsupported(self, short: str, why: str) -> None:
        value = shown(self.source.values[self.key(short)])
        raise UnsupportedError(f"{self.source.where}: {self.key(short)} = {value}: {why}")

    def refuse_unknown(self) -> None:
        """Raise UnsupportedError for the first key whose meaning is not known."""
        if self.source.values.get("split.count", 1) not in (0, 1):
            raise UnsupportedError(f"{self.source.where}: one of several files: join them first")
        if self.source.values.get("general.type", "model") != "model":
            kind = shown(self.source.values["general.type"])
            raise UnsupportedError(f"{self.source.where}: general.type = {kind}: no whole model")
        for key in self.source.values:
            if key.startswith((*OTHER_PREFIXES, "split.")):
                continue
            if key.startswith(TOKENIZER):
                self._refuse_tokenizer(key)
                continue
            prefix, _, short = key.partition(".")
            if prefix != self.name:
                raise UnsupportedError(f"{self.source.where}: key {shown(key)} is not known")
            if short in NEUTRAL:
                if self.source.values[key] != NEUTRAL[short]:
                    self.unsupported(short, "this chip has no such block")
            elif short not in READ and short not in NO_EFFECT:
                self.unsupported(short, "what this key means is not known")

    def _refuse_tokenizer(self, key: str) -> None:
        if key in TOKENIZER_NEUTRAL:
            if self.source.values[key] != TOKENIZER_NEUTRAL[key]:
                raise UnsupportedError(f"{self.source.where}: {key}: texts are not ended here")
        elif not TOKENIZER_KNOWN.fullmatch(key):
            why = "what this key means is not known"
            raise UnsupportedError(f"{self.source.where}: {shown(key)}: {why}")

    def windows(self, layers: int) -> tuple[int | None, tuple[int, ...]]:
        """The window, and the layers that have it: all, or those that a pattern marks."""
        key, pattern = "attention.sliding_window", self.key("attention.sliding_window_pattern")
        window = self.source.whole(self.key(key), 0, SIZES["context"][1]) if self.has(key) else 0
        if not window:
            return None, ()
        if not self.source.has(pattern):
            return window, tuple(range(layers))
        marks = self.source.values[pattern]
        if not isinstance(marks, list) or len(marks) != layers:
            self.source.refuse(pattern, f"a list of {layers} truths")
        windowed = tuple(i for i, mark in enumerate(marks) if mark)
        return (window, windowed) if windowed else (None, ())

    def scaling(self) -> Scaling | None:
        stem = "rope.scaling."
        factor_key = self.key(f"{stem}factor")
        asks = self.source.values.get(factor_key, 0) not in (0, 1)
        kind = self.source.values.get(self.key(f"{stem}type"), Linear.kind if asks else "none")
        if kind == "none":
            return None
        if kind not in (Linear.kind, Yarn.kind):
            self.unsupported(f"{stem}type", "none, linear and yarn are known")
        factor = self.real(f"{stem}factor", *STRETCH)
        if kind == Linear.kind:
            return Linear(factor)
        names = (f"{stem}attn_factor", f"{stem}yarn_attn_factor")
        longest = [self.real(name, *LENGTH) for name in names if self.has(name)]
        length = longer(factor) * (longest[0] if longest else 1.0)
        if not LENGTH[0] <= length <= LENGTH[1]:
            self.unsupported(names[0], f"the rotary table ends at {LENGTH[1]}")
        return Yarn(
            factor=factor,
            original_context=self.size("context", f"{stem}original_context_length"),
            beta_fast=self.real(f"{stem}yarn_beta_fast", *FACTOR, default=32.0),
            beta_slow=self.real(f"{stem}yarn_beta_slow", *FACTOR, default=1.0),
            attention_factor=length,
            truncate=True,
        )
