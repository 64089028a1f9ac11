"""The learned file: what is saved is what comes back, it fits one image, damage is one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from emulator.errors import UsageError
from kernels.rom.pack import unpack_codes, untile_rows
from tests.support.learned import changes, write_learned_file
from weights.learned_file import Learned, load
from weights.learned_masks import write_learned
from weights.rom import RomImage, open_image


def rewrite(path: Path, change) -> None:
    """The file with its arrays changed and its own hash kept."""
    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
    arrays = load_file(path)
    change(arrays)
    save_file(arrays, path, metadata)


def test_round_trip(either_image: RomImage, tmp_path: Path):
    """Every code moves as was told, every scale is the told one; the rest of the image stays."""
    learned = write_learned_file(either_image, tmp_path / "file")
    write_learned(either_image, learned, tmp_path / "image")
    image, told = open_image(tmp_path / "image"), changes(either_image)
    for name, m in image.matrices.items():
        old, change = either_image.matrices[name], told[name]
        codes = unpack_codes(m.codes, m.rows, m.bits).astype(int)
        before = unpack_codes(old.codes, old.rows, old.bits).astype(int)
        assert np.array_equal(codes - before, change.moves)
        assert np.array_equal(untile_rows(m.group_scale, m.rows), change.group_scale)
        assert np.array_equal(m.row_mantissa, change.row_mantissa)
        assert np.array_equal(m.alphabet, old.alphabet)
    assert set(image.vectors) == set(either_image.vectors)
    for name, vector in image.vectors.items():
        assert np.array_equal(vector, either_image.vectors[name])
    assert image.manifest["quantiser"] == "learned"
    assert image.manifest["learned"] == {"base": either_image.digest, "sha256": learned.digest}
    assert image.manifest["mix"] == either_image.manifest["mix"]
    assert image.tokenizer_json == either_image.tokenizer_json


def test_the_same_bytes_again(tiny_image: RomImage, tmp_path: Path):
    """Of the image; a file's hash is of its content, whose order safetensors leaves open."""
    digests = set()
    for name in ("one", "two"):
        learned = write_learned_file(tiny_image, tmp_path / name)
        write_learned(tiny_image, learned, tmp_path / f"{name} image")
        digests.add((learned.digest, open_image(tmp_path / f"{name} image").digest))
    assert len(digests) == 1


def test_moves_are_small(tiny_image: RomImage, tmp_path: Path):
    """Where few codes move: far below a bit each."""
    told = {n: replace(c, moves=np.zeros_like(c.moves)) for n, c in changes(tiny_image).items()}
    Learned({"base": ""}, told).save(tmp_path / "file")
    arrays = load_file(tmp_path / "file")
    packed = sum(a.nbytes for name, a in arrays.items() if name.endswith(".moves"))
    assert packed * 8 < 0.1 * sum(change.moves.size for change in told.values())


def test_another_image_is_refused(tiny_image: RomImage, untied_image: RomImage, tmp_path: Path):
    learned = write_learned_file(tiny_image, tmp_path / "file")
    with pytest.raises(UsageError, match=f"learned from the masks {tiny_image.digest[:8]}"):
        write_learned(untied_image, learned, tmp_path / "image")
    assert not (tmp_path / "image").exists()


@pytest.mark.parametrize("at", [40, -5])
def test_a_changed_byte_is_noticed(tiny_image: RomImage, tmp_path: Path, at: int):
    """Of the header or of the last array."""
    path = tmp_path / "file"
    write_learned_file(tiny_image, path)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(UsageError, match="file"):
        load(path)


def test_a_cut_file_is_noticed(tiny_image: RomImage, tmp_path: Path):
    path = tmp_path / "file"
    write_learned_file(tiny_image, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UsageError, match="truncated"):
        load(path)


def test_foreign_files_are_refused(tmp_path: Path):
    """A missing file, one of another kind, one of a later version."""
    path = tmp_path / "file"
    with pytest.raises(UsageError, match="cannot be read"):
        load(path)
    save_file({"x": np.zeros(3, np.int8)}, path)
    with pytest.raises(UsageError, match="not a learned file"):
        load(path)
    save_file({}, path, {"learned": '{"format": "hardwired-learned", "version": 2}', "sha256": ""})
    with pytest.raises(UsageError, match="newer program's"):
        load(path)


BROKEN = {  # a hash that fits, so that only the content is wrong
    "too many moves": (lambda c: replace(c, moves=np.zeros((9, 64), np.int8)), "does not unpack"),
    "a move out of the alphabet": (
        lambda c: replace(c, moves=np.ones_like(c.moves)),
        "a move leaves the alphabet",
    ),
    "a scale too few": (lambda c: replace(c, group_scale=c.group_scale[:-1]), "group_scale is"),
    "a mantissa too small": (
        lambda c: replace(c, row_mantissa=np.full_like(c.row_mantissa, 5)),
        "row_mantissa holds values",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_content_that_does_not_fit(tiny_image: RomImage, tmp_path: Path, what: str):
    """Nothing of the image stays."""
    change, said = BROKEN[what]
    told = changes(tiny_image)
    told["layers.1.up"] = change(told["layers.1.up"])
    Learned({"base": tiny_image.digest}, told).save(tmp_path / "file")
    with pytest.raises(UsageError, match=said):
        write_learned(tiny_image, load(tmp_path / "file"), tmp_path / "out" / "image")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_missing_matrix(tiny_image: RomImage, tmp_path: Path):
    told = changes(tiny_image)
    del told["embedding"]
    Learned({"base": tiny_image.digest}, told).save(tmp_path / "file")
    with pytest.raises(UsageError, match=r"embedding\.moves is missing"):
        write_learned(tiny_image, load(tmp_path / "file"), tmp_path / "image")


def test_a_foreign_array_is_noticed(tiny_image: RomImage, tmp_path: Path):
    """Also where the safetensors file itself is in order."""
    path = tmp_path / "file"
    write_learned_file(tiny_image, path)
    rewrite(path, lambda arrays: arrays.update(extra=np.zeros(3, np.int8)))
    with pytest.raises(UsageError, match="SHA-256 differs"):
        load(path)
