"""`run`: one answer, as text or as one JSON object."""

from __future__ import annotations

import argparse
import json
from typing import Any

from emulator.commands.power_on import add_answer_options, positive, power_on, summary


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("run", help="one answer")
    parser.add_argument("prompt")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_answer_options(parser)
    parser.set_defaults(command=_run)


def _run(args: argparse.Namespace) -> int:
    from emulator.chat.generate import generate

    chat, chip, spec = power_on()
    prompt = [*chat.opening(args.system), *chat.question(args.prompt)]
    answer = generate(chip, spec, prompt, positive(args.max_tokens))
    text = chat.decode(answer.token_ids)
    if not args.json:
        print(text)
        print(summary(answer))
        return 0
    rate = len(answer.token_ids) / answer.host_seconds
    report: dict[str, Any] = {
        "schema": 1,
        "text": text,
        "token_ids": answer.token_ids,
        "prompt_tokens": answer.prompt_tokens,
        "output_tokens": len(answer.token_ids),
        "chip": {
            "cycles": sum(answer.cycles.values()),
            "seconds": answer.chip_seconds,
            "tokens_per_second": answer.tokens_per_second,
            "ttft_seconds": answer.prefill_cycles / answer.clock_hz,
            "cycles_by_block": dict(answer.cycles),
        },
        "host": {"seconds": answer.host_seconds, "tokens_per_second": rate},
        "logits_sha256": answer.logits_sha256,
    }
    print(json.dumps(report))
    return 0
