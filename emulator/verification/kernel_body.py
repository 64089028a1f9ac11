"""One process of one kernel body: print its name and the golden prompt's hash as JSON.

The instructions are chosen when a process starts (`kernels.host.simd`), so `verify` starts this
once for each body, with HARDWIRED_KERNELS set.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import emulator
import kernels
from emulator.errors import EmulatorError

BODY_LIMIT_S = 900  # a first start compiles the kernels


def bodies() -> list[str]:
    """The bodies that this CPU can run, the best first."""
    from kernels.host import simd
    from kernels.host.target import choose

    return list(
        dict.fromkeys([simd.BODY, *(choose(simd.FEATURES, b).body for b in kernels.BODIES)])
    )


def run_body(body: str, folder: Path) -> dict[str, str]:
    """Body and logits hash, as a new process gives them. Raises EmulatorError when it fails."""
    root = str(Path(emulator.__file__).parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    environment.pop(kernels.BACKEND_VARIABLE, None)
    if body in kernels.BODIES:
        environment[kernels.BACKEND_VARIABLE] = body
    command = [sys.executable, "-m", "emulator.verification.kernel_body", str(folder)]
    try:
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=BODY_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise EmulatorError(f"no answer within {BODY_LIMIT_S} s") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EmulatorError(f"the process ended with {done.returncode}: {last}")
    answer: dict[str, str] = json.loads(done.stdout)
    return answer


def main() -> None:
    """The process that `run_body` starts."""
    from emulator.chip import Chip
    from emulator.verification.golden import PROMPT_TOKENS, logits_digest
    from kernels.host import simd
    from weights.rom import open_image

    chip = Chip(open_image(Path(sys.argv[1]), check_hashes=False), context=PROMPT_TOKENS)
    print(json.dumps({"body": simd.BODY, "logits": logits_digest(chip)}))


if __name__ == "__main__":
    main()
