"""Options and images that nobody means: one line, status 2, nothing left behind."""

from __future__ import annotations

import pytest

from emulator.errors import ImageError, UsageError
from emulator.fields import printable
from emulator.terminal.bars import bar_chart
from emulator.terminal.plot import save_plot
from tests.support.command import Runner
from tests.support.refusals import refused
from tests.support.tiny_model import compile_tiny, edit_manifest
from weights.rom import open_image


@pytest.fixture
def run(capfd) -> Runner:
    return Runner(capfd)


@pytest.mark.parametrize("bits", ["nan", "inf", "-inf", "-1", "0", "1e-300"])
def test_bits(run, tiny_checkpoint, tmp_path, bits):
    out = tmp_path / "out"
    run("compile", tiny_checkpoint, f"--bits={bits}", "--out", out).refused("bits")
    assert not out.exists()


def test_a_picture_is_not_drawn_beside_a_folder(tmp_path):
    """matplotlib adds an ending to a folder's name, and writes there."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    refused(UsageError, "is a folder", lambda: save_plot(folder, lambda path: path.touch()))
    refused(UsageError, "is a folder", lambda: bar_chart({"a": 1}, "b", "c", folder))
    assert list(tmp_path.iterdir()) == [folder]


SAID = {
    "a line more": "x\nhashes     9 files, all as written",
    "back to the start": "x\rhashes     9 files, all as written",
    "colours": "\x1b[31mx",
    "a title": "\x1b]0;x\x07",
    "a line of its own": "x\u2028y",
    "right to left": "x\u202ey",
    "nothing to see": "x\u200by",
    "NUL": "x\0y",
    "C1": "x\x9b31m",
}


@pytest.mark.parametrize("name", SAID)
@pytest.mark.parametrize("key", ["tool", "mix", "name"])
def test_what_a_manifest_says_is_one_line(tiny_checkpoint, tmp_path, name, key):
    """A manifest that is sealed again can say anything, but not move the cursor."""
    image = compile_tiny(tiny_checkpoint, tmp_path / "image")

    def forge(manifest):
        (manifest["checkpoint"] if key == "name" else manifest)[key] = SAID[name]

    edit_manifest(image, forge)
    refused(ImageError, f"{key} must be one line of printable text", lambda: open_image(image))


@pytest.mark.parametrize("style", ["chatm", "ChatML", "", "plain ", "x" * 999])
def test_a_chat_style_that_is_none(tiny_checkpoint, tmp_path, style):
    image = compile_tiny(tiny_checkpoint, tmp_path / "image")
    edit_manifest(image, lambda manifest: manifest.update(chat_style=style))
    refused(ImageError, "chat_style must be one of", lambda: open_image(image))


@pytest.mark.parametrize("name", SAID)
def test_printable(name):
    shown = printable(SAID[name])
    assert shown.isprintable()
    assert "é" in printable("é" + SAID[name])
