"""`run`: one answer, as text or as one JSON object."""

from __future__ import annotations

import argparse
import json
from typing import Any

from emulator.commands.answer_options import (
    add_answer_options,
    checked_sampling,
    draft_source,
    powered_chip,
    write,
)


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("run", help="one answer")
    parser.add_argument("prompt")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_answer_options(parser)
    parser.set_defaults(command=_run)


def _run(args: argparse.Namespace) -> int:
    from emulator.chat.generate import generate
    from emulator.chat.printer import Printer, summary
    from emulator.chat.repeat_guard import RepeatGuard
    from emulator.chat.text_stream import TextStream

    sampling = checked_sampling(args)
    chat, chip, spec = powered_chip(args)
    prompt = [*chat.opening(args.system), *chat.question(args.prompt)]
    stream = TextStream(chat.decode, args.stop)
    guard = RepeatGuard() if args.repeat_guard else None
    printer = Printer(stream, "host", (lambda text: None) if args.json else write, guard)
    picker = sampling.picker()
    drafts = draft_source(args, chip)
    answer = generate(
        *(chip, spec, prompt, args.max_tokens, picker, printer.on_token), drafts=drafts(picker)
    )
    printer.finish(answer)
    if not args.json:
        print(f"\n{summary(answer)}")
        return 0
    rate = len(answer.token_ids) / answer.host_seconds
    report: dict[str, Any] = {
        "schema": 1,
        "text": stream.text,
        "token_ids": answer.token_ids,
        "prompt_tokens": answer.prompt_tokens,
        "output_tokens": len(answer.token_ids),
        "reason": answer.reason,
        "sampler": {
            "top_k": 1 if sampling.greedy else sampling.top_k,
            "temperature": sampling.temperature,
            "seed": sampling.seed,
            **({} if sampling.top_p is None else {"top_p": sampling.top_p}),
        },
        "chip": {
            "cycles": sum(answer.cycles.values()),
            "seconds": answer.chip_seconds,
            "tokens_per_second": answer.tokens_per_second,
            "ttft_seconds": answer.prefill_cycles / answer.clock_hz,
            "cycles_by_block": dict(answer.cycles),
        },
        "host": {
            "seconds": answer.host_seconds,
            "tokens_per_second": rate,
            "drafted": answer.drafted,
            "accepted": answer.accepted,
        },
        "logits_sha256": answer.logits_sha256,
    }
    if chip.adapter:
        report["adapter"] = chip.adapter
    print(json.dumps(report))
    return 0
