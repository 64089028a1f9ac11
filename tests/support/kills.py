"""Killed at a random moment: nothing that looks finished is wrong, and the next run completes."""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from numba.core import config

from kernels.host import cache, compilers
from kernels.host.entry import ENTRIES
from tests.support.local_hub import REPOSITORY, LocalHub, tiny_repository
from tests.support.tiny_model import compile_tiny
from weights.checkpoint import sha256_file
from weights.hub import Repository, downloaded, fetch
from weights.rom import open_image

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills need fork")

KILLS = [
    pytest.param(20, id="20 kills"),
    pytest.param(200, id="200 kills", marks=pytest.mark.slow),
]
LIMIT_S = 120  # a run that takes longer is stuck on a lock
KERNEL = """
from kernels.host.entry import entry

@entry("int64(int64)")
def square(n):
    return n * n

@entry("int64(int64)")
def squares(n):
    total = 0
    for i in range(n):
        total += square(i)
    return total
"""


def start(action: Callable[[], None]) -> int:
    """Run `action` in a child; its exit status is 0 when all went well."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 2)
        action()
        status = 0
    finally:
        os._exit(status)


def finish(action: Callable[[], None]) -> float:
    """Seconds of a run to its end, which must come, and be good."""
    began, child = time.monotonic(), start(action)
    while time.monotonic() - began < LIMIT_S:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0
            return time.monotonic() - began
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError(f"not done after {LIMIT_S} s")


def kill_at(action: Callable[[], None], moment_s: float) -> bool:
    """Kill a run after some seconds; whether it was still at work then."""
    child = start(action)
    time.sleep(moment_s)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def adapted(seconds: float, alive: bool) -> float:
    """What a run takes now: other work on the machine comes and goes. Settles at 5 of 6 alive."""
    return seconds * (1.05 if alive else 0.8)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("kills", KILLS)
def test_compile(tmp_path, tiny_checkpoint, kills):
    """A folder under the image's name is the whole image, each byte as without kills."""
    out = tmp_path / "out" / "image"

    def run() -> None:
        compile_tiny(tiny_checkpoint, out)

    seconds = finish(run)
    whole = digests(out)
    rng = random.Random(8)
    at_work = left = 0
    for _ in range(kills):
        for path in sorted(out.iterdir()) if out.exists() else []:
            path.unlink()
        if out.exists():
            out.rmdir()
        alive = kill_at(run, rng.uniform(0, 1.2 * seconds))
        at_work, seconds = at_work + alive, adapted(seconds, alive)
        left += any(path != out for path in out.parent.iterdir())
        if out.exists():  # it looks finished
            assert digests(out) == whole
            open_image(out)
        finish(run)
        assert digests(out) == whole
        assert list(out.parent.iterdir()) == [out]  # what a killed run left is gone
    assert at_work > kills // 4
    assert left > kills // 10  # kills did meet half-written folders


def compile_here(place: Path, show: object = None) -> bool:
    """In place of the processes that compile: a kill would leave them alive."""
    config.CACHE_DIR = str(place)
    for entry in cache.ENTRIES:
        entry.ready(cached=True)
    return True


@pytest.mark.parametrize("kills", KILLS)
def test_kernel_cache(tmp_path, monkeypatch, kills):
    """Two kernels in place of all: the lock falls with its owner, a whole cache is right."""
    source = tmp_path / "crash_kernels.py"
    source.write_text(KERNEL)

    def fill(home: Path) -> Callable[[], None]:
        def run() -> None:
            os.environ["NUMBA_CACHE_DIR"] = str(home)
            spec = importlib.util.spec_from_file_location("crash_kernels", source)
            module = importlib.util.module_from_spec(spec)
            sys.modules["crash_kernels"] = module
            spec.loader.exec_module(module)
            cache.ENTRIES, compilers.compile_all = ENTRIES[-2:], compile_here
            cache.load()
            assert module.squares(10) == 285

        return run

    seconds = finish(fill(tmp_path / "first"))
    rng = random.Random(9)
    at_work = unfinished = 0
    for number in range(kills):
        home = tmp_path / str(number)
        alive = kill_at(fill(home), rng.uniform(0, 1.2 * seconds))
        at_work, seconds = at_work + alive, adapted(seconds, alive)
        complete = [path for path in home.glob("*/copy-*/complete-*")] if home.exists() else []
        unfinished += home.exists() and not complete
        finish(fill(home))
        (complete,) = home.glob("*/copy-*/complete-*")
        finish(fill(home))  # loaded, with no lock to wait for
    assert at_work > kills // 4
    assert unfinished > 0


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    """A slow hub in a process of its own, which the hub's library here and in children asks."""
    folder = tmp_path_factory.mktemp("hub")
    hub = LocalHub(tiny_repository(folder / "repository"))
    hub.files = dict(reversed(hub.files.items()))  # generation_config.json after the shards
    hub.pause_s = 0.01
    variables = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hf")}
    variables |= {"HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1,localhost"}
    with pytest.MonkeyPatch.context() as patch:
        for name in [*os.environ]:
            if name.startswith("HF_"):
                patch.delenv(name)
        for name, value in variables.items():
            patch.setenv(name, value)
        from huggingface_hub import HfApi, constants  # reads the variables now

        assert HfApi().endpoint == hub.url
        assert variables["HF_HOME"] == constants.HF_HOME
        server = start(hub.serve_forever)
        yield hub
        os.kill(server, signal.SIGKILL)
        os.waitpid(server, 0)


@pytest.mark.parametrize("kills", KILLS)
def test_download(hub, kills):
    """What the hub's cache calls whole is all that the hub has, each byte of it."""
    from huggingface_hub import constants

    cache_folder, needed = Path(constants.HF_HUB_CACHE), hub.needed()
    repository = Repository(REPOSITORY)

    def run() -> None:
        folder = fetch(repository).folder
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == needed

    def kept() -> dict[str, bytes]:
        files = cache_folder.glob("models--*/snapshots/*/*")
        return {path.name: path.read_bytes() for path in files}

    seconds = finish(run)
    rng = random.Random(10)
    at_work = in_part = 0
    for _ in range(kills):
        shutil.rmtree(cache_folder)
        alive = kill_at(run, rng.uniform(0, 1.2 * seconds))
        at_work, seconds = at_work + alive, adapted(seconds, alive)
        files = kept()
        assert files.items() <= needed.items()
        assert downloaded(repository) is None or files == needed
        in_part += 0 < len(files) < len(needed)
        finish(run)
        assert kept() == needed
    assert at_work > kills // 4
    assert in_part > kills // 10
