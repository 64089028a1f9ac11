"""The cache of machine code: all kernels are listed, the mark goes by file, work is shared."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kernels import entries
from kernels.host import cache, compilers, reuse
from kernels.host.entry import ENTRIES, Entry, Routine
from tests.support.paths import ROOT


def test_every_entry_is_listed():
    """What a module declares with @entry, `kernels.entries` brings in; nothing else is compiled."""
    declared = set()
    for path in (ROOT / "kernels").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef) and any(
                getattr(getattr(d, "func", d), "id", "") in ("entry", "routine")
                for d in node.decorator_list
            ):
                module = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
                declared.add(f"{module}.{node.name}")
    assert {entry.name for entry in entries.ENTRIES} == declared
    assert compilers.LONGEST in declared


def test_this_process_compiled_nothing():
    """The kernels that the tests run on came from the folder, each for its one signature."""
    import kernels.compiled

    assert cache.is_filled()
    kernels = [entry.kernel for entry in ENTRIES if isinstance(entry, Entry)]
    assert {len(kernel.signatures) for kernel in kernels} == {1}
    assert all(entry.address for entry in ENTRIES if isinstance(entry, Routine))


def test_the_mark_goes_by_path_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As numba's own entries do: a copy elsewhere, or a file written again, is not complete."""
    package = Path(shutil.copytree(ROOT / "kernels", tmp_path / "kernels"))
    here, key = cache.complete(tmp_path), cache.key()
    monkeypatch.setattr(cache, "PACKAGE", package)
    there = cache.complete(tmp_path)
    assert cache.key() == key  # the same content
    assert there != here
    os.utime(package / "arith.py", (1, 1))
    assert cache.complete(tmp_path) not in (here, there)


def test_processes_share_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each name goes to one process; a process that breaks off leaves the rest to the other."""
    worker = tmp_path / "worker"
    worker.write_text(
        "#!/bin/sh\n"
        'while read name; do echo "$name" >> "$NUMBA_CACHE_DIR/names"; '
        'case "$name" in *.rope) exit 1;; esac; echo done; done\n'
    )
    worker.chmod(0o755)
    monkeypatch.setattr(compilers.sys, "executable", str(worker))
    told: list[tuple[int, int]] = []
    assert not compilers.compile_all(tmp_path, lambda done, total: told.append((done, total)))
    names = (tmp_path / "names").read_text().split()
    assert sorted(names) == sorted(entry.name for entry in ENTRIES)
    assert told == [(done, len(ENTRIES)) for done in range(len(ENTRIES))]  # all but rope


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Then there is nothing to fill, and `load` compiles for the process alone."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    monkeypatch.setattr(compilers, "compile_all", lambda *args: pytest.fail("compiled"))
    assert not cache.fill()


def test_what_an_edit_leaves_unchanged(tmp_path: Path):
    """A module's hash follows what it imports, however far, and nothing else."""
    package = Path(shutil.copytree(ROOT / "kernels", tmp_path / "kernels"))
    before = reuse.closures(package)
    assert before == reuse.closures(ROOT / "kernels")

    def changed(name: str) -> set[str]:
        path = package / name
        text = path.read_text("utf-8")
        path.write_text(text + "# edited\n")
        now = reuse.closures(package)
        path.write_text(text)
        return {module for module, digest in before.items() if now[module] != digest}

    kernels = {entry.name.rpartition(".")[0] for entry in ENTRIES}
    assert changed("blocks/rope.py") & kernels == {"kernels.blocks.rope"}
    assert "kernels.blocks.weight_fabric" in changed("rom/codes.py")
    assert "kernels.blocks.rope" not in changed("rom/codes.py")
    assert kernels <= changed("host/simd.py")


@pytest.mark.slow
def test_an_edit_compiles_what_it_changes(tmp_path: Path):
    """A copy of the kernels on an empty cache, then with another comment in one file."""
    package = Path(shutil.copytree(ROOT / "kernels", tmp_path / "kernels"))
    script = (
        "import kernels; kernels.prepare(); from kernels.host import cache; print(cache.fill())"
    )
    environment = {**os.environ, "HARDWIRED_HOME": str(tmp_path / "home"), "NUMBA_CACHE_DIR": ""}

    def codes() -> set[tuple[str, int]]:
        command = [sys.executable, "-c", script]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout == "True\n"
        newest = max((tmp_path / "home/kernels").iterdir(), key=lambda path: path.stat().st_mtime)
        return {(path.name, path.stat().st_mtime_ns) for path in newest.rglob("*.nbc")}

    before = codes()
    with (package / "blocks/rope.py").open("a") as file:
        file.write("# edited\n")
    after = codes()
    assert len(before) == len(after) == len(ENTRIES)
    assert {name.partition(".")[0] for name, _ in before ^ after} == {"rope"}
