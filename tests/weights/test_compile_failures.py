"""Options that make no sense and disks that fail: one line, and nothing half-written stays."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from emulator.errors import CheckpointError, ImageError, UsageError
from tests.support.paths import ROOT
from tests.support.refusals import leaves_nothing, refused
from tests.support.tiny_model import TINY_CONTEXT, TINY_MIX, compile_broken, compile_tiny
from weights.compile import CompileOptions, compile_image
from weights.mix import Mix
from weights.rom import open_image
from weights.rom_writer import JOURNAL, ImageWriter, new_image
from weights.safetensors_source import SafetensorsCheckpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "three",
        "3,",
        "3,v",
        "3,v=",
        "3,v=8",
        "3,w=6",
        "v=6",
        "3;v=6",
        "3,v=6=4",
        "٣",
        "3,v=6,v=4",
    ],
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
    """Ctrl-C passes through; what is left is no image, and the next compile takes it over."""

    def fsync(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("weights.rom_writer.os.fsync", fsync)
    with pytest.raises(KeyboardInterrupt):
        compile_broken(checkpoint)
    monkeypatch.undo()
    (left,) = (checkpoint.parent / "out").iterdir()
    assert left.name.startswith(".image.")
    compile_broken(checkpoint)
    assert [path.name for path in left.parent.iterdir()] == ["image"]


def test_a_checkpoint_that_vanishes(checkpoint, monkeypatch):
    """An error in reading is not taken for one in writing."""
    source = SafetensorsCheckpoint(checkpoint)
    options = CompileOptions(Mix.parse(TINY_MIX), context=TINY_CONTEXT)
    assert source.config.layers == 2
    (checkpoint / "model.safetensors").unlink()  # it stays mapped; its hash cannot be taken
    out = checkpoint.parent / "out" / "image"
    message = "model.safetensors: cannot be read: No such file"
    refused(CheckpointError, message, lambda: compile_image(source, out, options))
    assert leaves_nothing(checkpoint)


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_permissions(checkpoint, umask):
    """The image is as open as the user's other folders and files."""
    before = os.umask(umask)
    try:
        compile_broken(checkpoint)
    finally:
        os.umask(before)
    image = checkpoint.parent / "out" / "image"
    assert image.stat().st_mode & 0o777 == 0o777 & ~umask
    assert {path.stat().st_mode & 0o777 for path in image.iterdir()} == {0o666 & ~umask}


def test_everything_is_flushed_in_order(checkpoint, monkeypatch):
    """Files, then their folder, then, once it is renamed, the folder around it."""
    fsync, flushed = os.fsync, []

    def noted(descriptor: int) -> None:
        flushed.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", noted)
    compile_broken(checkpoint)
    image = checkpoint.parent / "out" / "image"
    *files, folder, parent = flushed
    assert sorted(files) == sorted(path.stat().st_ino for path in image.iterdir())
    assert (folder, parent) == (image.stat().st_ino, image.parent.stat().st_ino)


def test_the_first_of_two_stays(checkpoint, monkeypatch):
    """An image that another process finishes in the meantime is kept, file by file."""
    out = checkpoint.parent / "out" / "image"
    rename, first = os.rename, {}

    def late(source: Path, target: Path) -> None:
        monkeypatch.setattr("os.rename", rename)
        compile_broken(checkpoint)
        first.update({path.name: path.stat().st_ino for path in out.iterdir()})
        rename(source, target)

    monkeypatch.setattr("os.rename", late)
    compile_broken(checkpoint)
    assert {path.name: path.stat().st_ino for path in out.iterdir()} == first
    assert [path.name for path in out.parent.iterdir()] == ["image"]


@pytest.mark.parametrize("late", [False, True])
def test_a_folder_in_the_way(checkpoint, monkeypatch, late):
    """Somebody's files under the image's name are left alone, there before or put there since."""
    out = checkpoint.parent / "out" / "image"
    rename = os.rename

    def notes() -> None:
        out.mkdir(parents=True)
        (out / "notes").write_text("x")

    monkeypatch.setattr("os.rename", lambda *paths: (notes(), rename(*paths)) if late else None)
    if not late:
        notes()
    message = "/image: cannot be written: (other files are there|Directory not empty)"
    refused(ImageError, message, lambda: compile_broken(checkpoint))
    assert [path.name for path in out.parent.iterdir()] == ["image"]
    assert [path.name for path in out.iterdir()] == ["notes"]


def test_a_killed_compile(checkpoint):
    """What it leaves is never taken for an image, and the next compile takes it away."""
    out = checkpoint.parent / "out"
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from weights.rom_writer import new_image\n"
        "with new_image(Path(sys.argv[1]) / 'image'): os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", program, out], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = out.iterdir()
    assert left.name.startswith(".image.")
    mine = out / ".image.notes.tmp"
    mine.mkdir()
    with new_image(out / "image.2"), new_image(out / "image"):
        assert not left.exists()
        alive = {path.name for path in out.iterdir()}
        compile_broken(checkpoint)  # leaves the folders of writers that are at work
        assert {path.name for path in out.iterdir()} == {*alive, "image"}
        assert mine.exists()


def killed_after(checkpoint: Path, shards: int, how: str, level: str = "fast") -> None:
    """A compile to out/image in a process of its own, ended when so many shards are written."""
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from tests.support.tiny_model import compile_tiny\n"
        "from weights.rom_writer import ImageWriter\n"
        "add, left = ImageWriter.add_shard, int(sys.argv[3])\n"
        "def counted(writer, *rest):\n"
        "    global left\n"
        "    if left == 0: os.kill(os.getpid(), signal.Signals[sys.argv[4]])\n"
        "    left -= 1\n"
        "    add(writer, *rest)\n"
        "ImageWriter.add_shard = counted\n"
        "compile_tiny(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[5])\n"
    )
    out = checkpoint.parent / "out" / "image"
    done = python(program, checkpoint, out, shards, how, level)
    assert done.returncode == -signal.Signals[how], done.stderr


def python(program: str, *words: object) -> subprocess.CompletedProcess:
    """Run a program that sees the project and the tests' helpers."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program, *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def files_of(image: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in image.iterdir()}


@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
@pytest.mark.parametrize("shards", [0, 1, 2])
def test_an_interrupted_compile_goes_on(checkpoint, tiny_image, monkeypatch, shards, how):
    """Finished shards are taken over, and the image is the same byte for byte."""
    killed_after(checkpoint, shards, how)
    out = checkpoint.parent / "out"
    (left,) = out.iterdir()
    assert len(list(left.glob("*.safetensors"))) == shards
    written = shards_written(monkeypatch)
    compile_broken(checkpoint)
    assert len(written) == 3 - shards
    assert [path.name for path in out.iterdir()] == ["image"]
    assert files_of(out / "image") == files_of(tiny_image.folder)


def shards_written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list to which every shard is added that is made from now on."""
    written: list[str] = []
    add = ImageWriter.add_shard
    monkeypatch.setattr(ImageWriter, "add_shard", lambda w, *a: (written.append(a[0]), add(w, *a)))
    return written


@pytest.mark.parametrize("level", ["calibrated", "best"])
def test_an_interrupted_calibrated_compile_goes_on(checkpoint, tmp_path, monkeypatch, level):
    """The text passes through the layers that are there, and the rest is the same byte for byte."""
    whole = files_of(compile_tiny(checkpoint, tmp_path / "whole", level))
    out = checkpoint.parent / "out"
    for shards, how in (1, "SIGKILL"), (2, "SIGINT"):  # one run after another, of one image
        killed_after(checkpoint, shards - len(list(out.glob(".*/*.safe*"))), how, level)
        (left,) = out.iterdir()
        assert len(list(left.glob("*.safetensors"))) == shards
    written = shards_written(monkeypatch)
    compile_broken(checkpoint, level)
    assert written == ["tables.safetensors"]
    assert files_of(out / "image") == whole


def test_another_level_takes_nothing_over(checkpoint, tmp_path, monkeypatch):
    """Layers of the level `calibrated` are no part of a `best` image."""
    whole = files_of(compile_tiny(checkpoint, tmp_path / "whole", "best"))
    killed_after(checkpoint, 2, "SIGKILL", "calibrated")
    written = shards_written(monkeypatch)
    compile_broken(checkpoint, "best")
    assert len(written) == 3
    assert files_of(checkpoint.parent / "out" / "image") == whole


TEXT = Path(__file__)  # any of enough words
CUT_SHORT = """
import resource, sys
from emulator import cli
from weights import rom_writer
write, (_, most) = rom_writer._write_durably, resource.getrlimit(resource.RLIMIT_FSIZE)
def limited(path, data):
    if path.name == sys.argv[1]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(data) // 2, most))
    write(path, data)
rom_writer._write_durably = limited
sys.exit(cli.main(sys.argv[2:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no limit of a file's size")
@pytest.mark.parametrize("file", ["layer-001.safetensors", "tables.safetensors", "rom.json"])
@pytest.mark.parametrize("level", ["fast", "calibrated"])
def test_a_file_that_does_not_fit(checkpoint, tmp_path, level, file):
    """The system itself ends a write half way: one line, status 2, and the next run completes."""
    out = tmp_path / "out" / "image"
    words = ("compile", checkpoint, "--out", out, "--quantiser", level, "--context", 64)
    text = ("--calibration", TEXT) if level != "fast" else ()
    done = python(CUT_SHORT, file, *words, *text)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = (line for line in done.stderr.splitlines() if "error" in line)
    assert line.startswith("error: ")
    assert f"/{file}: cannot be written: File too large; set HARDWIRED_HOME" in line
    assert list(out.parent.iterdir()) == []
    assert python(CUT_SHORT, "none", *words, *text).returncode == 0
    open_image(out)
    assert [path.name for path in out.parent.iterdir()] == ["image"]


BREAKS = {
    "a shard is damaged": lambda f: (f / "layer-000.safetensors").write_bytes(b"x" * 99),
    "a shard is gone": lambda f: (f / "layer-000.safetensors").unlink(),
    "the journal's last line is cut": lambda f: (f / JOURNAL).write_bytes(
        (f / JOURNAL).read_bytes()[:-20]
    ),
    "the journal is no text": lambda f: (f / JOURNAL).write_bytes(b"\xff\xfe"),
    "the journal is foreign": lambda f: (f / JOURNAL).write_text('{"entry": 1}\n[]\n'),
    "a shard in part": lambda f: (f / "layer-001.safetensors").write_bytes(b"x"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_what_is_taken_over_is_checked(checkpoint, tiny_image, name):
    """Whatever was left: the same image in the end."""
    killed_after(checkpoint, 1, "SIGKILL")
    (left,) = (checkpoint.parent / "out").iterdir()
    BREAKS[name](left)
    compile_broken(checkpoint)
    assert files_of(checkpoint.parent / "out" / "image") == files_of(tiny_image.folder)


def test_other_options_take_nothing_over(checkpoint, monkeypatch):
    """Another mix is another image: all shards are made again."""
    killed_after(checkpoint, 2, "SIGKILL")
    written = shards_written(monkeypatch)
    out = checkpoint.parent / "out"
    options = CompileOptions(Mix.parse("3"), context=TINY_CONTEXT)
    compile_image(SafetensorsCheckpoint(checkpoint), out / "image", options)
    assert len(written) == 3
    assert [path.name for path in out.iterdir()] == ["image"]
