"""Malformed adapters are refused in one line, whatever is wrong, and nothing is loaded."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emulator.chip import Chip
from emulator.errors import AdapterError
from emulator.images.adapters import load_adapters
from tests.support.adapters import Tensors, write_adapter

Q = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
A, B = f"{Q}A.weight", f"{Q}B.weight"
DOWN = "base_model.model.model.layers.1.mlp.down_proj.lora_A.weight"
Change = Callable[[dict[str, Any], Tensors], Any]


def config(**values: Any) -> Change:
    return lambda c, t: c.update(values)


def tensor(name: str, make: Callable[[np.ndarray], np.ndarray]) -> Change:
    return lambda c, t: t.update({name: np.ascontiguousarray(make(t[name]))})


def renamed(old: str, new: str) -> Change:
    return lambda c, t: t.update({new: t.pop(old)})


def filled(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def fill(w: np.ndarray) -> np.ndarray:
        w = w.copy()
        w[0, 0] = value
        return w

    return fill


CONTENTS: dict[str, tuple[Change, str]] = {
    "another method": (config(peft_type="IA3"), "peft_type must be LORA"),
    "no method": (lambda c, t: c.pop("peft_type"), "peft_type must be LORA"),
    "DoRA": (config(use_dora=True), "DoRA"),
    "QALoRA": (config(use_qalora=True), "QALoRA"),
    "new embeddings": (config(modules_to_save=["embed_tokens"]), "modules_to_save"),
    "new tokens": (config(trainable_token_indices=[5]), "new embeddings"),
    "parameters": (config(target_parameters=["mlp.w"]), "target_parameters"),
    "replicated layers": (config(layer_replication=[[0, 2]]), "layer_replication"),
    "activated": (config(alora_invocation_tokens=[1, 2]), "alora_invocation_tokens"),
    "biases": (config(bias="all"), "bias must be 'none'"),
    "a bias of B": (config(lora_bias=True), "lora_bias"),
    "transposed": (config(fan_in_fan_out=True), "fan_in_fan_out"),
    "changed base": (config(init_lora_weights="pissa"), "pissa"),
    "changed base, LoftQ": (config(init_lora_weights="loftq"), "loftq"),
    "rank 0": (config(r=0), "r must be a whole number from 1 to 64"),
    "rank 65": (config(r=65), "r must be a whole number from 1 to 64"),
    "rank -1": (config(r=-1), "r must be"),
    "rank of text": (config(r="8"), "r must be"),
    "rank true": (config(r=True), "r must be"),
    "no rank": (lambda c, t: c.pop("r"), "lacks 'r'"),
    "another rank": (config(r=3), "has shape"),
    "alpha NaN": (config(lora_alpha=float("nan")), "lora_alpha must be"),
    "alpha infinite": (config(lora_alpha=float("inf")), "lora_alpha must be"),
    "alpha huge": (config(lora_alpha=1e30), "lora_alpha must be"),
    "alpha below 0": (config(lora_alpha=-4), "lora_alpha must be"),
    "rsLoRA of text": (config(use_rslora="yes"), "use_rslora must be true or false"),
    "no targets": (config(target_modules=[]), "at least one module"),
    "target unknown": (config(target_modules=["q_proj", "experts"]), "no target 'experts'"),
    "targets a number": (config(target_modules=7), "target_modules must be"),
    "target the head": (config(target_modules=["lm_head"]), "no target 'lm_head'"),
    "layers beyond": (config(layers_to_transform=[0, 99]), "layers_to_transform must be"),
    "layers not its own": (config(layers_to_transform=[0]), "layer 1 is none of"),
    "rank pattern a list": (config(rank_pattern=[1]), "rank_pattern must be an object"),
    "rank pattern of code": (config(rank_pattern={"(a+)+$": 2}), "no plain module name"),
    "rank pattern 0": (config(rank_pattern={"q_proj": 0}), "q_proj must be"),
    "rank pattern not the file's": (config(rank_pattern={"q_proj": 2}), "has shape"),
    "alpha pattern of text": (config(alpha_pattern={"q_proj": "x"}), "q_proj must be"),
    "A lacks": (lambda c, t: t.pop(A), "lacks lora_A"),
    "B lacks": (lambda c, t: t.pop(B), "lacks lora_B"),
    "module lacks": (lambda c, t: (t.pop(A), t.pop(B)), "layer 0 lacks q_proj"),
    "a module more": (config(target_modules=["q_proj"]), "none of the config's target_modules"),
    "no tensors": (lambda c, t: t.clear(), "holds no tensors"),
    "a layer more": (lambda c, t: t.update({A.replace("s.0", "s.7"): t[A]}), "layer 7"),
    "A twice": (lambda c, t: t.update({f"{Q}A.x.weight": t[A]}), "two tensors A"),
    "an embedding": (renamed(A, "base_model.model.model.embed_tokens.lora_A"), "no LoRA of a"),
    "a norm": (renamed(A, A.replace("q_proj", "q_norm")), "no LoRA of a"),
    "a module elsewhere": (renamed(A, A.replace("self_attn", "mlp")), "no module of a Llama"),
    "an expert": (renamed(A, A.replace("self_attn.q_proj", "mlp.experts.0.w1")), "no LoRA of a"),
    "DoRA's magnitude": (renamed(A, f"{Q}magnitude_vector"), "no LoRA of a"),
    "a path as name": (renamed(A, "../../etc/passwd"), "no LoRA of a"),
    "a name with a line break": (renamed(A, "a\nb"), "no LoRA of a"),
    "A turned": (tensor(A, lambda w: w.T), "has shape"),
    "A too wide": (tensor(DOWN, lambda w: np.concatenate([w, w], 1)), "has shape"),
    "A flat": (tensor(A, lambda w: w.reshape(-1)), "has shape"),
    "B empty": (tensor(B, lambda w: w[:0]), "has shape"),
    "A whole numbers": (tensor(A, lambda w: w.astype(np.int8)), "not a float"),
    "NaN": (tensor(A, filled(np.nan)), "not finite"),
    "infinite": (tensor(B, filled(np.inf)), "not finite"),
    "huge": (tensor(B, filled(1e30)), "values beyond"),
    "huge float64": (tensor(B, lambda w: filled(1e300)(w.astype(np.float64))), "not finite"),
    "all far too large": (
        lambda c, t: (c.update(lora_alpha=32768), t.update({B: t[B] * 0 + 3e4})),
        "too small for what is added",
    ),
}


def refused(image, checkpoint: Path, where: str, words: str) -> None:
    """One line that names what is wrong; the chip's SRAM stays empty."""
    chip = Chip(image)

    def load() -> None:
        for adapter in load_adapters(image, [where], checkpoint):
            chip.load(adapter)

    with pytest.raises(AdapterError) as caught:
        load()
    message = str(caught.value)
    assert words in message
    assert len(message.splitlines()) == 1
    assert len(message) < 600
    assert not chip.adapters


@pytest.mark.parametrize("what", CONTENTS)
def test_contents(what, tiny_image, tiny_checkpoint, tmp_path):
    change, words = CONTENTS[what]
    names = ("q", "down")
    folder = write_adapter(tmp_path / "a", tiny_image.config, 4, names, change)
    refused(tiny_image, tiny_checkpoint, str(folder), words)


FILES: dict[str, tuple[Callable[[Path, Path], Any], str]] = {
    "no folder": (lambda c, t: os.rename(c.parent, c.parent.with_name("b")), "no such folder"),
    "no config": (lambda c, t: c.unlink(), "no such file"),
    "no tensors' file": (lambda c, t: t.unlink(), "no such file"),
    "a pickle": (
        lambda c, t: (t.unlink(), (c.parent / "adapter_model.bin").write_bytes(pickle.dumps({}))),
        "pickle",
    ),
    "a pickle of the right name": (lambda c, t: t.write_bytes(pickle.dumps([1] * 99)), "safetens"),
    "an empty file": (lambda c, t: t.write_bytes(b""), "truncated"),
    "cut short": (lambda c, t: t.write_bytes(t.read_bytes()[:-99]), "ends beyond the file"),
    "a huge claim": (lambda c, t: t.write_bytes(claim(1 << 40)), "offsets do not fit"),
    "a huge header": (lambda c, t: t.write_bytes(struct.pack("<Q", 1 << 60) + b"{}"), "truncated"),
    "config is a list": (lambda c, t: c.write_text("[]"), "does not hold an object"),
    "config is no JSON": (lambda c, t: c.write_text("{"), "not JSON"),
    "config says a key twice": (lambda c, t: c.write_text('{"r": 1, "r": 2}'), "twice"),
    "config is large": (lambda c, t: c.write_text(" " * (2 << 20)), "larger than 1 MiB"),
    "config is a folder": (lambda c, t: (c.unlink(), c.mkdir()), "no such file"),
    "config is deep": (lambda c, t: c.write_text("[" * 100_000), "not JSON"),
}


def claim(rows: int) -> bytes:
    """A header that claims a tensor of so many rows, and no data."""
    entry = {"dtype": "F32", "shape": [rows, 64], "data_offsets": [0, 64]}
    header = json.dumps({A: entry}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(64)


@pytest.mark.parametrize("what", FILES)
def test_files(what, tiny_image, tiny_checkpoint, tmp_path):
    change, words = FILES[what]
    folder = write_adapter(tmp_path / "a", tiny_image.config, 4, ("q", "down"))
    change(folder / "adapter_config.json", folder / "adapter_model.safetensors")
    refused(tiny_image, tiny_checkpoint, str(folder), words)


@pytest.mark.parametrize("where", ["x\0y", "..=..", "a/b=.", "=", "\n", "no/such/folder"])
def test_places(where, tiny_image, tiny_checkpoint):
    refused(tiny_image, tiny_checkpoint, where, "")
