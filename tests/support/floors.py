"""Which module imports which, and the rules that the imports keep."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("emulator", "kernels", "weights")

# The floors of the house, from the ground up. A package imports its own floor's file or package
# and the floors below it; what stands on one floor does not import its neighbours there.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("emulator.errors", "emulator.fixedpoint", "emulator.host", "kernels"),
    ("emulator.home",),
    (
        "emulator.fields",
        "emulator.installation",
        "emulator.streams",
        "emulator.terminal",
        "emulator.toml_file",
        "emulator.workers",
    ),
    ("emulator.config", "emulator.silicon", "emulator.text"),
    ("weights",),
    ("emulator.blocks",),
    ("emulator.recorded_pass",),
    ("emulator.chip",),
    ("emulator.board",),
    ("emulator.timing",),
    ("emulator.traffic",),
    ("emulator.economics",),
    ("emulator.chat",),
    ("emulator.images",),
    ("emulator.quality",),
    ("emulator.learning",),
    ("emulator.verification", "emulator.model", "emulator.serve"),
    ("emulator.rtl",),
    ("emulator.commands",),
    ("emulator.cli",),
    ("emulator.__main__",),
)
# Stricter than the floors: these import nothing else of the project.
ALLOWED = {
    "kernels": ("kernels",),
    "weights": (
        *("kernels", "weights", "emulator.config", "emulator.fields"),
        *("emulator.fixedpoint", "emulator.errors", "emulator.home"),
    ),
    "emulator.silicon": (
        *("emulator.silicon", "emulator.errors", "emulator.fields", "emulator.toml_file"),
    ),
}
FACE = "emulator"  # `emulator/__init__.py` names what it exports and loads it on demand
COMMANDS_MAY_BE_IMPORTED_BY = ("emulator.commands", "emulator.cli")


class House:
    """The modules below a root folder, read as text."""

    def __init__(self, root: Path = ROOT) -> None:
        self.files = {
            _module_name(path, root): path
            for package in PACKAGES
            for path in sorted((root / package).rglob("*.py"))
        }
        self.trees = {name: ast.parse(path.read_text("utf-8")) for name, path in self.files.items()}

    def imports(self, module: str) -> set[str]:
        """Our own modules that the file imports anywhere, also inside functions."""
        return self._imported(module, list(ast.walk(self.trees[module])))

    def typing_free_imports(self, module: str) -> set[str]:
        """The same without what stands under TYPE_CHECKING: what can run."""
        return self._imported(module, list(_running(self.trees[module].body)))

    def _imported(self, module: str, nodes: list[ast.AST]) -> set[str]:
        found = set()
        for node in nodes:
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:  # relative: counted from the package
                    package = module.split(".")
                    if self.files[module].name != "__init__.py":
                        package = package[:-1]
                    package = package[: len(package) - node.level + 1]
                    base = ".".join([*package, *filter(None, [base])])
                for alias in node.names:
                    inner = f"{base}.{alias.name}"
                    found.add(inner if inner in self.files else base)
        return {name for name in found if name.split(".")[0] in PACKAGES} - {module}


def below(module: str, *packages: str) -> bool:
    return any(module == p or module.startswith(f"{p}.") for p in packages)


def floor_of(module: str) -> int:
    """Number of the floor of a module. Raises LookupError for one that has none yet."""
    for number, floor in enumerate(FLOORS):
        if below(module, *floor):
            return number
    raise LookupError(f"{module} stands on no floor: give it one in FLOORS")


def offences(house: House) -> Iterator[str]:
    """Every import that breaks a rule, as one line; nothing for a house in order."""
    yield from _upward(house)
    yield from _circles(house)
    yield from _commands(house)


def _upward(house: House) -> Iterator[str]:
    """Imports inside functions count: they are arrows too, only later ones."""
    for module in house.files:
        if module == FACE:
            continue
        for other in sorted(house.imports(module)):
            if other == FACE:
                continue
            here, there = floor_of(module), floor_of(other)
            same = any(below(module, p) and below(other, p) for p in FLOORS[here])
            if there > here or (there == here and not same):
                yield f"{module} imports {other}, which is not below it"
            for package, allowed in ALLOWED.items():
                if below(module, package) and not below(other, *allowed):
                    yield f"{module} imports {other}, which {package} may not know"


def _commands(house: House) -> Iterator[str]:
    for module in house.files:
        if not below(module, *COMMANDS_MAY_BE_IMPORTED_BY):
            for other in sorted(house.imports(module)):
                if below(other, "emulator.commands"):
                    yield f"{module} imports the command {other}"


def _circles(house: House) -> Iterator[str]:
    """Depth-first over everything that can run; a module met on its own path closes a circle."""
    graph = {
        name: sorted(house.typing_free_imports(name) & set(house.files))
        for name in house.files
        if name != FACE
    }
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> Iterator[str]:
        if module in path:
            yield "circle: " + " -> ".join((*path[path.index(module) :], module))
        elif module not in done and module in graph:
            for name in graph[module]:
                yield from visit(name, (*path, module))
            done.add(module)

    for module in graph:
        yield from visit(module, ())


def _running(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """Every node but those under `if TYPE_CHECKING`."""
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def _module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
