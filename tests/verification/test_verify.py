"""`verify` on tiny images: passes whole, and names the place of whatever is changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from emulator.chip import Chip
from emulator.cli import main
from emulator.images.recipe import embedded_folder
from emulator.verification import golden, verify
from emulator.verification import kernel_body as body
from emulator.verification.twins import disagreements
from emulator.verification.vectors import known_blocks
from kernels import compiled, reference
from kernels.host import simd
from tests.support.tiny_model import edit_manifest
from weights.rom import RomImage, open_image


@pytest.fixture(autouse=True)
def one_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other bodies compile for a minute; tests/kernels/test_bodies.py runs them."""
    monkeypatch.setattr(verify, "bodies", lambda: [simd.BODY])


@pytest.fixture
def image(tmp_path: Path, either_image: RomImage) -> Path:
    return Path(shutil.copytree(either_image.folder, tmp_path / "image"))


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict]:
    status = main(["verify", *map(str, words), "--json"])
    return status, json.loads(capsys.readouterr().out)


def verdicts(report: dict) -> dict[str, str]:
    return {check["check"]: check["verdict"] for check in report["checks"]}


def test_record_then_pass_then_fail(image, tmp_path, capsys):
    """Nothing recorded is no failure; a recorded hash is compared, and so are cycles."""
    mine = tmp_path / "golden.json"
    mine.write_text("{}")
    status, report = run(capsys, image, "--golden", mine)
    assert status == 0
    assert verdicts(report)["golden logits"] == verify.UNKNOWN
    assert run(capsys, image, "--golden", mine, "--record")[0] == 0
    status, report = run(capsys, image, "--golden", mine)
    assert (status, set(verdicts(report).values())) == (0, {verify.PASS})
    ((digest, entry),) = json.loads(mine.read_text()).items()
    entry["logits"] = "0" * 64
    entry["cycles"]["1"] += 1
    mine.write_text(json.dumps({digest: entry}))
    status, report = run(capsys, image, "--golden", mine)
    assert (status, report["passed"]) == (1, False)
    failed = [name for name, verdict in verdicts(report).items() if verdict == verify.FAIL]
    assert failed == ["golden logits", "cycles"]


def test_a_second_record_replaces_the_first(image, tmp_path, capsys):
    """An image compiled anew has another digest; the stale entry goes."""
    mine = tmp_path / "golden.json"
    mine.write_text(json.dumps({"0" * 64: {"image": "other", "logits": "", "cycles": {}}}))
    for tool in ("one", "two"):
        edit_manifest(image, lambda m, tool=tool: m.update(tool=tool))
        assert run(capsys, image, "--golden", mine, "--record")[0] == 0
    assert len(json.loads(mine.read_text())) == 2
    assert verdicts(run(capsys, image, "--golden", mine)[1])["golden logits"] == verify.PASS


@pytest.mark.parametrize("name", ["tokenizer.json", "tables.safetensors", "layer-001.safetensors"])
def test_one_byte(image, name, capsys):
    """The file is named, in the table as in JSON, and nothing is run on it."""
    data = bytearray((image / name).read_bytes())
    data[len(data) // 2] ^= 4
    (image / name).write_bytes(data)
    fails_at(name, image, capsys)


def test_one_digit_of_the_manifest(image, capsys):
    """Another file holds the hash of all but rom.json; that one holds its own."""
    text = (image / "rom.json").read_text()
    assert '"context": 256' in text
    (image / "rom.json").write_text(text.replace('"context": 256', '"context": 255'))
    fails_at("rom.json", image, capsys)


def fails_at(name: str, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, report = run(capsys, image)
    assert status == 1
    (check,) = report["checks"]
    assert (check["check"], check["verdict"]) == ("image", verify.FAIL)
    assert check["detail"].startswith(f"{image / name}: its content has changed (SHA-256 differs)")
    assert main(["verify", str(image)]) == 1
    *_, line, verdict = capsys.readouterr().out.splitlines()
    assert line.startswith("FAIL  image")
    assert f"/{name}: its content has changed" in line
    assert verdict == "1 of 1 checks failed"


def test_a_manifest_sealed_anew(image, tmp_path, capsys):
    """Whoever edits can seal: the image is whole, but a known one is known no more."""
    mine = tmp_path / "golden.json"
    mine.write_text("{}")
    run(capsys, image, "--golden", mine, "--record")
    (digest,) = json.loads(mine.read_text())
    assert digest == json.loads((image / "rom.json").read_text())["manifest_sha256"]
    edit_manifest(image, lambda m: m.update(tool="another"))
    status, report = run(capsys, image, "--golden", mine)
    (line,) = (c for c in report["checks"] if c["check"] == "golden logits")
    assert (status, line["verdict"]) == (0, verify.UNKNOWN)
    assert f"its rom.json is not the one recorded, digest {digest[:16]}" in line["detail"]


def test_a_kernel_that_is_wrong(either_image, monkeypatch):
    """One value, one too large: the block and the signal are named."""

    def wrong(residual, delta):
        out = reference.residual_add(residual, delta)
        out[0, 0] ^= 1
        return out

    monkeypatch.setattr(compiled, "residual_add", wrong)
    found = {name: what for name, what in disagreements(Chip(either_image), 0) if what}
    assert found == {"residual_add": "residual"}


def test_every_block_of_a_chip_is_compared(any_image):
    chip = Chip(any_image)
    names = {block.name for stage in chip.stages for block in stage.blocks}
    assert (
        {name for name, what in disagreements(chip, 3) if what is None}
        == names
        <= set(known_blocks())
    )


def test_a_thread_that_matters(either_image, monkeypatch):
    """Logits that change with the number of threads, or with the passes, fail."""
    chip = Chip(either_image)
    true = golden.logits_digest(chip)
    monkeypatch.setattr(verify, "logits_digest", lambda _: f"{compiled.team().threads}")
    verdict, detail = verify._threads(chip, "1")
    assert verdict == verify.FAIL
    assert detail.startswith("2 threads")
    forward = chip.forward

    def split(tokens, all_logits):
        wires = forward(tokens, all_logits)
        wires.logits = wires.logits + np.int32(len(tokens) == 2)
        return wires

    monkeypatch.setattr(chip, "forward", split)
    assert verify._splits(chip)[0] == verify.FAIL
    monkeypatch.undo()
    assert golden.logits_digest(chip) == true


def test_a_body_that_cannot_run(either_image, tmp_path):
    """A process that fails is one line."""
    with pytest.raises(body.EmulatorError, match=r"the process ended with 1: .*not a ROM image"):
        body.run_body(simd.BODY, tmp_path)


def test_the_shipped_golden_file():
    """Every entry is a digest, a logits hash and cycles."""
    for digest, entry in json.loads(golden.GOLDEN.read_text()).items():
        assert len(digest) == len(entry["logits"]) == 64
        assert all(type(n) is int and n > 0 for n in entry["cycles"].values())


def test_the_default_image_has_a_golden(default_home):
    """The image that everybody compiles is the one that is recorded."""
    image = open_image(default_home / embedded_folder().name, check_hashes=False)
    entry = golden.recorded(image)
    assert entry is not None, "run: python -m emulator verify --record"
    assert entry["logits"] == golden.logits_digest(Chip(image, context=1024))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seed", "-1"], "--seed must be 0 or above"),
        (["no-such-model"], "no model 'no-such-model'"),
        (["--golden", "none.json", "."], "no such file"),
    ],
)
def test_refused(words, message, capsys, tiny_image, tmp_path, monkeypatch):
    monkeypatch.setenv("HARDWIRED_HOME", str(tmp_path))
    words = [str(tiny_image.folder) if w == "." else w for w in words]
    status = main(["verify", *words])
    captured = capsys.readouterr()
    assert status in (1, 2)
    assert message in captured.err + captured.out
