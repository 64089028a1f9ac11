"""Every name that the program prints is one that its commands take."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from emulator.images.recipe import EMBEDDED
from tests.support.command_line import Run
from tests.support.paths import ROOT
from weights.hub import KNOWN
from weights.mix import Mix
from weights.rom import RomImage

WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("numba", "llvmlite", "rich"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from emulator.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("name", [EMBEDDED, *KNOWN])
def test_cycles_of_every_name_of_models(here: Run, name: str):
    assert name in here("models").out
    report = here("cycles", "--model", name, "--context", 64, "--json").report
    assert report["model"] == name


def test_cycles_of_files_and_images(here: Run, tiny_checkpoint: Path, tiny_image: RomImage):
    """A folder, its config.json, an image: one shape."""
    paths = (tiny_checkpoint, tiny_checkpoint / "config.json", tiny_image.folder)
    reports = [here("cycles", "--model", p, "--context", 8, "--json").report for p in paths]
    parts = [report["contexts"] for report in reports]
    assert parts[0] == parts[1] == parts[2]


def test_cycles_of_a_name_that_nobody_knows(here: Run):
    here("cycles", "--model", "nonsense").refused("nonsense", "llama-3.1-8b", "owner/repo")


@pytest.mark.parametrize("words", [("cycles", "--context", "64"), ("validate",)], ids=" ".join)
def test_without_numba_and_rich(words: tuple[str, ...]):
    command = [sys.executable, "-c", WITHOUT, *words, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["schema"] == 1


def test_compile_takes_the_embedded_name(here: Run, tiny_checkpoint: Path, monkeypatch):
    """What `compile smollm2-135m` makes is what every other command looks for."""
    from emulator.images import make, recipe
    from weights.sources import open_checkpoint

    monkeypatch.setattr(make, "checkpoint_of", lambda name: open_checkpoint(tiny_checkpoint))
    small = open_checkpoint(tiny_checkpoint).config
    monkeypatch.setattr("emulator.timing.models.known_model", lambda name: small)
    monkeypatch.setattr(recipe, "default_quantiser", lambda config: "fast")
    made = here("compile", EMBEDDED, "--json").report["image"]
    assert Path(made) == recipe.embedded_folder()
    assert here("info", EMBEDDED, "--json").report["image"] == made


def test_a_long_mix_is_printed_short():
    """People see the classes and a count, files and --json the whole."""
    long = "3,q=6,embedding=6," + ",".join(f"{i}.down=6" for i in range(30))
    assert Mix.parse(long).short == "3,q=6,embedding=6 and 30 exceptions"
    assert Mix.parse("3,v=6,0=6,29.down=4").short == "3,v=6,0=6,29.down=4"


def test_trace_writes_where_it_is_told(here: Run, tmp_path: Path, monkeypatch):
    """A file, or a folder; git does not see what the default leaves in a clone."""
    monkeypatch.chdir(tmp_path)
    words = ("trace", "--model", EMBEDDED, "--max-tokens", 2)
    assert here(*words).status == 0
    assert here(*words, "--out", "there.json").status == 0
    (tmp_path / "folder").mkdir()
    assert here(*words, "--out", "folder").out.startswith("folder/trace.json: ")
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.json"))
    assert found == ["folder/trace.json", "there.json", "trace.json"]
    assert "trace.json" in (ROOT / ".gitignore").read_text("utf-8").split()


@pytest.mark.parametrize(("typed", "meant"), [("cycels", "cycles"), ("chta", "chat")])
def test_a_mistyped_command(here: Run, typed: str, meant: str):
    here(typed).refused(f"no command {typed!r}: did you mean {meant!r}?")


def test_no_hint_names_a_package_that_no_registry_has():
    """Ours is in none: what is missing is named by its own name."""
    for path in [*ROOT.glob("emulator/**/*.py"), *ROOT.glob("weights/**/*.py")]:
        assert "pip install 'hardwired" not in path.read_text("utf-8"), path
        assert "pip install hardwired" not in path.read_text("utf-8"), path
