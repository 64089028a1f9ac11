"""The archives, and environments to install them into, without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOT_COPIED = (".[!c]*", ".cache*", "__pycache__", "*.egg-info", "build", "dist")


@dataclass(frozen=True, slots=True)
class Archives:
    """What `python -m build` makes of the tree."""

    source: Path
    wheel: Path


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment with nothing in it."""

    folder: Path

    @property
    def programs(self) -> Path:
        return self.folder / ("Scripts" if os.name == "nt" else "bin")

    @property
    def site(self) -> Path:
        (site,) = self.folder.glob("[Ll]ib/**/site-packages")
        return site

    def pip(self, *words: object) -> None:
        """Run pip on this environment; it comes from the one of the tests."""
        run(sys.executable, "-m", "pip", "--python", self.programs / "python", *words).checked()

    def install(self, wheel: Path, *options: str) -> None:
        self.pip("install", "--no-deps", "--no-index", *options, wheel)

    def python(self, *words: object) -> Done:
        return run(self.programs / "python", *words, cwd=self.folder)

    def starts(self, *words: object) -> tuple[Done, Done]:
        """The console script and the module."""
        script = self.programs / "hardwired-llama"
        return self.python(script, *words), self.python("-m", "emulator", *words)


@dataclass(frozen=True, slots=True)
class Done:
    """A process that has ended."""

    status: int
    out: str
    err: str

    def checked(self) -> Done:
        assert self.status == 0, self.out + self.err
        return self


def run(*words: object, cwd: Path = ROOT) -> Done:
    """Run a program that sees no module of the tests' own search path."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [str(word) for word in words]
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def archives(tmp_path_factory) -> Archives:
    """The source archive of a copy of the tree, and the wheel built from that archive."""
    folder = tmp_path_factory.mktemp("archives")
    tree = shutil.copytree(ROOT, folder / "tree", ignore=shutil.ignore_patterns(*NOT_COPIED))
    out = folder / "out"
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, cwd=tree).checked()
    (source,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return Archives(source, wheel)


def empty_environment(folder: Path) -> Environment:
    """A new environment, which holds not even pip."""
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    return Environment(folder)


@pytest.fixture(scope="session")
def installed(archives, tmp_path_factory) -> Environment:
    """An environment with our wheel. Tests that change it take a copy."""
    environment = empty_environment(tmp_path_factory.mktemp("installed"))
    environment.install(archives.wheel)
    return environment
