"""Imports point down the floors, in functions too. The rules are in `tests.support.floors`."""

from __future__ import annotations

import shutil

import pytest

from tests.support.floors import PACKAGES, ROOT, House, offences


def test_the_files_are_found():
    """Guards the other tests against an empty list."""
    house = House()
    assert {"emulator.chip", "kernels.reference", "weights.rom"} <= set(house.files)
    assert "kernels.reference" in house.imports("kernels.compiled")


def test_the_house_is_in_order():
    """No arrow up, no circle, no command that somebody else imports."""
    assert list(offences(House())) == []


PLANTED = {  # where, what is added, what is said of it
    "a circle at load time": (
        "kernels/rom/wiring.py",
        "from kernels.rom import pack\n",
        "circle: kernels.rom.pack -> kernels.rom.wiring -> kernels.rom.pack",
    ),
    "a circle inside a function": (
        "kernels/tables.py",
        "def late():\n    from kernels import reference\n",
        "circle: kernels.reference -> kernels.tables -> kernels.reference",
    ),
    "an arrow up": (
        "emulator/blocks/rope.py",
        "from emulator.chip import Chip\n",
        "emulator.blocks.rope imports emulator.chip, which is not below it",
    ),
    "an arrow up inside a function": (
        "emulator/timing/schedule.py",
        "def late():\n    from emulator.chat import generate\n",
        "emulator.timing.schedule imports emulator.chat.generate, which is not below it",
    ),
    "an arrow up for types only": (
        "weights/rom.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
        "    from emulator.silicon.spec import ChipSpec\n",
        "weights.rom imports emulator.silicon.spec, which weights may not know",
    ),
    "a command that quality imports": (
        "emulator/quality/harness.py",
        "def late():\n    from emulator.commands import run\n",
        "emulator.quality.harness imports the command emulator.commands.run",
    ),
    "a command that verification imports": (
        "emulator/verification/golden.py",
        "import emulator.commands.run\n",
        "emulator.verification.golden imports the command emulator.commands.run",
    ),
    "a relative import": (
        "emulator/silicon/cost.py",
        "from .. import chip\n",
        "emulator.silicon.cost imports emulator.chip, which is not below it",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_offence_is_found(tmp_path, name):
    """Each rule fails on a copy of the house that breaks it."""
    file, addition, said = PLANTED[name]
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__", "*.html", "*.js", "*.css")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    path = tmp_path / file
    path.write_text(path.read_text("utf-8") + addition, "utf-8")
    found = list(offences(House(tmp_path)))
    assert any(said in line for line in found), found


def test_a_package_without_a_floor_is_named(tmp_path):
    """Whoever adds a package says where it stands."""
    (tmp_path / "emulator").mkdir()
    (tmp_path / "emulator" / "new.py").write_text("import emulator.chip\n")
    with pytest.raises(LookupError, match="new stands on no floor"):
        list(offences(House(tmp_path)))
