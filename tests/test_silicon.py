"""The chip description: the shipped one is whole, and every way to break one names its key."""

from __future__ import annotations

from pathlib import Path

import pytest

from emulator.errors import ChipError
from emulator.silicon.spec import DEFAULT_CHIP, GRADES, load_chip

TEXT = DEFAULT_CHIP.read_text("utf-8")
LANES = next(line for line in TEXT.splitlines() if line.startswith("lanes = { value = 16"))
SOURCE = LANES[LANES.index("source") :].removesuffix(" }")


def test_hc1_loads():
    spec = load_chip()
    assert spec.name == "hc1"
    assert spec.clock_hz == spec.clock.frequency.value > 0


@pytest.mark.parametrize(("name", "constant"), list(load_chip().constants()))
def test_every_constant_says_where_it_comes_from(name, constant):
    """Unit, range around the value, a grade and a source."""
    assert constant.unit, name
    assert constant.range[0] <= constant.value <= constant.range[1]
    assert constant.range[1] > 0
    assert constant.grade in GRADES
    assert len(constant.source) > 10


def test_every_line_of_the_file_is_read():
    """The loader yields as many constants as the file has lines with a value."""
    assert TEXT.count("{ value = ") == len(list(load_chip().constants()))


def broken(tmp_path: Path, old: str, new: str) -> Path:
    """hc1.toml with one change."""
    assert old in TEXT
    path = tmp_path / "chip.toml"
    path.write_text(TEXT.replace(old, new, 1))
    return path


CASES = {
    "not TOML": ("[clock]", "[clock", "not TOML"),
    "unknown key": (LANES, LANES + "\nhue = 3", r"unknown key fabric\.hue"),
    "missing key": (LANES, "", r"key fabric\.lanes is missing"),
    "unknown part of a constant": ("value = 16,", "value = 16, hue = 3,", r"fabric\.lanes"),
    "above its range": ("value = 16,", "value = 65,", r"fabric\.lanes = 65 is outside"),
    "below its range": ("value = 16,", "value = 7,", r"fabric\.lanes = 7 is outside"),
    "not a number": ("value = 16,", "value = nan,", r"fabric\.lanes: value and range"),
    "bad grade": (LANES, LANES.replace('"estimate"', '"guess"'), r"fabric\.lanes: grade 'guess'"),
    "no source": (LANES, LANES.replace(f", {SOURCE}", ""), r"fabric\.lanes must hold exactly"),
    "empty source": (LANES, LANES.replace(SOURCE, 'source = ""'), r"fabric\.lanes: unit and sourc"),
    "no unit": (LANES, LANES.replace("activations/cycle", ""), r"fabric\.lanes: unit and source"),
    "text value": ("value = 16,", 'value = "16",', r"fabric\.lanes: value and range"),
    "truth value": ("value = 16,", "value = true,", r"fabric\.lanes: value and range"),
    "infinite": ("value = 16,", "value = inf,", r"fabric\.lanes: value and range .* finite"),
    "range without end": ("[8, 64]", "[8, inf]", r"fabric\.lanes: value and range .* finite"),
    "beyond floats": ("[8, 64]", f"[8, 1{'0' * 400}]", r"fabric\.lanes: value and range"),
    "range from zero": ("[8, 64]", "[0, 64]", r"fabric\.lanes divides work .* at 1 or above"),
    "range of one": ("[8, 64]", "[8]", r"fabric\.lanes: value and range"),
    "range as text": ("[8, 64]", '"8 to 64"', r"fabric\.lanes: value and range"),
    "bare number": (LANES, "lanes = 16", r"fabric\.lanes must hold exactly"),
    "unknown section": ("[clock]", "[lamp]\n[clock]", r"unknown section \[lamp\]"),
    "missing section": ("[top_k]", "[bottom_k]", r"section \[top_k\] is missing"),
    "head without title": ("title =", "subtitle =", r"\[chip\] must hold name and title"),
}


@pytest.mark.parametrize(("old", "new", "message"), CASES.values(), ids=CASES)
def test_a_broken_description_names_its_key(tmp_path, old, new, message):
    """One line: the file, the key and what is wrong."""
    path = broken(tmp_path, old, new)
    with pytest.raises(ChipError, match=message) as caught:
        load_chip(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    """Missing, a folder, a name that no file has, bytes that are not UTF-8, and TOML too deep."""
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "deep.toml").write_text("a=" + "[" * 100_000)
    for name in ("none.toml", ".", "a\0b", "binary.toml", "deep.toml"):
        path = tmp_path / name
        with pytest.raises(ChipError, match=r"cannot be read|not TOML"):
            load_chip(path)
