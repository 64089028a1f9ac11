"""Machine code that an edit leaves as it was: taken over from the folder of the sources before.

numba looks at the time of the one file that a kernel stands in. Here it counts as unchanged if
neither that file is another nor any that it imports, however far away.
"""

from __future__ import annotations

import ast
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

CLOSURES = "closures.json"  # beside the machine code: module -> hash


def closures(package: Path) -> dict[str, str]:
    """Of every module below a package: a hash of its source and of all it imports from there."""
    sources = {
        ".".join([package.name, *path.relative_to(package).with_suffix("").parts]): path
        for path in package.rglob("*.py")
    }
    imported = {name: _imports(path) & sources.keys() for name, path in sources.items()}
    content = {name: path.read_bytes() for name, path in sources.items()}
    found = {}
    for name in sources:
        seen, new = set[str](), {name}
        while new:
            seen |= new
            new = set().union(*(imported[one] for one in new)) - seen
        digest = hashlib.sha256()
        for one in sorted(seen):
            digest.update(f"{one} {len(content[one])} ".encode() + content[one])
        found[name] = digest.hexdigest()
    return found


def _imports(path: Path) -> set[str]:
    """Names that a source imports, as modules and as what stands in a module."""
    found = set[str]()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def take_over(now: dict[str, str], to: Path, intact: Callable[[Path], bool]) -> None:
    """Copy to a new folder what another one, of other sources, holds of unchanged modules.

    `now` are the closures of these sources; `to` is KEY/COPY, its neighbours OTHER/COPY, alike but
    for the hash at the end of KEY. `intact` says of a neighbour's mark whether its files may be
    shown to numba.
    """
    family = to.parent.name.rpartition("-")[0] + "-"
    others = [
        folder / to.name
        for folder in to.parent.parent.iterdir()
        if folder.name.startswith(family) and folder != to.parent and (folder / to.name).is_dir()
    ]
    for other in sorted(others, key=lambda folder: folder.stat().st_mtime, reverse=True):
        if not any(intact(mark) for mark in other.glob("complete-*")):
            continue
        try:
            before = json.loads((other / CLOSURES).read_text("utf-8"))
            same = {tuple(m.split(".")[-2:]) for m in now if before.get(m) == now[m]}
        except (OSError, ValueError, AttributeError):
            continue
        for path in other.rglob("*.nb[ic]"):  # blocks_HASH/rope.rope-12.py311.nbi
            if (path.parent.name.rpartition("_")[0], path.name.partition(".")[0]) in same:
                copy = to / path.relative_to(other)
                copy.parent.mkdir(exist_ok=True)
                shutil.copy2(path, copy)
        return


def note(now: dict[str, str], to: Path) -> None:
    """Say what a folder's machine code was made from, for the next one."""
    (to / CLOSURES).write_text(json.dumps(now), "utf-8")
