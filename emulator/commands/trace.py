"""`trace`: tokens on a timeline of the chip, for Perfetto's viewer."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.commands.chip_options import add_chip_options, add_mix_option, model_of, spec_of
from emulator.commands.image_options import add_image_options
from emulator.errors import ContextError, UsageError

if TYPE_CHECKING:
    from emulator.chip import Stage
    from emulator.silicon.spec import ChipSpec
    from emulator.timing.trace import TracedToken

NAME = "trace.json"
VIEWER = "https://ui.perfetto.dev"


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("trace", help="a timeline of tokens, for Perfetto's viewer")
    parser.add_argument(
        "prompt", nargs="?", help="run it on an image; without one, trace the shape of --model"
    )
    add_image_options(parser)
    add_mix_option(parser)
    add_chip_options(parser)
    parser.add_argument("--prompt-tokens", type=int, default=4, help="length, without a prompt")
    parser.add_argument("--max-tokens", type=int, default=8, help="length of the reply")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(NAME),
        metavar="FILE",
        help=f"or a folder; default {NAME}, here",
    )
    parser.add_argument(
        "--vcd",
        type=Path,
        metavar="FILE",
        help="also: the prompt's last token as signals, named as the RTL's ports; needs a prompt",
    )
    parser.set_defaults(command=_trace)


def _trace(args: argparse.Namespace) -> int:
    from emulator.timing.trace import chrome_trace

    spec = spec_of(args)
    if args.max_tokens < 1:
        raise UsageError(f"--max-tokens must be at least 1, not {args.max_tokens}")
    if args.vcd and args.prompt is None:
        raise UsageError("--vcd shows values: give it a prompt to run")
    if args.vcd and importlib.util.find_spec("amaranth") is None:
        raise UsageError("--vcd needs the RTL's ports: pip install amaranth")
    stages, tokens = _shapes(args, spec) if args.prompt is None else _run(args, spec)
    trace = chrome_trace(stages, spec, tokens)
    file = _written(args.out, json.dumps(trace))
    cycles = trace["otherData"]["cycles"]
    if args.json:
        report = {"schema": 1, "file": str(file), "tokens": len(tokens), "cycles": cycles}
        print(json.dumps(report | {"events": len(trace["traceEvents"])}))
    else:
        us = f"{1e6 * cycles / spec.clock_hz:,.1f} us of chip time"
        print(f"{file}: {len(tokens)} tokens, {cycles:,} cycles, {us}; open it at {VIEWER}")
    return 0


def _written(out: Path, text: str) -> Path:
    """The file, whole or not at all."""
    file = out / NAME if out.is_dir() else out
    part = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        part.write_text(text, "utf-8")
        part.replace(file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UsageError(f"--out {out}: {error.strerror}") from None
    return file


def _shapes(args: argparse.Namespace, spec: ChipSpec) -> tuple[list[Stage], list[TracedToken]]:
    """Numbered tokens of a known shape."""
    prompt, reply = args.prompt_tokens, args.max_tokens
    if prompt < 1:
        raise UsageError(f"--prompt-tokens must be at least 1, not {prompt}")
    if prompt + reply > spec.kv_sram.positions.value:
        raise ContextError(
            f"{prompt + reply} tokens do not fit the chip's {int(spec.kv_sram.positions)} positions"
        )
    texts = [f"prompt {i + 1}" for i in range(prompt)] + [f"reply {i + 1}" for i in range(reply)]
    return model_of(args)[2], _passes(texts, prompt)


def _run(args: argparse.Namespace, spec: ChipSpec) -> tuple[list[Stage], list[TracedToken]]:
    """A prompt and its greedy answer by the chosen image."""
    from emulator.chat.generate import generate
    from emulator.commands.answer_options import powered_chip

    chat, emulated, _ = powered_chip(args)
    prompt = [*chat.opening(None), *chat.question(args.prompt)]
    answer = generate(emulated, spec, prompt, args.max_tokens)
    if args.vcd:
        from emulator.rtl.vcd_file import write_vcd

        write_vcd(args.vcd, emulated, spec, prompt)
    texts = [chat.decode([token]) for token in (*prompt, *answer.token_ids)]
    return emulated.stages, _passes(texts, len(prompt))


def _passes(texts: list[str], prompt: int) -> list[TracedToken]:
    """Each token but the last goes in once; from the prompt's last on, the next one comes out."""
    from emulator.timing.trace import TracedToken

    return [
        TracedToken(text, i + 1, i + 1 >= prompt, texts[i + 1] if i + 1 >= prompt else "")
        for i, text in enumerate(texts[:-1])
    ]
