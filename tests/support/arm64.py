"""A Python for arm64 beside this one, run by qemu, and what the kernels answer there.

    python -m tests.support.arm64 FOLDER [IMAGE]

makes it in FOLDER (0.5 GB), or finds it there, and prints the golden prompt's hash of every body,
each by a process of its own. A first run compiles the kernels, some minutes of CPU time a body;
they stay in FOLDER too.

Needs Debian's qemu-user-static, apt-get and dpkg-deb, whose sources have arm64, and pip; not root,
and no binfmt_misc: FOLDER/python is a script that starts qemu, and `sys.executable` there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT

TOOLS = {"qemu-aarch64-static": "qemu-user-static", "apt-get": "apt", "dpkg-deb": "dpkg"}
DEBIAN = ("python3-minimal", "libpython3-stdlib", "libstdc++6")
WHEELS = ("numpy>=2.0", "numba>=0.60", "pytest")
LIMIT_S = 3600  # of a process: the machine may be busy with other tests

# Body -> HARDWIRED_KERNELS, and a CPU as qemu and LLVM name it. LLVM would find the host's name in
# /proc/cpuinfo, so numba is told.
BODIES = {
    "reference": ("reference", "cortex-a53"),
    "portable": ("", "cortex-a53"),
    "sdot": ("", "neoverse-n1"),
}

APT = """\
APT::Architecture "arm64";
APT::Architectures {{ "arm64"; }};
APT::Get::Install-Recommends "false";
Acquire::Languages "none";
Dir::State "{0}/apt";
Dir::State::status "{0}/apt/status";
Dir::Cache "{0}/apt";
"""
PYTHON = """\
#!/bin/sh
# Python for arm64 on the CPU that ARM64_CPU names
export PYTHONHOME={0}/root/usr PYTHONNOUSERSITE=1
export PYTHONPATH={0}/wheels${{PYTHONPATH:+:$PYTHONPATH}}
exec qemu-aarch64-static -L {0}/root -cpu "${{ARM64_CPU:-max}}" -0 "$0" \\
    {0}/root/usr/bin/{1} "$@"
"""


class Arm64Error(Exception):
    """What this machine lacks, or what failed there, in one line."""


@dataclass(frozen=True, slots=True)
class Arm64:
    """The folder that `make` filled."""

    folder: Path

    def run(self, body: str, *arguments: str) -> str:
        """What `python *arguments` prints from the repository's root. Raises Arm64Error."""
        kernels, cpu = BODIES[body]
        environment = {
            **os.environ,
            **{"HARDWIRED_KERNELS": kernels, "HARDWIRED_HOME": str(self.folder / "home")},
            **{"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": ""},
            **{"NUMBA_CACHE_DIR": "", "ARM64_CPU": cpu, "PYTHONPATH": ""},
        }
        return _run([str(self.folder / "python"), *arguments], environment)

    def logits(self, body: str, image: Path) -> dict[str, str]:
        """The body that the process had, and the hash of its logits."""
        answer: dict[str, str] = json.loads(
            self.run(body, "-m", "emulator.verification.kernel_body", str(image.resolve()))
        )
        return answer


def make(folder: Path) -> Arm64:
    """Unpack Debian's Python for arm64, and wheels, to a folder. Raises Arm64Error."""
    folder = folder.resolve()
    python = folder / "python"
    for tool, package in TOOLS.items():
        if not shutil.which(tool):
            raise Arm64Error(f"no {tool}: apt-get install {package}")
    if python.exists():  # written last
        return Arm64(folder)
    for part in ("apt/lists/partial", "apt/archives/partial", "root"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "apt" / "status").touch()
    configuration = folder / "apt" / "apt.conf"
    configuration.write_text(APT.format(folder))
    environment = {**os.environ, "APT_CONFIG": str(configuration)}
    _run(["apt-get", "update", "-q"], environment)
    _run(["apt-get", "install", "-q", "-y", "--download-only", *DEBIAN], environment)
    for package in sorted((folder / "apt" / "archives").glob("*.deb")):
        _run(["dpkg-deb", "-x", str(package), str(folder / "root")])
    name = next((folder / "root/usr/bin").glob("python3.[0-9]*")).name
    # pip takes each platform to the letter: a wheel for glibc 2.17 is not one for 2.28.
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in range(17, 29)]
    pip = [sys.executable, "-m", "pip", "install", "-q", "--only-binary=:all:"]
    of = ["--platform=manylinux2014_aarch64", f"--python-version={name.removeprefix('python')}"]
    _run([*pip, "--target", str(folder / "wheels"), *of, *platforms, *WHEELS])
    python.write_text(PYTHON.format(folder, name))
    python.chmod(0o755)
    return Arm64(folder)


def _run(command: list[str], environment: Mapping[str, str] | None = None) -> str:
    """What a command prints."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    if done.returncode:
        last = ((done.stderr.strip() or done.stdout.strip()).splitlines() or ["no message"])[-1]
        raise Arm64Error(f"{' '.join(command[:3])} ended with {done.returncode}: {last}")
    return done.stdout


def main(folder: str, image: str = "") -> None:
    begin = time.perf_counter()
    try:
        arm64 = make(Path(folder))
        print(f"{arm64.folder / 'python'}: {time.perf_counter() - begin:.0f} s")
        for body in BODIES if image else ():
            begin = time.perf_counter()
            answer = arm64.logits(body, Path(image))
            print(f"{body:9} {answer['logits']} {time.perf_counter() - begin:.0f} s", flush=True)
    except Arm64Error as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])
