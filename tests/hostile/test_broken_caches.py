"""The cache of machine code, which numba unpickles: damaged, cut, foreign, on a full disk."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from kernels.host import cache


@pytest.fixture
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that a compiler filled with two files; returns the copy's folder in it."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cache, "compile_all", compiled)
    assert cache.fill()
    return cache.complete(cache.folder()).parent


def compiled(place: Path, show: object = None) -> bool:
    (place / "kernels_0").mkdir()
    (place / "kernels_0" / "a.nbi").write_bytes(b"index")
    (place / "kernels_0" / "a.1.nbc").write_bytes(b"code")
    return True


def refuse_to_compile(place: Path, show: object = None) -> bool:
    raise AssertionError("compiled again")


def test_a_whole_cache_is_used(filled, monkeypatch):
    monkeypatch.setattr(cache, "compile_all", refuse_to_compile)
    assert cache.is_filled()
    assert cache.fill()


DAMAGE = {
    "another byte": lambda place: (place / "kernels_0/a.1.nbc").write_bytes(b"cod!"),
    "cut": lambda place: (place / "kernels_0/a.nbi").write_bytes(b"ind"),
    "empty": lambda place: (place / "kernels_0/a.nbi").write_bytes(b""),
    "longer": lambda place: (place / "kernels_0/a.nbi").write_bytes(b"indexes"),
    "a file is gone": lambda place: (place / "kernels_0/a.1.nbc").unlink(),
    "a file more": lambda place: (place / "kernels_0/b.1.nbc").write_bytes(b"evil"),
    "another folder": lambda place: (place / "kernels_0").rename(place / "kernels_1"),
    "the mark is empty": lambda place: mark(place).write_bytes(b""),
    "the mark is no JSON": lambda place: mark(place).write_bytes(b"\xff{"),
    "the mark is a list": lambda place: mark(place).write_text("[1]"),
    "the mark names nothing": lambda place: mark(place).write_text("{}"),
    "the mark is a folder": lambda place: (mark(place).unlink(), mark(place).mkdir()),
    "the mark is of another": lambda place: mark(place).write_text(json.dumps({"x": "0"})),
}


def mark(place: Path) -> Path:
    return next(place.glob("complete-*"))


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_cache_is_filled_anew(filled, name):
    """Before numba has seen any of it."""
    DAMAGE[name](filled)
    assert not cache.intact(cache.complete(cache.folder()))
    assert cache.fill()
    assert cache.intact(cache.complete(cache.folder()))
    assert (filled / "kernels_0" / "a.nbi").read_bytes() == b"index"
    assert sorted(path.name for path in filled.rglob("*.nb?")) == ["a.1.nbc", "a.nbi"]


def test_somebody_elses_cache_is_not_used(filled, monkeypatch):
    if os.getuid() == 0:
        os.chown(mark(filled), 4321, 4321)
    else:
        monkeypatch.setattr(os, "getuid", lambda: 4321)
    assert not cache.intact(cache.complete(cache.folder()))


@pytest.mark.parametrize("moment", ["compiler", "mark"])
def test_a_full_disk_leaves_no_cache(tmp_path, monkeypatch, moment):
    """It is told as not cached, the disk is given back, and the next start tries again."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))

    def half(place: Path, show: object = None) -> bool:
        compiled(place)
        return moment == "mark"

    def full(self: Path, *args: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    with monkeypatch.context() as small:
        small.setattr(cache, "compile_all", half)
        if moment == "mark":
            small.setattr(Path, "write_text", full)
        assert not cache.fill()
        assert not cache.is_filled()
    monkeypatch.setattr(cache, "compile_all", compiled)
    assert cache.fill()


def test_without_a_home_nothing_is_cached(monkeypatch):
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    for variable in ("NUMBA_CACHE_DIR", "HARDWIRED_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    assert not cache.fill()
    assert not cache.is_filled()
    monkeypatch.setenv("HARDWIRED_HOME", "/somewhere")
    assert str(cache.folder()).startswith("/somewhere/kernels/")
