"""`compile --learned FILE` and `--quantiser learned`: what is applied, reused and refused."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.support.command_line import Run
from tests.support.learned import write_learned_file
from weights.rom import open_image

MADE = ("--mix", "3,v=6", "--context", "64", "--json")


def test_a_learned_file_needs_no_torch(here: Run, tiny_checkpoint: Path, tmp_path: Path):
    """It says which masks to make and change; the second time all is there."""
    base = open_image(here("compile", tiny_checkpoint, *MADE).report["image"])
    learned = write_learned_file(base, tmp_path / "file")
    first = here("compile", tiny_checkpoint, "--learned", tmp_path / "file", "--json").report
    assert first["learned"]["sha256"] == learned.digest
    assert first["learned"]["base"] == base.digest
    assert (first["mix"], first["context"], first["reused"]) == ("3,v=6", 64, False)
    again = here("compile", tiny_checkpoint, "--learned", tmp_path / "file", "--json").report
    assert again["reused"]
    assert again["image"] == first["image"]
    other = here(
        "compile", tiny_checkpoint, "--learned", tmp_path / "file", "--out", tmp_path / "o"
    )
    assert "learned masks, by" in other.out
    assert open_image(tmp_path / "o").digest == open_image(first["image"]).digest


def test_what_is_refused(here: Run, tiny_checkpoint: Path, tmp_path: Path):
    """In one line, and nothing is left behind."""
    base = open_image(here("compile", tiny_checkpoint, *MADE).report["image"])
    write_learned_file(base, tmp_path / "wrong", base="0" * 64)
    (tmp_path / "damaged").write_bytes(b"no safetensors file")
    before = sorted((tmp_path / "home").iterdir())
    what = ("compile", tiny_checkpoint, "--out", tmp_path / "out")
    here(*what, "--learned", tmp_path / "wrong").refused("learned from the masks 00000000")
    here(*what, "--learned", tmp_path / "damaged").refused("not a safetensors file")
    here(*what, "--learned", tmp_path / "none").refused("cannot be read")
    both = ("--learned", tmp_path / "wrong", "--quantiser", "best")
    here(*what, *both).refused("leave --quantiser out")
    here(*what, "--learned", tmp_path / "wrong", "--near", base.folder).refused("exclude")
    here(*what, "--learn-steps", "5").refused("goes with --quantiser learned")
    assert sorted((tmp_path / "home").iterdir()) == before
    assert not (tmp_path / "out").exists()


def test_without_torch_a_line_says_so(
    here: Run, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
):
    """Before anything is compiled."""
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    said = here("compile", tiny_checkpoint, "--quantiser", "learned", *MADE)
    said.refused("learning needs torch: pip install 'torch>=2.4'")


@pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="could not import 'torch': the extra learn"
)
def test_learning_from_start_to_end(
    here: Run, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Texts are made once; the file lies beside the masks; another run learns nothing anew."""
    monkeypatch.setattr("emulator.learning.texts.OWN", 8)
    what = ("compile", tiny_checkpoint, "--quantiser", "learned", "--learn-steps", "2", *MADE)
    first = here(*what).report
    image = open_image(first["image"])
    assert image.manifest["quantiser"] == "learned"
    file = Path(first["learned"]["file"])
    home = tmp_path / "home"
    assert file.parent == home
    assert len(list(home.glob("texts-*"))) == 1
    assert list(home.glob(".*state")) == []
    assert here(*what).report["reused"]
    same = here("compile", tiny_checkpoint, "--learned", file, "--json").report
    assert same["image"] == first["image"]
