"""The source archive and the wheel: complete, well described, and good to work with."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

from tests.installation.conftest import ROOT, Archives, run

PACKAGES = ("emulator", "kernels", "weights")
BESIDE = ("tests", "docs", "benchmarks")
FILES = (
    ".ci/say",
    "CHANGELOG.md",
    "LICENSE",
    "MANIFEST.in",
    "Makefile",
    "README.md",
    "mkdocs.yml",
    "pyproject.toml",
)


def files_of(*folders: str) -> set[str]:
    """Every file of the tree's folders but what Python and editors leave there."""
    return {
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
        and path.suffix != ".tmp"
        and "__pycache__" not in path.parts
        and not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
    }


@pytest.fixture(scope="module")
def wheel_files(archives: Archives) -> set[str]:
    with zipfile.ZipFile(archives.wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def about(archives: Archives) -> Message:
    """The wheel's metadata."""
    with zipfile.ZipFile(archives.wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def test_the_wheel_holds_the_packages_and_nothing_else(wheel_files):
    """Data files too: chip, page, calibration text, goldens, `py.typed`."""
    packed = {name for name in wheel_files if ".dist-info/" not in name}
    assert packed == files_of(*PACKAGES)
    assert {f"{package}/py.typed" for package in PACKAGES} <= packed


def test_the_wheel_installs_a_console_script(archives: Archives, wheel_files):
    (name,) = (name for name in wheel_files if name.endswith("/entry_points.txt"))
    with zipfile.ZipFile(archives.wheel) as archive:
        text = archive.read(name).decode()
    assert text.split() == ["[console_scripts]", "hardwired-llama", "=", "emulator.__main__:main"]
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel_files)
    for library in ("markdown-it", "dompurify"):
        assert any(name.endswith(f"/{library}.LICENSE") for name in wheel_files)


def test_what_the_index_is_told(about: Message):
    assert about["Name"] == "hardwired-llama"
    assert about["License-Expression"] == "Apache-2.0 AND MIT AND BSD-2-Clause"
    assert about["Description-Content-Type"] == "text/markdown"
    assert about["Keywords"]
    needed = [line for line in about.get_all("Requires-Dist", []) if "extra ==" not in line]
    for name in ("starlette", "uvicorn", "llguidance", "prometheus_client", "shtab"):
        assert any(line.startswith(name) for line in needed)
    assert "serve" in about.get_all("Provides-Extra", [])  # for whoever asks for it by name


def test_classifiers_follow_the_versions_of_python(about: Message):
    classifiers = about.get_all("Classifier", [])
    assert about["Requires-Python"] == "<3.14,>=3.10"
    for version in ("3.10", "3.11", "3.12", "3.13"):
        assert f"Programming Language :: Python :: {version}" in classifiers
    assert "Programming Language :: Python :: 3.14" not in classifiers


def test_twine_finds_no_fault(archives: Archives):
    command = (sys.executable, "-m", "twine", "check", "--strict")
    done = run(*command, archives.source, archives.wheel).checked()
    assert done.out.count("PASSED") == 2


@pytest.fixture(scope="module")
def unpacked(archives: Archives, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(archives.source) as archive:
        archive.extractall(folder)  # our own archive, made a moment ago
    (tree,) = folder.iterdir()
    return tree


def test_the_source_archive_is_the_tree(unpacked: Path):
    packed = {p.relative_to(unpacked).as_posix() for p in unpacked.rglob("*") if p.is_file()}
    missing = files_of(*PACKAGES, *BESIDE).union(FILES) - packed
    assert missing == set()


@pytest.mark.slow
def test_the_source_archive_passes_its_tests(unpacked: Path, tmp_path, monkeypatch):
    """All are collected, so that whatever a test file imports is there; a few files run.

    Slow, since numba compiles the kernels anew for sources at another place.
    """
    monkeypatch.setenv("HARDWIRED_HOME", str(tmp_path))
    chosen = "test_floors or test_fixedpoint or test_silicon or test_fuzz_corpus"
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen)
    assert " passed" in run(*command, cwd=unpacked).checked().out
