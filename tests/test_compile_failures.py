"""Options that make no sense and disks that fail: one line, and nothing half-written stays."""

from __future__ import annotations

import errno
import os

import pytest
from conftest import TINY_CONTEXT, TINY_MIX, compile_broken, leaves_nothing, refused

from emulator.errors import ImageError, UsageError
from weights.compile import CompileOptions, compile_image
from weights.mix import Mix
from weights.safetensors_source import SafetensorsCheckpoint


@pytest.mark.parametrize(
    "text",
    ["", "5", "three", "3,", "3,v", "3,v=", "3,v=8", "3,w=6", "v=6", "3;v=6", "3,v=6=4", "٣"],
)
def test_mix(text):
    refused(UsageError, "^mix ", lambda: Mix.parse(text))


def test_mix_that_is_right():
    mix = Mix.parse("3, v=6,embedding=4")
    assert [mix.bits(name) for name in ("q", "v", "embedding", "head")] == [3, 6, 4, 3]


@pytest.mark.parametrize("context", [0, -1, 257])
def test_context(checkpoint, context):
    source = SafetensorsCheckpoint(checkpoint)
    options = CompileOptions(Mix.parse(TINY_MIX), context=context)
    out = checkpoint.parent / "out" / "image"
    refused(UsageError, "positions 1 to 256", lambda: compile_image(source, out, options))
    assert leaves_nothing(checkpoint)


def test_compile_below_a_file(checkpoint):
    """A path that cannot exist, for root too."""
    file = checkpoint.parent / "file"
    file.write_text("x")
    options = CompileOptions(Mix.parse(TINY_MIX), context=TINY_CONTEXT)
    for out in (file / "image", file / "deep" / "image"):
        source = SafetensorsCheckpoint(checkpoint)
        refused(
            ImageError, "cannot be written", lambda s=source, o=out: compile_image(s, o, options)
        )
    assert sorted(p.name for p in checkpoint.parent.iterdir()) == ["checkpoint", "file"]
    assert file.read_text() == "x"


def test_full_disk(checkpoint, monkeypatch):
    """The third file does not fit: one line with a hint, and the first two are gone."""
    calls = []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("weights.rom_writer.os.fsync", fsync)
    refused(ImageError, "No space left on device; set HARD", lambda: compile_broken(checkpoint))
    assert len(calls) == 3
    assert leaves_nothing(checkpoint)


def test_interrupted_compile(checkpoint, monkeypatch):
    """Ctrl-C in the middle passes through, and nothing stays."""

    def fsync(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("weights.rom_writer.os.fsync", fsync)
    with pytest.raises(KeyboardInterrupt):
        compile_broken(checkpoint)
    assert leaves_nothing(checkpoint)
