"""Other packages of the names `kernels`, `weights` and `emulator`, and what is missing."""

from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from tests.installation.conftest import ROOT, Archives, Done, Environment, empty_environment, run

FOREIGN = "raise SystemExit('the neighbour ran')\n"
TELL = "import sys; from emulator.installation import problem; print(problem())"


@pytest.fixture
def environment(installed: Environment, tmp_path) -> Environment:
    """A copy of the environment that holds our wheel."""
    return Environment(shutil.copytree(installed.folder, tmp_path / "environment", symlinks=True))


def neighbour(folder: Path, package: str, text: str = FOREIGN) -> Path:
    """A wheel that anybody might publish: version 0.9.0 of `package`, with two modules."""
    wheel = folder / f"{package}-0.9.0-py3-none-any.whl"
    about = f"{package}-0.9.0.dist-info"
    files = {
        f"{package}/__init__.py": text,
        f"{package}/layer.py": text,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 0.9.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in (*files, f"{about}/RECORD"))
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in {**files, f"{about}/RECORD": record}.items():
            archive.writestr(name, content)
    return wheel


def refused(done: Done, *words: object) -> None:
    """Status 2, and one line that holds the words and the remedy."""
    assert done.status == 2, done.out + done.err
    (line,) = done.err.splitlines()
    assert line.startswith("error: ")
    for word in (*words, "install hardwired-llama again", "pipx or uv tool"):
        assert str(word) in line
    assert done.out == ""


def test_a_whole_installation_starts(installed: Environment):
    """And looks up no metadata for it."""
    script, module = installed.starts("--help")
    assert "usage: hardwired-llama " in script.checked().out
    assert "usage: python -m emulator " in module.checked().out
    told = installed.python("-c", f"{TELL}; print('importlib.metadata' in sys.modules)")
    assert told.checked().out.split() == ["None", "False"]


def test_a_neighbour_after_us(environment: Environment, tmp_path):
    """Its files lie over ours; none of them is run. When it goes, our file goes with it."""
    environment.install(neighbour(tmp_path, "kernels"))
    file = environment.site / "kernels" / "__init__.py"
    for done in environment.starts("--help"):
        refused(done, f"{file} is not hardwired-llama's: the package kernels 0.9.0")
    asked = environment.python("-c", "from emulator import installation as i; i.check()")
    assert "InstallationError" in asked.err
    assert "the package kernels 0.9.0" in asked.err
    environment.pip("uninstall", "--yes", "kernels")
    for done in environment.starts("--help"):
        refused(done, f"{file} is missing")


def test_a_neighbour_before_us(archives: Archives, tmp_path):
    """Our files lie over its own; one of its modules is left among them."""
    environment = empty_environment(tmp_path / "environment")
    environment.install(neighbour(tmp_path, "kernels"))
    environment.install(archives.wheel, "--no-compile")
    for done in environment.starts("--help"):
        file = environment.site / "kernels" / "layer.py"
        refused(done, f"{file} is not hardwired-llama's: the package kernels 0.9.0")


def test_another_emulator(environment: Environment, tmp_path):
    """Its first lines run, since Python reads them before any line of ours; then we look."""
    environment.install(neighbour(tmp_path, "emulator", "theirs = True\n"))
    for done in environment.starts("--help"):
        refused(done, "emulator/__init__.py is not", "the package emulator 0.9.0")


@pytest.mark.parametrize(
    "name", ["emulator/errors.py", "kernels/tables.py", "weights/__init__.py"], ids=str
)
def test_a_missing_file(environment: Environment, name):
    (environment.site / name).unlink()
    for done in environment.starts("--help"):
        refused(done, f"{environment.site / name} is missing")


def test_a_file_of_ours_that_was_edited(environment: Environment):
    """Whoever tries something in the installed files is left alone."""
    with (environment.site / "kernels" / "tables.py").open("a") as file:
        file.write("# tried\n")
    for done in environment.starts("--help"):
        done.checked()


def test_a_checkout_behind_a_neighbour(tmp_path):
    """A clone has no list of files, but the three packages lie side by side."""
    shutil.copytree(ROOT / "emulator", tmp_path / "clone" / "emulator")
    for package in ("kernels", "weights"):
        (tmp_path / "clone" / package).mkdir()
        (tmp_path / "clone" / package / "__init__.py").touch()
    (tmp_path / "first" / "kernels").mkdir(parents=True)
    (tmp_path / "first" / "kernels" / "__init__.py").write_text(FOREIGN)
    paths = [str(tmp_path / "first"), str(tmp_path / "clone")]
    code = (
        f"import sys; sys.path[:0] = {paths}; from emulator.__main__ import main; sys.exit(main())"
    )
    done = run(sys.executable, "-c", code, cwd=tmp_path)
    refused(done, f"{tmp_path / 'first' / 'kernels' / '__init__.py'} comes before")
