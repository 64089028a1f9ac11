"""Imports point down the floors: kernels, weights, blocks, chip, timing, surfaces. No circles."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("emulator", "kernels", "weights")
SURFACES = tuple(
    f"emulator.{name}" for name in ("chat", "serve", "cli", "commands", "quality", "proof")
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(p): p for name in PACKAGES for p in sorted((ROOT / name).rglob("*.py"))}


def imported(module: str, nodes: list[ast.stmt] | list[ast.AST]) -> set[str]:
    """Our own modules that these statements import, `from a import b` as a.b where that exists."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:  # relative: counted from the package
                depth = node.level - FILES[module].name.count("__init__")
                base = ".".join([*module.split(".")[: -depth or None], *filter(None, [base])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in FILES else base)
    return {name for name in found if name.split(".")[0] in PACKAGES} - {module}


def all_imports(module: str) -> set[str]:
    """Imports anywhere in the file, inside functions too."""
    return imported(module, list(ast.walk(ast.parse(FILES[module].read_text("utf-8")))))


def module_level_imports(module: str) -> set[str]:
    """Imports that run when the module is loaded: not in functions, not under TYPE_CHECKING."""
    waiting: list[ast.stmt] = list(ast.parse(FILES[module].read_text("utf-8")).body)
    nodes: list[ast.stmt] = []
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.If, ast.Try, ast.With, ast.ClassDef)):
            typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            waiting += [] if typing_only else node.body
            waiting += getattr(node, "orelse", [])
            waiting += [s for h in getattr(node, "handlers", []) for s in h.body]
        nodes.append(node)
    return imported(module, nodes)


def below(module: str, *packages: str) -> bool:
    return any(module == p or module.startswith(f"{p}.") for p in packages)


def modules(*packages: str) -> list[str]:
    return [name for name in FILES if below(name, *packages)]


def test_the_files_are_found():
    """Guards the other tests against an empty list."""
    assert {"emulator.chip", "kernels.reference", "weights.rom"} <= set(FILES)
    assert "kernels.reference" in all_imports("kernels.compiled")


@pytest.mark.parametrize("module", modules("kernels"))
def test_kernels_stand_on_the_ground(module):
    assert [name for name in all_imports(module) if not below(name, "kernels")] == []


@pytest.mark.parametrize("module", modules("weights"))
def test_weights_know_shapes_formats_and_errors_only(module):
    """`from emulator import __version__` is the package itself."""
    allowed = {"emulator"} | {f"emulator.{n}" for n in ("model", "fields", "fixedpoint", "errors")}
    above = [n for n in all_imports(module) if not below(n, "kernels", "weights")]
    assert set(above) <= allowed


@pytest.mark.parametrize("module", modules("emulator.silicon"))
def test_silicon_knows_no_model(module):
    allowed = ("emulator.silicon", "emulator.errors", "emulator.fields")
    assert [name for name in all_imports(module) if not below(name, *allowed)] == []


@pytest.mark.parametrize("module", modules("emulator.blocks", "emulator.chip"))
def test_the_datapath_knows_no_surface(module):
    """Blocks and chip never import timing, chat, server, command line or quality."""
    upper = ("emulator.timing", *SURFACES)
    assert [name for name in all_imports(module) if below(name, *upper)] == []


@pytest.mark.parametrize("module", modules("emulator.blocks"))
def test_blocks_do_not_know_the_chip(module):
    assert "emulator.chip" not in all_imports(module)


def test_timing_knows_no_surface():
    """Neither the chat nor the command line."""
    for module in modules("emulator.timing"):
        upper = ("emulator.chat", "emulator.cli", "emulator.commands", "emulator.serve")
        assert [name for name in all_imports(module) if below(name, *upper)] == [], module


def test_no_circles():
    """Depth-first over what runs at load time; a module met on its own path is a circle."""
    graph = {name: sorted(module_level_imports(name) & set(FILES)) for name in FILES}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module not in done:
            for name in graph[module]:
                visit(name, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())
