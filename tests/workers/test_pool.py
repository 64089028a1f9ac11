"""Workers that are processes of this computer, and what is refused before any starts."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.cli import main
from emulator.errors import CheckpointError, EmulatorError, InstallationError, UsageError
from emulator.workers.job import build_id, run
from emulator.workers.pool import in_order, open_workers
from tests.support import jobs
from tests.support.tiny_model import compile_tiny
from weights.remote import address_of, local_copy
from weights.rom import RomImage
from weights.sources import checkpoint_at, open_checkpoint


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    monkeypatch.setenv("HARDWIRED_HOME", str(tmp_path / "home"))


def test_in_order():
    """Results come in the order of the arguments, though the first takes longest."""
    seconds = [(x, 0.3 if x == 0 else 0) for x in range(6)]
    with open_workers("2") as workers:
        assert list(in_order(workers, jobs.slow_square, seconds)) == [x * x for x in range(6)]
        assert workers.jobs == 6
        assert "6 jobs on 2 processes" in workers.closing_line
    assert list(in_order(None, jobs.square, [(2,), (3,)])) == [4, 9]


def test_a_slow_worker_does_not_stop_the_others():
    """While one of two is busy with the first job, the other does many more than are sent ahead."""
    sent: list[int] = []

    def arguments() -> Iterator[tuple[int, float]]:
        for x in range(20):
            sent.append(x)
            yield x, 3.0 if x == 0 else 0.01

    with open_workers("2") as workers:
        results = in_order(workers, jobs.slow_square, arguments())
        assert next(results) == 0
        assert sent[-1] == 19
        assert list(results) == [x * x for x in range(1, 20)]


def test_a_job_that_dies_or_fails():
    with open_workers("1") as workers, pytest.raises(UsageError, match="a worker process died"):
        workers.submit(jobs.die).result()
    with open_workers("1") as workers:
        with pytest.raises(UsageError, match="No space left"):
            workers.submit(jobs.full_disk).result()
        assert workers.submit(jobs.square, 4).result() == 16  # the worker lives on


def test_another_version():
    """Refused before the job is read: this payload could not even be unpickled."""
    with pytest.raises(InstallationError, match="runs another version"):
        run("0" * 64, b"not a pickle")
    assert pickle.loads(run(build_id(), pickle.dumps((jobs.square, (5,))))) == 25


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("0", "1 to 1024"),
        ("9999", "1 to 1024"),
        ("-1", "a number of processes"),
        ("many", "a number of processes"),
        ("localhost:8786", "a number of processes"),
        ("tcp://127.0.0.1:1", "no scheduler answers"),
        ("nonsense://x", "--workers nonsense://x"),
    ],
)
def test_refused(where, words, capsys, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("emulator.workers.pool.CONNECT_S", 1)
    assert main(["sensitivity", "--workers", where]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_without_dask(capsys, monkeypatch):
    """Every command works without it; the option says which install brings it."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main(["sensitivity", "--workers", "tcp://127.0.0.1:8786"]) == 2
    assert "pip install distributed fsspec" in capsys.readouterr().err


def test_plan_needs_many_simulations(capsys):
    assert (
        main(["plan", "--load", "100/20", "--rate", "9", "--duration", "5", "--workers", "2"]) == 2
    )
    assert "--seeds or --find" in capsys.readouterr().err


def test_an_address(tiny_checkpoint: Path, tiny_image: RomImage, tmp_path: Path):
    """A checkpoint at an address compiles to the same bytes, and is copied once."""
    pytest.importorskip("fsspec")
    address = f"file://{tiny_checkpoint}"
    source = open_checkpoint(address)
    assert source.where != tiny_checkpoint
    assert address_of(source.where) == address
    image = compile_tiny(source.where, tmp_path / "image")
    assert (image / "tables.safetensors").read_bytes() == (
        tiny_image.folder / "tables.safetensors"
    ).read_bytes()
    changed = tmp_path / "changed" / tiny_checkpoint.name
    changed.mkdir(parents=True)
    for file in tiny_checkpoint.iterdir():
        (changed / file.name).write_bytes(file.read_bytes())
    copy = local_copy(f"file://{changed}")
    (copy / "config.json").write_text("{")
    with pytest.raises(EmulatorError):
        open_checkpoint(f"file://{changed}").config  # noqa: B018
    damaged = next(copy.glob("*.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    assert checkpoint_at(f"file://{changed}", source.digest).digest == source.digest  # anew
    with pytest.raises(CheckpointError, match="another checkpoint"):
        checkpoint_at(f"file://{changed}", "0" * 64)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("file:///no/such/folder", "nothing there"),
        ("nosuchkind://bucket/key", "cannot be copied"),
    ],
)
def test_an_address_of_nothing(address, words, capsys):
    pytest.importorskip("fsspec")
    assert main(["compile", address]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_a_small_disk(tiny_checkpoint: Path, tmp_path: Path):
    """A copy that does not fit is one line, and nothing half-written is left."""
    pytest.importorskip("fsspec")
    with open_workers("1") as workers, pytest.raises(CheckpointError, match="cannot be copied"):
        workers.submit(jobs.copy_on_a_small_disk, f"file://{tiny_checkpoint}").result()
    assert not [*(tmp_path / "home" / "remote").glob("*")]
