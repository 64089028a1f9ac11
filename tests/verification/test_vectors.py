"""Vectors: every block answers its own as recorded, from the files alone; bad files are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import kernels
from emulator.chip import Chip
from emulator.cli import main
from emulator.errors import UsageError
from emulator.verification.vector_files import INDEX, read_vector
from emulator.verification.vectors import commit_log, expected, known_blocks, replay
from tests.support.refusals import refused
from weights.rom import RomImage

TOKENS = [5, 300, 17, 5, 99]
MODELS = ("tied", "untied", "qwen3", "smollm3")


@pytest.fixture(scope="module")
def images(tiny_image, untied_image, qwen3_image, smollm3_image) -> dict[str, RomImage]:
    named = zip(MODELS, (tiny_image, untied_image, qwen3_image, smollm3_image), strict=True)
    return dict(named)


@pytest.fixture(scope="module")
def folders(tmp_path_factory, images: dict[str, RomImage]) -> dict[str, Path]:
    """All vectors of the tiny models, 32 rows a matrix, layer 1."""
    made = {}
    for name, image in images.items():
        made[name] = tmp_path_factory.mktemp(name) / "vectors"
        words = ["--tokens", ",".join(map(str, TOKENS)), "--layer", "1", "--rows", "32"]
        assert (
            main(["vectors", "--image", str(image.folder), "--out", str(made[name]), *words]) == 0
        )
    return made


@pytest.mark.parametrize("backend", kernels.BACKENDS)
@pytest.mark.parametrize("model", MODELS)
def test_every_block_replays(folders, images, model, backend):
    """Each output of each block, kernels and twins, and no block of layer 1 is missing."""
    places = [path.parent for path in folders[model].glob(f"*/{INDEX}")]
    stages = [stage for stage in Chip(images[model]).stages if stage.layer in (None, 1)]
    blocks = {block.name for stage in stages for block in stage.blocks}
    assert {place.name for place in places} == blocks <= set(known_blocks())
    for place in places:
        vector = read_vector(place)
        answers, wanted = replay(vector, kernels.load(backend)), expected(vector)
        assert set(answers) == set(wanted) != set()
        for name, array in wanted.items():
            assert array.dtype == answers[name].dtype
            np.testing.assert_array_equal(answers[name], array, err_msg=f"{place.name}.{name}")


def test_the_vectors_are_those_of_the_chip(folders, tiny_image):
    """The last block's answer is the chip's, and the log ends with its hash."""
    chip = Chip(tiny_image)
    for token in TOKENS:
        wires = chip.forward([token])
    top = read_vector(folders["tied"] / "top_k").arrays["out"]["top"]
    np.testing.assert_array_equal(top, wires.top)
    lines = (folders["tied"] / "commit.log").read_text().splitlines()
    assert lines == list(commit_log(Chip(tiny_image), TOKENS))
    steps = sorted({int(line.split()[0]) for line in lines})
    assert steps == list(range(sum(len(stage.blocks) for stage in chip.stages)))
    twin = Chip(tiny_image, ops=kernels.load("reference"))
    assert lines == list(commit_log(twin, TOKENS))


def test_a_change_shows_where_it_began(tiny_image):
    """Logs of two prompts differ from the first signal that the last token changes."""
    one = list(commit_log(Chip(tiny_image), TOKENS))
    other = list(commit_log(Chip(tiny_image), [*TOKENS[:-1], 100]))
    assert [line.split()[:4] for line in one] == [line.split()[:4] for line in other]
    assert one[0] != other[0]
    older = list(commit_log(Chip(tiny_image), [6, *TOKENS[1:]]))
    first = next(i for i, lines in enumerate(zip(one, older, strict=True)) if len(set(lines)) > 1)
    assert one[first].split()[1:3] == ["layer_0", "attention"]


def test_readmemh_form(folders):
    """Comments, then words of one width, one row of the last axis a line."""
    place = folders["tied"] / "fabric_qkv"
    for signal in json.loads((place / INDEX).read_text())["signals"]:
        head, *lines = (place / signal["file"]).read_text().splitlines()
        assert head.startswith(f"// {signal['role']} {signal['name']}: {signal['type']}[")
        words = [line.split() for line in lines]
        assert {len(word) for row in words for word in row} == {signal["bits"] // 4}
        assert {len(row) for row in words} == {signal["shape"][-1]}


def index_change(**change):
    def apply(place: Path) -> None:
        index = json.loads((place / INDEX).read_text())
        index["signals"][0].update(change)
        (place / INDEX).write_text(json.dumps(index))

    return apply


BROKEN = {
    "no index": (lambda p: (p / INDEX).unlink(), "no such file"),
    "not JSON": (lambda p: (p / INDEX).write_text("{"), "not JSON"),
    "other format": (lambda p: (p / INDEX).write_text("{}"), "no index of vectors"),
    "huge shape": (index_change(shape=[1 << 32, 1 << 32]), "too short for"),
    "negative shape": (index_change(shape=[-1]), "shape must be whole numbers from 1"),
    "other shape": (index_change(shape=[1]), "words, not"),
    "traversal": (index_change(file="../x"), "file must be a plain file name"),
    "type": (index_change(type="float64"), "type must be one of"),
    "role": (index_change(role="clock"), "role must be one of"),
    "missing file": (index_change(file="none.hex"), "cannot be read"),
    "digits": (lambda p: edit(p, "in.x.hex", " ", "  0 "), "words must have 2 digits"),
    "letters": (lambda p: edit(p, "in.x.hex", " 0", " z"), "no hexadecimal words"),
    "one digit": (lambda p: edit(p, "in.x.hex", " 0", " 1"), "its content has changed"),
    "cut": (lambda p: (p / "in.x.hex").write_text(""), "too short"),
}


def edit(place: Path, file: str, old: str, new: str) -> None:
    lines = (place / file).read_text().splitlines()
    assert old in lines[1]
    (place / file).write_text("\n".join([lines[0], lines[1].replace(old, new, 1), *lines[2:]]))


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_files(folders, tmp_path, capsys, change, message):
    place = Path(shutil.copytree(folders["tied"] / "fabric_qkv", tmp_path / "fabric_qkv"))
    change(place)
    refused(UsageError, message, lambda: read_vector(place))
    if (place / INDEX).exists():
        assert main(["vectors", "--replay", str(tmp_path)]) == 1
        assert capsys.readouterr().out.count("\n") == 1


def test_a_vector_without_an_array(folders):
    vector = read_vector(folders["tied"] / "attention")
    del vector.arrays["memory"]["k_scale"]
    refused(UsageError, "attention: its vector is not whole", lambda: replay(vector, None))
    vector.block = "softmax"
    refused(UsageError, "no block 'softmax'", lambda: replay(vector, None))


def test_replay_command(folders, capsys, tmp_path):
    """Right vectors pass; a wrong answer is named."""
    assert main(["vectors", "--replay", str(folders["untied"]), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["blocks"]
    assert len(rows) == len([*folders["untied"].glob(f"*/{INDEX}")]) > 10
    assert all(row["problem"] is None for row in rows)
    place = tmp_path / "residual_add"
    shutil.copytree(folders["tied"] / "residual_add", place)
    index = json.loads((place / INDEX).read_text())
    one, two = (s for s in index["signals"] if s["name"] == "residual")
    one["file"], two["file"] = two["file"], one["file"]
    one["sha256"], two["sha256"] = two["sha256"], one["sha256"]
    (place / INDEX).write_text(json.dumps(index))
    assert main(["vectors", "--replay", str(tmp_path)]) == 1
    assert "differs: out.residual" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--block", "softmax"], "no block 'softmax'; the chip has attention"),
        (["--layer", "2"], "no layer 2; the model has 2"),
        (["--rows", "0"], "--rows must be at least 1"),
        (["--tokens", "1,x"], "--tokens must be numbers"),
        (["--tokens", "320"], "ids from 0 to 319"),
    ],
)
def test_refused(words, message, tiny_image, tmp_path, capsys):
    """Nothing is left behind."""
    where = ["--image", str(tiny_image.folder), "--out", str(tmp_path / "a" / "out")]
    assert main(["vectors", *where, *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "a").exists() or list((tmp_path / "a").iterdir()) == []


def test_one_block_and_a_folder_in_the_way(tiny_image, tmp_path, capsys):
    words = ["vectors", "--image", str(tiny_image.folder), "--out", str(tmp_path / "out")]
    assert main([*words, "--block", "swiglu"]) == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"swiglu", "commit.log"}
    assert main(words) == 2
    assert "other files are there" in capsys.readouterr().err
