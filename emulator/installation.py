"""Whether `emulator`, `kernels` and `weights` are ours and whole.

The names are common: another package may bring a `kernels` of its own, and installers overwrite
without a word. The installer's list of our files (RECORD) says what must be there. Each start
compares names and three sizes, in two milliseconds; who did it is looked up only in need.

Standard library alone, and nothing of ours at load time: any of our modules may be the broken one.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

DISTRIBUTION = "hardwired-llama"
PACKAGES = ("emulator", "kernels", "weights")
MODULE_SUFFIXES = (".py", ".so", ".pyd")  # what Python would import; other strays do no harm
SITE = Path(__file__).parents[1]  # the folder that holds the three


def check() -> None:
    """Raise InstallationError when one of the three packages is foreign or damaged."""
    if line := problem():
        from emulator.errors import InstallationError

        raise InstallationError(line)


def problem() -> str | None:
    """What is wrong with the three packages and what to do, in one line; None if all is well."""
    if recorded := _recorded():  # a checkout has no list
        present = _present()
        for file in sorted(set(recorded) - present):
            return _line(f"{SITE / file} is missing", SITE / file)
        for file in (f"{package}/__init__.py" for package in PACKAGES):
            if recorded[file] != str((SITE / file).stat().st_size):
                return _line(f"{SITE / file} is not {DISTRIBUTION}'s", SITE / file)
        for file in sorted(present - set(recorded)):
            if file.endswith(MODULE_SUFFIXES):
                return _line(f"{SITE / file} is not {DISTRIBUTION}'s", SITE / file)
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)  # runs nothing of the package
        if spec is None or spec.origin is None:
            return _line(f"{SITE / package} is missing", None)
        found = Path(spec.origin)
        if not os.path.samefile(found.parent, SITE / package):
            return _line(f"{found} comes before {DISTRIBUTION}'s {SITE / package}", found)
    return None


def _recorded() -> dict[str, str]:
    """Our files and their sizes in bytes, as the installer wrote them down; empty if it did not."""
    name = DISTRIBUTION.replace("-", "_") + "-"
    try:
        for entry in os.listdir(SITE):
            if entry.startswith(name) and entry.endswith(".dist-info"):
                lines = (SITE / entry / "RECORD").read_text("utf-8").splitlines()
                rows = [line.rsplit(",", 2) for line in lines]  # file, hash, size
                return {
                    file: size
                    for file, _, size in rows
                    if file.partition("/")[0] in PACKAGES and "__pycache__" not in file
                }
    except (OSError, ValueError):
        pass  # some systems strip RECORD from what they package
    return {}


def _present() -> set[str]:
    """Every file of the three packages, as RECORD writes it."""
    files = set()
    for package in PACKAGES:
        for folder, folders, names in os.walk(SITE / package):
            folders[:] = [name for name in folders if name != "__pycache__"]
            inside = os.path.relpath(folder, SITE).replace(os.sep, "/")
            files |= {f"{inside}/{name}" for name in names}
    return files


def _line(what: str, file: Path | None) -> str:
    """What is wrong, who did it, what to do."""
    owner = _owner(file) if file else None
    by = f": the package {owner} put it there" if owner else ""
    return (
        f"{what}{by}; install {DISTRIBUTION} again, in an environment of its own (pipx or uv tool)"
    )


def _owner(file: Path) -> str | None:
    """Name and version of another distribution that lists the file as its own."""
    from importlib.metadata import distributions

    for other in distributions():
        if other.metadata["Name"] != DISTRIBUTION:
            for path in other.files or ():
                if path.name == file.name and Path(str(path.locate())).resolve() == file.resolve():
                    return f"{other.metadata['Name']} {other.version}"
    return None
