"""Fuzzing of the whole chain: a damaged checkpoint is compiled, opened, read with, and served.

    python -m tests.fuzz.fuzz_chain [--seconds 600] [--seed 0]

Each round changes a tiny checkpoint at random places and takes it all the way, twice. Only an
EmulatorError of one line may end it. A round fails on any other BaseException, above CPU_SECONDS or
MEMORY_BYTES, and on a difference between the two runs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from emulator.board import Board
from emulator.chat.generate import generate
from emulator.chat.template import chat_of
from emulator.chip import Chip
from emulator.errors import EmulatorError
from emulator.host import peak_rss_bytes
from emulator.silicon.spec import load_spec
from tests.support.tiny_model import compile_tiny, write_tiny_checkpoint
from weights.rom import open_image

CPU_SECONDS, SECONDS = 60.0, 600.0  # of one run; a busy machine may keep it waiting
MEMORY_BYTES = 2 << 30  # at most resident
TEXT = "The cat, é 42!\n"
VALUES = (None, True, False, 0, 1, -1, 3, 2**31, 2**63, 1e300, 0.5, "", "x", "\ud800", [], [1], {})


def chain(checkpoint: Path, folder: Path) -> str:
    """What comes of a checkpoint: tokens and text, or the one line of its refusal."""
    try:
        image = open_image(compile_tiny(checkpoint, folder / "image"))
        chat = chat_of(image)
        ids = chat.encode(TEXT)
        if any(token >= image.config.vocabulary for token in ids):
            raise AssertionError("a text became a token without a row")
        spec = load_spec()
        answer = generate(Chip(image), spec, [*ids[:8], 1], 4)
        said = chat.decode(answer.token_ids)
        return json.dumps([ids, answer.token_ids, said, served(image, chat, spec)])
    except EmulatorError as error:
        line = f"{type(error).__name__}: {error}"
    assert "\n" not in line, "an error of several lines"
    return line


def served(image: Any, chat: Any, spec: Any) -> Any:
    """The reply to one chat, through the whole application without a socket."""
    import httpx

    from emulator.serve.app import build_app
    from emulator.serve.engine import Engine
    from emulator.serve.hosts import Hosts
    from emulator.serve.service import Service

    engine = Engine(Board(image, 1), spec, 4)
    service = Service("tiny", image, chat, spec, engine, 8)
    app = build_app(service, None, Hosts("127.0.0.1", "127.0.0.1", []), 10)
    body = {"messages": [{"role": "user", "content": TEXT}], "max_tokens": 3, "temperature": 0}

    async def ask() -> Any:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return (await client.post("/v1/chat/completions", json=body)).json()

    engine.start()
    try:
        reply = asyncio.run(ask())
    finally:
        engine.stop(10)
    assert not engine.died
    return reply.get("choices", reply.get("error"))


def damage(folder: Path, chance: random.Random) -> str:
    """Change one thing of a checkpoint; what it was."""
    kind = chance.choice(("bytes", "config", "tokenizer", "cut"))
    if kind in ("config", "tokenizer"):
        path = folder / f"{kind}.json"
        values = json.loads(path.read_text("utf-8"))
        where = _change(values, chance)
        path.write_text(json.dumps(values), "utf-8")
        return f"{path.name}: {where}"
    path = chance.choice(sorted(folder.iterdir()))
    data = bytearray(path.read_bytes())
    if kind == "cut":
        del data[chance.randrange(len(data)) :]
    else:
        end = min(len(data), 4096) if chance.random() < 0.7 else len(data)
        for _ in range(chance.choice((1, 2, 8))):
            data[chance.randrange(end)] = chance.randrange(256)
    path.write_bytes(data)
    return f"{path.name}: {kind}"


def _change(values: Any, chance: random.Random) -> str:
    """Set, add or take away one value somewhere inside."""
    path = []
    while isinstance(values, dict | list) and values:
        keys = list(values) if isinstance(values, dict) else range(len(values))
        key: Any = chance.choice(keys[:20] if isinstance(keys, list) else keys)
        path.append(str(key))
        inner = values[key]
        if not isinstance(inner, dict | list) or not inner or chance.random() < 0.3:
            values[key] = chance.choice(VALUES)
            return f"{'.'.join(path)} = {values[key]!r}"
        values = inner
    return "nothing"


def one_round(number: int, good: Path) -> str:
    """A damaged checkpoint, twice through the chain. Raises AssertionError for what must not be."""
    results, before = [], peak_rss_bytes() or 0  # of a process that may have done other things
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        for run in range(2):
            folder = Path(name) / str(run)
            checkpoint = Path(shutil.copytree(good, folder / "checkpoint"))
            what = damage(checkpoint, random.Random(number))
            begin, busy = time.monotonic(), time.process_time()
            told = chain(checkpoint, folder).replace(str(folder), "")
            spent = time.process_time() - busy
            assert spent < CPU_SECONDS, f"{number}: {what}: {spent:.0f} CPU seconds"
            assert time.monotonic() - begin < SECONDS, f"{number}: {what}: too long"
            more = (peak_rss_bytes() or 0) - before
            assert more < MEMORY_BYTES, f"{number}: {what}: too much memory"
            results.append(told)
    assert results[0] == results[1], f"{number}: {what}: two runs differ: {results}"
    return f"{number}: {what}: {results[0][:100]}"


def fuzz(until: Callable[[int], bool], seed: int, show: Callable[[str], object]) -> int:
    """Rounds until `until` says so; how many. Raises with the round's number if one fails."""
    number = 0
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        good = write_tiny_checkpoint(Path(name) / "checkpoint")
        while not until(number):
            try:
                show(one_round(seed + number, good))
            except BaseException:
                show(f"round {seed + number} failed")
                raise
            number += 1
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    end = time.monotonic() + args.seconds
    count = fuzz(lambda number: time.monotonic() > end, args.seed, print)
    print(f"{count} rounds, none failed", file=sys.stderr)


if __name__ == "__main__":
    main()
