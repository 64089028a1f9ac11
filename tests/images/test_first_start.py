"""A chat's first start on quick masks; everybody else waits for the default ones."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from emulator.images import first_start, make, recipe
from emulator.images.first_start import BetterMasks, first_image
from emulator.images.folder import is_image
from weights.compile import CompileOptions
from weights.rom import open_image


@pytest.fixture
def calibrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder of its own, and a default of the level that a small model has."""
    monkeypatch.setenv("HARDWIRED_HOME", str(tmp_path / "home"))

    def options(config) -> CompileOptions:
        return replace(recipe_options(config), quantiser="best")

    recipe_options = recipe.default_options
    monkeypatch.setattr(recipe, "default_options", options)


@pytest.mark.usefixtures("calibrated")
def test_a_chat_begins_on_quick_masks(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch):
    quick, default = first_image(str(tiny_checkpoint))
    assert default is not None
    image = open_image(quick)
    assert image.manifest["quantiser"] == "fast"
    assert {matrix.bits for matrix in image.matrices.values()} == {6}
    assert not is_image(default)

    # The quick image lies in the cache folder, but no other command takes it for the model's.
    def compiled(*args: object) -> None:
        raise LookupError(args[1])

    monkeypatch.setattr(make, "make_image", compiled)
    with pytest.raises(LookupError, match=default.name):
        make.open_named(str(tiny_checkpoint))


@pytest.mark.usefixtures("calibrated")
def test_a_chat_takes_the_default_masks_where_they_are(tiny_checkpoint: Path):
    _, default = first_image(str(tiny_checkpoint))
    assert default is not None
    quick, _ = first_image(str(tiny_checkpoint))
    quick.rename(default)  # any image will do
    assert first_image(str(tiny_checkpoint)) == (default, None)


@pytest.mark.slow  # the quantiser's machine code takes most of a minute
def test_better_masks_are_made_beside(tiny_checkpoint: Path, tmp_path: Path, monkeypatch):
    """By a process of its own, in the folder that every other command looks in."""
    monkeypatch.setenv("HARDWIRED_HOME", str(tmp_path / "home"))
    source = make.checkpoint_of(str(tiny_checkpoint))
    folder = recipe.recipe_of(source, str(tiny_checkpoint)).folder
    better = BetterMasks(str(tiny_checkpoint), folder)
    end = time.monotonic() + 300
    while better.running and time.monotonic() < end:
        time.sleep(0.1)
    assert better.ready, better.problem
    better.end()


def test_better_masks_that_cannot_be_made(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HARDWIRED_HOME", str(tmp_path / "home"))
    better = BetterMasks("no such model", tmp_path / "image")
    better._process.wait(timeout=300)
    assert not better.ready
    assert better.problem.startswith("error: no such model: no GGUF file")
    better.end()


def test_better_masks_end_with_the_chat(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(first_start.sys, "executable", "/bin/cat")
    better = BetterMasks("-", tmp_path / "image")
    better.end()
    assert not better.running
