"""`serve`: the appliance's interfaces over HTTP, and a page to talk to it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from emulator.commands.image_options import add_image_options, chosen_image
from emulator.commands.lora_options import add_lora_options, chosen_adapters
from emulator.errors import UsageError

KEY_VARIABLE = "HARDWIRED_API_KEY"
PORT, PLACES, MOST_TOKENS, PATIENCE = 8017, 32, 2048, 60.0


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "serve",
        help="OpenAI's interface, the vendor's, and a page",
        description="Serve one chip over HTTP: /v1 for OpenAI's clients, the vendor's and its "
        "demo's routes, a page at /, /metrics. Ctrl+C ends it after the answer in hand.",
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
    parser.set_defaults(command=_serve)


def _serve(args: argparse.Namespace) -> int:
    for option, value in (("--queue", args.queue), ("--max-tokens", args.max_tokens)):
        if not 1 <= value <= 1 << 20:
            raise UsageError(f"{option} must be from 1 to {1 << 20}, not {value}")
    if not 0 <= args.port <= 65535:
        raise UsageError(f"--port must be from 0 to 65535, not {args.port}")
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
    run(build_app(service, key, hosts, PATIENCE), service.engine, listener, PATIENCE)
    return 0


def _service(args: argparse.Namespace, has_key: bool) -> Any:
    """The chosen model in a chip of its own, and the engine around it."""
    from emulator.chat.template import chat_format
    from emulator.chip import Chip
    from emulator.serve.adapter_folder import AdapterFolder
    from emulator.serve.engine import Engine
    from emulator.serve.service import Service
    from emulator.silicon.spec import load_spec

    image, spec = chosen_image(args), load_spec()
    name = args.image.resolve().name if args.image else args.model
    chat = chat_format(image.tokenizer_json, image.manifest["chat_style"])
    chip = Chip(image, args.context, adapters=chosen_adapters(args, image))
    engine = Engine(chip, spec, args.queue)
    folder = AdapterFolder(args.lora_root, args.checkpoint, has_key)
    return Service(name, image, chat, spec, engine, args.max_tokens, args.faithful, folder)
