"""`compile --quantiser learned` and `--learned FILE`: masks that follow the original's answers."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.errors import UsageError
from emulator.home import home
from emulator.images.folder import is_image

if TYPE_CHECKING:
    from weights.checkpoint import Checkpoint
    from weights.compile import CompileOptions
    from weights.rom import RomImage

LEVEL = "learned"
BASE_LEVEL = "best"  # of the masks that are changed


def add_learned_options(parser: argparse.ArgumentParser, which: Any) -> None:
    """--learned FILE, instead of a mix (the group `which`), and --learn-steps N."""
    which.add_argument(
        "--learned",
        type=Path,
        metavar="FILE",
        help="change the masks as was learned elsewhere; FILE says which masks those are",
    )
    parser.add_argument(
        "--learn-steps",
        type=int,
        metavar="N",
        help="of --quantiser learned, 2,048 tokens each; default 400",
    )


@dataclass(slots=True)
class Learning:
    """What the options ask for."""

    file: Path | None  # the learned file; None: beside the image
    steps: int | None
    found: bool  # the file is given

    @classmethod
    def of(cls, args: argparse.Namespace) -> Learning | None:
        """None where neither option is given. Raises UsageError where they do not fit others."""
        if args.learned is None and args.quantiser != LEVEL:
            if args.learn_steps is not None:
                raise UsageError("--learn-steps goes with --quantiser learned")
            return None
        if args.near:
            raise UsageError("--near and learned masks exclude each other")
        if args.learned and args.quantiser:
            raise UsageError("--learned says how the masks are made: leave --quantiser out")
        if args.learned and args.learn_steps is not None:
            raise UsageError("--learn-steps goes with --quantiser learned")
        if args.learn_steps is not None and not 1 <= args.learn_steps <= 1_000_000:
            raise UsageError(f"--learn-steps {args.learn_steps}: 1 to 1,000,000")
        if not args.learned:
            from emulator.learning.make import need_torch

            need_torch()  # now, not after the masks that are to be changed
        return cls(args.learned, args.learn_steps, args.learned is not None)

    def options(self, source: Checkpoint, options: CompileOptions) -> CompileOptions:
        """Those of the masks to change. Raises where this model cannot be learned here."""
        options = replace(options, quantiser=BASE_LEVEL)
        if not self.found:
            from emulator.learning.make import check

            check(source)
            return options
        from weights.learned_file import load
        from weights.mix import Mix

        assert self.file is not None
        about = load(self.file).about
        mix = Mix.parse(about.text("mix"))
        return replace(options, mix=mix, context=about.whole("context", 1, 1 << 30))

    def masks(self, source: Checkpoint, base: RomImage, out: Path | None) -> tuple[Path, bool]:
        """Folder of the learned image, and whether it was there; learns where no file is given."""
        from weights.learned_file import load
        from weights.learned_masks import write_learned

        if self.file is None:
            beside = out or base.folder
            self.file = beside.with_name(f"{beside.name}.learned.safetensors")
        if not self.found and not self.file.exists():
            from emulator.learning.make import learn_masks
            from emulator.learning.plan import Plan

            plan = Plan() if self.steps is None else Plan(steps=self.steps)
            learn_masks(source, base, self.file, plan)
        learned = load(self.file)
        learned.check(base)
        folder = out or home() / f"{base.folder.name}-{LEVEL}-{learned.digest[:8]}"
        reused = out is None and is_image(folder)
        if not reused:
            write_learned(base, learned, folder)
        return folder, reused
