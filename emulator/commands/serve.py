"""`serve`: the appliance's interfaces over HTTP, and a page to talk to it; its cards, its pace."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.commands.image_options import add_image_options, chosen_image
from emulator.commands.lora_options import add_lora_options, chosen_adapters
from emulator.errors import UsageError

if TYPE_CHECKING:
    from emulator.chip import Chip
    from emulator.serve.pace import Pace
    from emulator.silicon.spec import ChipSpec
    from weights.rom import RomImage

KEY_VARIABLE = "HARDWIRED_API_KEY"
EXAMPLES = """examples:
  python -m emulator serve
  python -m emulator serve --cards 3 --policy sticky
  python -m emulator serve --cards 3 --pace chip --slow 400 --prefill serial
"""
MOST_CARDS = 1000
MOST_SLOW = 1e9
PORT, PLACES, MOST_TOKENS, PATIENCE = 8017, 32, 2048, 60.0


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "serve",
        help="OpenAI's interface, the vendor's, and a page",
        description="Serve one chip, or several cards, over HTTP: /v1 for OpenAI's clients, the "
        "vendor's and its demo's routes, a page at /, /metrics. Ctrl+C ends it after the answers "
        "in hand.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_image_options(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 127.0.0.1")
    parser.add_argument("--port", type=int, default=PORT, help=f"{PORT}; 0 picks a free one")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="answer to this name, too; as often as you like",
    )
    parser.add_argument("--api-key", metavar="KEY", help=f"ask for it; or {KEY_VARIABLE}, unseen")
    parser.add_argument("--queue", type=int, default=PLACES, metavar="N", help=f"places; {PLACES}")
    parser.add_argument(
        "--max-tokens",
        type=int,
        default=MOST_TOKENS,
        metavar="N",
        help=f"of any answer; {MOST_TOKENS}",
    )
    parser.add_argument("--context", type=int, metavar="N", help="positions, at most the image's")
    add_lora_options(parser)
    parser.add_argument(
        "--lora-root", type=Path, metavar="DIR", help="requests may load adapters from below DIR"
    )
    parser.add_argument(
        "--faithful", action="store_true", help="the vendor's routes with their observed quirks"
    )
    _add_card_options(parser)
    parser.set_defaults(command=_serve)


def _add_card_options(parser: argparse.ArgumentParser) -> None:
    cards = parser.add_argument_group("cards", "as `plan` has them")
    add = cards.add_argument
    add("--cards", type=int, default=1, metavar="N", help="each with a KV SRAM of its own; 1")
    add(
        "--policy",
        choices=("one-queue", "round-robin", "least-work", "sticky"),
        default="one-queue",
        help="sticky: a session (prompt_cache_key, or user) stays on its card, which keeps its KV",
    )
    add("--pace", choices=("chip",), help="hold each token back until the chip would have given it")
    add(
        "--slow", type=float, metavar="F", help="F times slower, so that queueing can be watched; 1"
    )
    add("--prefill", choices=("serial", "pipelined"), help="hypothesis of the pace; serial")
    add("--deployment", metavar="NAME", help="whose overheads; the chip's first, the laboratory")


def _serve(args: argparse.Namespace) -> int:
    for option, value in (("--queue", args.queue), ("--max-tokens", args.max_tokens)):
        if not 1 <= value <= 1 << 20:
            raise UsageError(f"{option} must be from 1 to {1 << 20}, not {value}")
    if not 0 <= args.port <= 65535:
        raise UsageError(f"--port must be from 0 to 65535, not {args.port}")
    _check_card_options(args)
    key = args.api_key if args.api_key is not None else os.environ.get(KEY_VARIABLE)
    if key == "":
        raise UsageError("an API key must not be empty")
    try:
        from emulator.serve.app import build_app
        from emulator.serve.hosts import Hosts
        from emulator.serve.server import listen, run
    except ImportError as error:
        raise UsageError(f"serve needs {error.name}: pip install {error.name}") from None
    listener = listen(args.host, args.port)
    host, port = listener.getsockname()[:2]
    hosts = Hosts(host, args.host, args.allow_host)
    service = _service(args, key is not None)
    shown = f"[{host}]" if ":" in host else host
    print(f"serving {service.name} at http://{shown}:{port}", file=sys.stderr, flush=True)
    return run(build_app(service, key, hosts, PATIENCE), service.engine, listener, PATIENCE)


def _check_card_options(args: argparse.Namespace) -> None:
    if not 1 <= args.cards <= MOST_CARDS:
        raise UsageError(f"--cards must be from 1 to {MOST_CARDS}, not {args.cards}")
    for option in ("slow", "prefill", "deployment"):
        if getattr(args, option) is not None and args.pace is None:
            raise UsageError(f"--{option} belongs to a pace: add --pace chip")
    if args.slow is not None and not 1 <= args.slow <= MOST_SLOW:
        raise UsageError(f"--slow must be from 1 to {MOST_SLOW:.0e}, not {args.slow:g}")


def _service(args: argparse.Namespace, has_key: bool) -> Any:
    """The chosen model in cards of their own, and the engine around them."""
    from emulator.board import Board
    from emulator.chat.jinja_template import JinjaTemplate
    from emulator.chat.template import chat_of
    from emulator.serve.adapter_folder import AdapterFolder
    from emulator.serve.engine import Engine
    from emulator.serve.service import Service
    from emulator.silicon.spec import load_spec

    image, spec = chosen_image(args), load_spec()
    name = args.image.resolve().name if args.image else args.model
    chat = chat_of(image)
    _check_memory(args, image)
    adapters = chosen_adapters(args, image)
    board = Board(image, args.cards, args.context, adapters=adapters)
    pace = _pace(args, board.chips[0], spec) if args.pace else None
    engine = Engine(board, spec, args.queue, args.policy, pace)
    template = None
    if image.chat_template:
        tokens, config = chat.tokenizer, image.config
        bos = "" if config.bos_id is None else tokens.id_to_token(config.bos_id) or ""
        eos = tokens.id_to_token(config.end_ids[0]) or ""
        template = JinjaTemplate(image.chat_template, bos, eos)
    folder = AdapterFolder(args.lora_root, args.checkpoint, has_key)
    return Service(
        name, image, chat, spec, engine, args.max_tokens, args.faithful, template, folder
    )


def _check_memory(args: argparse.Namespace, image: RomImage) -> None:
    """Raise UsageError where the cards' KV SRAMs do not fit this computer."""
    from emulator.blocks.kv_sram import memory_bytes
    from emulator.host import installed_bytes

    context = min(args.context or image.context, image.context)
    need, have = args.cards * memory_bytes(image.config, context), installed_bytes()
    if args.cards > 1 and have is not None and need > have:
        raise UsageError(
            f"--cards {args.cards}: their KV SRAMs of {context:,} positions take {need / 1e9:,.1f} "
            f"GB, and this computer has {have / 1e9:,.1f}; fewer --cards, or --context"
        )


def _pace(args: argparse.Namespace, chip: Chip, spec: ChipSpec) -> Pace:
    """Raises UsageError for an unknown deployment."""
    from emulator.serve.pace import Pace
    from emulator.traffic.service_times import service_times

    prefill = args.prefill or "serial"
    times = service_times(chip.stages, spec, (prefill,), args.deployment, chip.context)
    return Pace(times[prefill], args.slow or 1.0)
