"""The options of every command that asks about a chip without running it."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.errors import ChipError, UsageError

if TYPE_CHECKING:
    from emulator.chip import Stage
    from emulator.config import LlamaConfig
    from emulator.silicon.spec import ChipSpec
    from weights.mix import Mix


def add_shape_options(parser: argparse.ArgumentParser) -> None:
    """--model, by its shape, and --mix."""
    parser.add_argument(
        "--model",
        default="llama-3.1-8b",
        help="a name that `models` lists, a config.json or its folder, or owner/repo; llama-3.1-8b",
    )
    add_mix_option(parser)


def add_mix_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mix", help="bits by tensor; 3,embedding=6,head=6")


def add_chip_options(parser: argparse.ArgumentParser) -> None:
    """--chip, --set and --json."""
    parser.add_argument(
        "--chip", type=Path, metavar="FILE", help="a chip description like hc1.toml, or roma"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one of its constants",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def spec_of(args: argparse.Namespace) -> ChipSpec:
    """The description that --chip and --set ask for."""
    from emulator.silicon.spec import DEFAULT_SPEC, load_spec, preset

    path = args.chip or DEFAULT_SPEC
    named = str(path).isidentifier() and not path.exists()
    spec = load_spec(preset(str(path)) if named else path)
    for text in args.set:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text}: write section.key=value, such as fabric.lanes=32")
        try:
            low, high = spec.constant(key).range
            spec = spec.with_value(key, _number(value))
        except ValueError:
            unit = spec.constant(key).unit
            wanted = f"{key} is a number from {low} to {high} {unit}"
            raise UsageError(f"--set {text}: {value!r} is none; {wanted}") from None
        except ChipError as error:
            raise ChipError(f"--set {text}: {error}") from None
    return spec


def _number(text: str) -> float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def model_of(args: argparse.Namespace) -> tuple[LlamaConfig, Mix, list[Stage]]:
    """Shape, mix and blocks of the model that --model and --mix ask for."""
    from emulator.timing.models import HC1_MIX, blank_stages
    from weights.mix import Mix

    config, mix = _shape(args.model), Mix.parse(args.mix or HC1_MIX)
    return config, mix, blank_stages(config, mix)


def _shape(name: str) -> LlamaConfig:
    """The shape that a name means; notes go to standard error."""
    from emulator.images.shape_of import shape_of

    config, notes = shape_of(name)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    return config


def contexts_of(text: str, spec: ChipSpec) -> list[int]:
    """ "1,1024,6144" as positions that the chip has. Raises UsageError for anything else."""
    most = int(spec.kv_sram.positions)
    try:
        contexts = [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--context {text}: write numbers with commas, such as 1,1024") from None
    for context in contexts:
        if not 1 <= context <= most:
            raise UsageError(f"--context {context}: the chip has positions 1 to {most}")
    return contexts


def recorded_odds(args: argparse.Namespace) -> dict[str, Any] | None:
    """What `infer --record` kept, where the question is about the very chip that it was about."""
    from emulator.timing.posterior import recorded

    asked = (args.model, args.mix, args.chip, args.set)
    return recorded() if asked == ("llama-3.1-8b", None, None, []) else None


def likely(args: argparse.Namespace, context: int) -> str:
    """ " (p5 to p95: 15,974 to 17,092)" behind a rate of the preset chip; else nothing."""
    found = ((recorded_odds(args) or {}).get("rates") or {}).get(str(context))
    return f" (p5 to p95: {found[0]:,.0f} to {found[2]:,.0f})" if found else ""


def assumptions(spec: ChipSpec) -> list[dict[str, Any]]:
    """Every constant with its grade, range and source."""
    return [
        {
            "key": key,
            "value": c.value,
            "unit": c.unit,
            "range": list(c.range),
            "grade": c.grade,
            "source": c.source,
        }
        for key, c in spec.constants()
    ]


def grades(spec: ChipSpec) -> str:
    """How many constants of the chip are official, observed, estimated or assumed."""
    counts = Counter(constant.grade for _, constant in spec.constants())
    known = ", ".join(f"{count} {grade}" for grade, count in counts.most_common())
    return f"Estimates: the chip's constants are {known}; see docs/timing.md."
