"""A Dask cluster of separate processes: the bytes and figures of one process, faults survived."""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from emulator.cli import main
from emulator.errors import InstallationError, UsageError
from emulator.images.calibrator import ChipCalibrator
from emulator.quality.harness import answers_of
from emulator.workers.pool import Workers, open_workers
from tests.support import jobs
from tests.support.paths import ROOT
from tests.support.tiny_model import TINY_CONTEXT, TINY_MIX
from weights.compile import CompileOptions, compile_image
from weights.mix import Mix
from weights.rom import RomImage
from weights.sources import open_checkpoint

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A scheduler with two workers, each a process of its own under a nanny."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def workers(address: str) -> Iterator[Workers]:
    with open_workers(address) as found:
        yield found


def compiled(checkpoint: Path, folder: Path, level: str, executor: Any = None) -> Path:
    source = open_checkpoint(checkpoint)
    windows = np.random.default_rng(0).integers(0, 256, (3, 48))
    calibrator = None if level == "fast" else ChipCalibrator(source.config, windows)
    options = CompileOptions(Mix.parse(TINY_MIX), TINY_CONTEXT, level)
    compile_image(source, folder, options, None, calibrator, executor)
    return folder


def same(a: Path, b: Path) -> bool:
    names = sorted(path.name for path in a.iterdir())
    equal, _, _ = filecmp.cmpfiles(a, b, names, shallow=False)
    return sorted(equal) == names == sorted(path.name for path in b.iterdir())


@pytest.mark.parametrize("level", ["fast", "best"])
def test_compile(level, workers, tiny_checkpoint, untied_image, tmp_path):
    untied = untied_image.folder.with_name("checkpoint")
    for name, checkpoint in (("tied", tiny_checkpoint), ("untied", untied)):
        alone = compiled(checkpoint, tmp_path / f"{name}-alone", level)
        assert same(alone, compiled(checkpoint, tmp_path / name, level, workers))
    assert workers.jobs >= 2 * 4 * 2


def figures(capsys, *words: object) -> dict[str, Any]:
    assert main([*map(str, words), "--json"]) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def test_commands(address, capsys, tmp_path, tiny_image: RomImage, tiny_checkpoint):
    """Equal figures with one process, processes, and a cluster."""
    text = tmp_path / "text.txt"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 9)
    windows = ("--text", text, "--window", 32, "--limit", 100, "--image", tiny_image.folder)
    load = ("plan", "--load", "100/20", "--rate", 400, "--duration", 2, "--cards", 2)
    for words in (
        ("eval", *windows, "--checkpoint", tiny_checkpoint),
        ("faults", *windows, "--rates", "1e-3,1e-2", "--seeds", 2, "--float"),
        ("repair", *windows, "--kind", "flip", "--kind", "row"),
        ("infer", "--chips", 2000),
        ("sensitivity",),
        (*load, "--seeds", 3),
        (*load, "--slo", "ttft=2000", "--find", "rate"),
    ):
        alone = figures(capsys, *words)
        assert figures(capsys, *words, "--workers", address) == alone, words
        if words[0] in ("eval", "infer"):
            assert figures(capsys, *words, "--workers", 2) == alone, words


def test_harness(workers, tiny_image):
    requests = [SimpleNamespace(args=("The sky", f" is {word}")) for word in "abcdefgh" * 9]
    alone = answers_of(None, tiny_image, "loglikelihood", requests)
    assert answers_of(workers, tiny_image, "loglikelihood", requests) == alone


def test_a_worker_killed(workers, tmp_path):
    """Dask starts it anew and hands its job to the next."""
    assert workers.submit(jobs.die_once, str(tmp_path / "mark")).result() == "alive"


def test_a_worker_that_cannot(workers, tiny_checkpoint, tmp_path):
    """Without the file, or with a full disk: one line that names it."""
    source = open_checkpoint(tiny_checkpoint)
    moved = tmp_path / "moved"
    shutil.copytree(tiny_checkpoint, moved)
    there = open_checkpoint(moved)
    assert there.digest == source.digest  # hashed while it is there
    _ = there.config, there.tokenizer_json, there.chat_style
    with pytest.raises(UsageError, match="No space left"):
        workers.submit(jobs.full_disk).result()
    with pytest.raises(Exception, match="no GGUF file, folder"):
        workers.submit(_open, str(tmp_path / "nowhere")).result()


def _open(where: str) -> None:
    open_checkpoint(where)


def test_a_straggler(workers):
    """More than ten times slower than the others: what Dask has queued behind it goes to them."""
    jobs_ = [workers.submit(jobs.slow_square, x, 5.0 if x == 0 else 0.2) for x in range(8)]
    for job in jobs_[1:]:
        job.result()
    assert not jobs_[0].done()
    assert jobs_[0].result() == 0


def scheduler_and_worker(port: int, folder: Path) -> list[subprocess.Popen[bytes]]:
    """`dask scheduler` and `dask worker`, from a folder with the project."""
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker"]
    place = {"cwd": folder, "env": {**os.environ, "PYTHONPATH": str(folder)}}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    at = f"tcp://127.0.0.1:{port}"
    return [
        subprocess.Popen([*dask, "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"],
                         **place, **quiet),
        subprocess.Popen([*worker, at, "--nthreads", "1", "--no-dashboard"], **place, **quiet),
    ]  # fmt: skip


def ended(processes: list[subprocess.Popen[bytes]], how: int = signal.SIGTERM) -> None:
    for process in processes:
        process.send_signal(how)
    for process in processes:
        process.wait(30)


@pytest.fixture
def port() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
    return number


def test_another_version(port, tmp_path):
    """A worker whose project differs in a comment."""
    for name in ("emulator", "kernels", "weights", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "weights" / "fold.py").open("a") as file:
        file.write("# changed\n")
    processes = scheduler_and_worker(port, tmp_path)
    try:
        with (
            pytest.raises(InstallationError, match="runs another version"),
            open_workers(f"tcp://127.0.0.1:{port}"),
        ):
            pass
    finally:
        ended(processes)


class DiesAfter:
    """An executor whose scheduler is killed after some jobs."""

    def __init__(self, inner: Workers, jobs_before: int, kill: Any) -> None:
        self.inner, self.left, self.kill, self.count = inner, jobs_before, kill, 1

    def submit(self, *args: Any) -> Any:
        if self.left == 0:
            self.kill()
        self.left -= 1
        return self.inner.submit(*args)


def test_scheduler_restarted(port, tiny_checkpoint, tmp_path, monkeypatch):
    """The compile stops in one line and goes on, after its last finished layer, with the next."""
    monkeypatch.setattr("weights.passes.LAYERS_AHEAD", 0)
    alone = compiled(tiny_checkpoint, tmp_path / "alone", "fast")
    first = scheduler_and_worker(port, ROOT)
    try:
        with open_workers(f"tcp://127.0.0.1:{port}") as workers:
            dying = DiesAfter(workers, 5, lambda: ended(first, signal.SIGKILL))
            with pytest.raises(UsageError, match=r"scheduler went away|a worker failed"):
                compiled(tiny_checkpoint, tmp_path / "image", "fast", dying)
    finally:
        ended([process for process in first if process.poll() is None])
    (half,) = tmp_path.glob(".image.*")
    assert (half / "layer-000.safetensors").exists()
    again = scheduler_and_worker(port, ROOT)
    try:
        with open_workers(f"tcp://127.0.0.1:{port}") as workers:
            image = compiled(tiny_checkpoint, tmp_path / "image", "fast", workers)
            assert workers.jobs < 4 * 2 + 1  # the first layer is not made again
    finally:
        ended(again)
    assert same(alone, image)


def test_a_worker_that_joins_late(port, tmp_path):
    processes = scheduler_and_worker(port, ROOT)
    try:
        with open_workers(f"tcp://127.0.0.1:{port}") as workers:
            sent = [workers.submit(jobs.slow_square, x, 0.3) for x in range(20)]
            late = scheduler_and_worker(port, ROOT)[1:]
            processes += late
            assert [job.result() for job in sent] == [x * x for x in range(20)]
            time.sleep(0)
    finally:
        ended(processes[1:] + processes[:1])
