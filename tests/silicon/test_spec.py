"""The chip description: the shipped one is whole, and every way to break one names its key."""

from __future__ import annotations

from pathlib import Path

import pytest

from emulator.errors import ChipError
from emulator.silicon.spec import DEFAULT_SPEC, GRADES, load_spec

TEXT = DEFAULT_SPEC.read_text("utf-8")
LANES = next(line for line in TEXT.splitlines() if line.startswith("lanes = { value = 16"))
SOURCE = LANES[LANES.index("source") :].removesuffix(" }")


def test_hc1_loads():
    spec = load_spec()
    assert spec.name == "hc1"
    assert spec.clock_hz == spec.clock.frequency.value > 0


@pytest.mark.parametrize(("name", "constant"), list(load_spec().constants()))
def test_every_constant_says_where_it_comes_from(name, constant):
    """Unit, range around the value, a grade and a source."""
    assert constant.unit, name
    assert constant.range[0] <= constant.value <= constant.range[1]
    assert constant.range[1] > 0
    assert constant.grade in GRADES
    assert len(constant.source) > 10


def test_every_line_of_the_file_is_read():
    """The loader yields as many constants as the file has lines with a value."""
    assert TEXT.count("{ value = ") == len(list(load_spec().constants()))


def broken(tmp_path: Path, old: str, new: str) -> Path:
    """hc1.toml with one change."""
    assert old in TEXT
    path = tmp_path / "chip.toml"
    path.write_text(TEXT.replace(old, new, 1))
    return path


CASES = {
    "not TOML": ("[clock]", "[clock", r"not TOML: .*line 15"),
    "unknown key": (LANES, LANES + "\nhue = 3", r"line {next}: unknown key fabric\.hue"),
    "missing key": (LANES, "", r"line {section}: key fabric\.lanes is missing"),
    "unknown part of a constant": (
        "value = 16,",
        "value = 16, hue = 3,",
        r"line {line}: fabric\.lanes",
    ),
    "above its range": (
        "value = 16,",
        "value = 65,",
        r"line {line}: fabric\.lanes = 65 .* 8 to 64",
    ),
    "below its range": ("value = 16,", "value = 7,", r"line {line}: fabric\.lanes = 7 .* 8 to 64"),
    "not a number": ("value = 16,", "value = nan,", r"line {line}: fabric\.lanes: value and range"),
    "infinite": ("value = 16,", "value = inf,", r"fabric\.lanes: value and range .* finite"),
    "beyond floats": ("[8, 64]", f"[8, 1{'0' * 400}]", r"fabric\.lanes: value and range"),
    "half a lane": (
        "value = 16,",
        "value = 16.5,",
        r"line {line}: fabric\.lanes .* whole .* 8 to 64",
    ),
    "bad grade": (LANES, LANES.replace('"estimate"', '"guess"'), r"fabric\.lanes: grade 'guess'"),
    "no source": (LANES, LANES.replace(f", {SOURCE}", ""), r"fabric\.lanes must hold exactly"),
    "empty source": (
        LANES,
        LANES.replace(SOURCE, 'source = ""'),
        r"fabric\.lanes: unit and source",
    ),
    "another unit": (
        LANES,
        LANES.replace("activations/cycle", "Hz"),
        r"line {line}: fabric\.lanes = 16 has unit 'Hz', not 'activations/cycle' \(range 8 to 64\)",
    ),
    "text value": ("value = 16,", 'value = "16",', r"fabric\.lanes: value and range"),
    "truth value": ("value = 16,", "value = true,", r"fabric\.lanes: value and range"),
    "range of one": ("[8, 64]", "[8]", r"fabric\.lanes: value and range"),
    "range as text": ("[8, 64]", '"8 to 64"', r"fabric\.lanes: value and range"),
    "range from nothing": ("[8, 64]", "[0, 64]", r"fabric\.lanes divides work .* at 1 or above"),
    "range without end": ("[8, 64]", "[8, inf]", r"fabric\.lanes: value and range .* finite"),
    "bare number": (LANES, "lanes = 16", r"fabric\.lanes must hold exactly"),
    "line break in a key": (LANES, f'"hue\\n" = 1\n{LANES}', r"unknown key fabric\.hue *;"),
    "unknown section": ("[clock]", "[lamp]\n[clock]", r"line 15: unknown section \[lamp\]"),
    "value before what is missing": (
        f"[fabric]\n{LANES}",
        f"[fabric]\n{LANES.replace('value = 16', 'value = 99')}\n[lamp]",
        r"line {line}: fabric\.lanes = 99",
    ),
    "missing section": ("[top_k]", "[bottom_k]", r"section \[top_k\] is missing"),
    "head without title": ("title =", "subtitle =", r"\[chip\] must hold name and title"),
    "deployment's value": (
        "value = 10.6",
        "value = 99.5",
        r"deployment\.2026-09\.decode_step = 99",
    ),
}


@pytest.mark.parametrize(("old", "new", "message"), CASES.values(), ids=CASES)
def test_a_broken_description_names_its_key(tmp_path, old, new, message):
    """One line: the file, the line, the key and what is wrong."""
    path = broken(tmp_path, old, new)
    line = TEXT[: TEXT.index(LANES)].count("\n") + 1
    for word, number in {"line": line, "next": line + 1, "section": line - 1}.items():
        message = message.replace(f"{{{word}}}", str(number))
    with pytest.raises(ChipError, match=message) as caught:
        load_spec(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    """Missing, a folder, bytes that are not UTF-8, brackets without end."""
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "deep.toml").write_text("a=" + "[" * 100_000)
    for name in ("none.toml", ".", "a\0b", "binary.toml", "deep.toml"):
        with pytest.raises(ChipError, match=r"cannot be read|not TOML"):
            load_spec(tmp_path / name)


def test_a_variant_changes_one_constant():
    spec = load_spec()
    for key, changed in (("fabric.lanes", 32), ("deployment.2026-03.decode_step", 5.0)):
        before, after = dict(spec.constants()), dict(spec.with_value(key, changed).constants())
        assert after[key].value == changed
        assert {k for k in before if before[k] != after[k]} == {key}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("fabric.lane", 16, r"unknown key fabric\.lane; try fabric\.lanes"),
        ("fabric.lanes", 99, r"fabric\.lanes = 99 is outside its range 8 to 64"),
        ("fabric.lanes", 8.5, r"fabric\.lanes = 8\.5 must be a whole number"),
    ],
)
def test_an_impossible_variant(key, value, message):
    with pytest.raises(ChipError, match=message):
        load_spec().with_value(key, value)
