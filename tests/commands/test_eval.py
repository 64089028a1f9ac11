"""`eval`, on a tiny image."""

from __future__ import annotations

from pathlib import Path

import pytest

from emulator.quality.tasks import items_that_ship
from tests.support.command_line import Run
from weights.rom import RomImage


def test_eval(here: Run, tmp_path, tiny_image: RomImage, tiny_checkpoint: Path):
    """Keys, windows, and distances that are distances."""
    text = tmp_path / "text.txt"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 9)
    words = ("eval", "--text", text, "--window", 32, "--limit", 100)
    words = (*words, "--image", tiny_image.folder, "--checkpoint", tiny_checkpoint)
    report = here(*words, "--json").report
    assert (report["windows"], report["positions"]) == (3, 3 * 15)
    assert report["bits_per_weight"] == tiny_image.bits_per_weight
    assert report["ppl_reference"] > 1
    assert report["ppl_chip"] > 1
    for name in ("quantiser", "datapath", "total"):
        distance = report[name]
        assert 0 < distance["kl_mean"] <= distance["kl_p99"]
        assert 0 <= distance["top1_agreement"] <= 1
        assert 0 < distance["top5_agreement"] <= 1
        assert len(distance["kl_by_position"]) == len(report["bins"]) == 16
    assert report["datapath"]["kl_mean"] < report["total"]["kl_mean"]
    table = here(*words).out
    assert all(name in table for name in ("quantiser", "datapath", "total", "perplexity", "29-30"))


def test_eval_draws(here: Run, tmp_path, tiny_image: RomImage, tiny_checkpoint: Path):
    pytest.importorskip("matplotlib")
    text, picture = tmp_path / "text.txt", tmp_path / "kl.svg"
    text.write_text("The quick brown fox jumps. ")
    words = ("eval", "--text", text, "--window", 16, "--plot", picture)
    assert here(*words, "--image", tiny_image.folder, "--checkpoint", tiny_checkpoint).status == 0
    assert "mean KL divergence" in picture.read_text()


def test_eval_attributes(here: Run, tmp_path, tiny_image: RomImage, tiny_checkpoint: Path):
    """Weights and places by depth, as JSON, as a table and as a picture."""
    pytest.importorskip("matplotlib")
    text, picture = tmp_path / "text.txt", tmp_path / "kl.svg"
    text.write_text("The quick brown fox jumps over. " * 2)
    words = ("eval", "--attribute", "--text", text, "--window", 32, "--depths", 2)
    words = (*words, "--image", tiny_image.folder, "--checkpoint", tiny_checkpoint)
    report = here(*words, "--json", "--plot", picture).report
    assert report["mix"] == tiny_image.manifest["mix"]
    assert len(report["kl_mean"]["down"]) == len(report["datapath_kl_mean"]["softmax"]) == 2
    assert set(report["datapath_together"]) == {"all_places", "chip"}
    assert "input of the head (int8)" in picture.read_text()
    table = here(*words).out
    assert all(word in table for word in ("embedding", "gate_up_input", "KV", "the chip itself"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--window", "2"], "--window"),
        (["--limit", "0"], "--limit"),
        (["--window", "64", "--limit", "40"], "40 tokens hold no window of 64"),
        (["--text", "nowhere.txt"], "nowhere.txt"),
        (["--checkpoint", "nowhere"], "no GGUF file"),
        (["--attribute", "--depths", "0"], "--depths"),
    ],
    ids=" ".join,
)
def test_bad_eval(here: Run, tmp_path, tiny_image: RomImage, tiny_checkpoint, words, message):
    (tmp_path / "text").write_text("text " * 100)
    fine = ("--image", tiny_image.folder, "--checkpoint", tiny_checkpoint)
    here("eval", "--text", tmp_path / "text", *fine, *words).refused(message)


def test_eval_against_another_checkpoint(here: Run, tmp_path, untied_image, tiny_checkpoint):
    (tmp_path / "text").write_text("text " * 100)
    words = ("eval", "--text", tmp_path / "text", "--image", untied_image.folder)
    here(*words, "--checkpoint", tiny_checkpoint).refused("was made from", "--checkpoint")


def test_eval_of_what_is_no_text(here: Run, tmp_path, tiny_image: RomImage):
    (tmp_path / "text").write_bytes(b"\xff\xfe\x00")
    here("eval", "--text", tmp_path / "text", "--image", tiny_image.folder).refused("not UTF-8")


def test_eval_answers(here: Run, monkeypatch, tiny_image: RomImage, tiny_checkpoint):
    """The questions that fit the tiny chip's 64 positions, a byte each."""
    fitting = [one for one in items_that_ship() if len(one.text + max(one.choices, key=len)) < 60]
    monkeypatch.setattr("emulator.quality.tasks.items_that_ship", lambda: fitting)
    words = ("eval", "--tasks", "--image", tiny_image.folder, "--checkpoint", tiny_checkpoint)
    tasks = here(*words, "--json").report["tasks"]
    assert set(tasks) == {"facts", "sense", "numbers", "code", "all"}
    assert tasks["all"]["items"] == len(fitting)
    shares = [one[key] for one in tasks.values() for key in ("reference", "masks", "chip", "same")]
    assert min(shares) >= 0
    assert max(shares) <= 1
    assert "chip as original" in here(*words).out


def test_tasks_go_alone(here: Run, tiny_image: RomImage):
    here("eval", "--tasks", "--attribute", "--image", tiny_image.folder).refused("--tasks goes")
