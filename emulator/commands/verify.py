"""`verify`: does this machine compute what the image says, and what every other machine does?"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from emulator.errors import UsageError
from emulator.images.make import image_folder
from emulator.images.recipe import EMBEDDED


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "verify",
        help="hashes, golden logits, threads, kernels: on this machine",
        description="One line a check; the whole output can be pasted into an issue. Status 1 "
        "when a check fails. A first run compiles kernels for each set of instructions.",
    )
    parser.add_argument(
        "image", nargs="?", default=EMBEDDED, help="folder of an image, or a name of `models`"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random input; 0")
    parser.add_argument("--golden", type=Path, metavar="FILE", help="golden hashes of your own")
    parser.add_argument(
        "--record", action="store_true", help="enter this image's hashes, as computed here"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(command=_verify)


def _verify(args: argparse.Namespace) -> int:
    from emulator.verification.golden import GOLDEN
    from emulator.verification.verify import FAIL, machine, verify

    if args.seed < 0:
        raise UsageError(f"--seed must be 0 or above, not {args.seed}")
    path, golden = Path(args.image), args.golden or GOLDEN
    folder = path if path.is_dir() or path.name != args.image else image_folder(args.image)
    if args.record:
        return _record(folder, golden, args.json)
    here = machine()
    if not args.json:
        print(f"verify {folder}")
        for name, value in here.items():
            print(f"  {name:<8} {value}")
    checks = []
    for check in verify(folder, golden, args.seed):
        checks.append(check)
        if not args.json:
            print(f"{check.verdict:<5} {check.name:<18} {check.detail} ({check.seconds:.1f} s)")
    failed = sum(check.verdict == FAIL for check in checks)
    if args.json:
        rows = [check.to_json() for check in checks]
        report = {"schema": 1, "image": str(folder), "machine": here, "passed": failed == 0}
        print(json.dumps(report | {"checks": rows}))
    else:
        print(f"{failed} of {len(checks)} checks failed" if failed else "all checks passed")
    return 1 if failed else 0


def _record(folder: Path, golden: Path, as_json: bool) -> int:
    from emulator.chip import Chip
    from emulator.verification.golden import record
    from weights.rom import open_image

    image = open_image(folder)
    entry = record(image, Chip(image, context=1024), golden)
    if as_json:
        print(json.dumps({"schema": 1, "golden": str(golden), "digest": image.digest}))
    else:
        print(f"{golden}: {image.digest[:16]} has logits hash {entry['logits']}")
    return 0
