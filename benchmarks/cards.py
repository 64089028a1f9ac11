"""`serve --cards N` from outside: clients side by side against one, and beside a long prompt.

    python -m benchmarks.cards [--json] [--cards 8] [--tokens 64] [--prompt 5000]

A server on the loopback, clients that stream. First one client alone and one a card, alternating:
tokens a second of all, without the prompts. Then three clients stream while another sends a long
prompt: the time between their tokens, before and while it runs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx
import numpy as np

from benchmarks import common
from benchmarks.load import Load

OTHERS = 3  # clients whose tokens a long prompt may hold up
SECONDS = 600.0  # a request that takes longer is given up


class Client:
    """One request after another to a server; `times` are those of a stream's tokens."""

    def __init__(self, http: httpx.AsyncClient, number: int, vocabulary: int) -> None:
        self._http, self._vocabulary = http, vocabulary
        self._rng = np.random.default_rng(number)
        self.times: list[float] = []

    async def ask(self, prompt: int, tokens: int) -> None:
        """A prompt of random tokens, which no card holds, and an answer of this length."""
        ids = self._rng.integers(0, self._vocabulary, prompt).tolist()
        body = {"prompt": ids, "max_tokens": tokens, "stream": True, "ignore_eos": True}
        self.times = []
        async with self._http.stream("POST", "/v1/completions", json=body) as reply:
            if reply.status_code != 200:
                raise SystemExit(f"{reply.status_code}: {await reply.aread()!r}")
            async for line in reply.aiter_lines():
                if line.startswith("data: {") and json.loads(line[6:]).get("chip"):
                    self.times.append(time.monotonic())


async def rate(clients: list[Client], tokens: int) -> float:
    """Tokens a second of all clients, while all of them stream."""
    await asyncio.gather(*(client.ask(16, tokens) for client in clients))
    begin = max(client.times[0] for client in clients)
    end = min(client.times[-1] for client in clients)
    return sum(begin < at <= end for client in clients for at in client.times) / (end - begin)


async def held_up(clients: list[Client], prompt: int) -> tuple[list[float], list[float], float]:
    """Seconds between tokens of all clients but the last, before and during its prompt; its own."""
    *others, last = clients
    for client in others:
        client.times = []  # those of an answer before
    streams = [asyncio.ensure_future(client.ask(16, 3000)) for client in others]
    while min(len(client.times) for client in others) < 60:
        await asyncio.sleep(0.05)
    begin = time.monotonic()
    await last.ask(prompt, 1)
    end = time.monotonic()
    for stream in streams:
        stream.cancel()
    await asyncio.gather(*streams, return_exceptions=True)
    before, beside = list[float](), list[float]()
    for client in others:
        for one, other in zip(client.times[8:], client.times[9:], strict=False):
            if other <= begin:
                before.append(other - one)
            elif one >= begin and other <= end:
                beside.append(other - one)
    return before, beside, end - begin


async def measured(url: str, args: argparse.Namespace, vocabulary: int) -> dict[str, Any]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=SECONDS, limits=limits) as http:
        clients = [Client(http, i, vocabulary) for i in range(args.cards)]
        await rate(clients, 8)  # warm
        alone, together = [], []
        for _ in range(args.rounds):
            alone.append(await rate(clients[:1], args.tokens))
            together.append(await rate(clients, args.tokens))
        before, beside, seconds = await held_up(clients[: OTHERS + 1], args.prompt)
    one, other = statistics.median(alone), statistics.median(together)
    usual = statistics.median(before)
    return {
        "cards": args.cards,
        "one_client_tok_per_s": one,
        "all_clients_tok_per_s": other,
        "ratio": other / one,
        "token_ms": 1e3 * usual,
        "token_ms_beside_prompt": 1e3 * statistics.median(beside),
        "times_p50": statistics.median(beside) / usual,
        "times_p95": float(np.percentile(beside, 95)) / usual,
        "prompt": args.prompt,
        "prompt_s": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--cards", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64, help="of an answer")
    parser.add_argument("--prompt", type=int, default=5000, help="tokens of the long prompt")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with common.image_of("smollm2", 0) as image:
        command = [sys.executable, "-m", "emulator", "serve", "--image", str(image.folder)]
        command += ["--port", "0", "--cards", str(args.cards)]
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert server.stderr is not None
        try:
            found = re.search(r"http://\S+", server.stderr.readline())
            assert found, server.stderr.read()
            load = Load(tries=1)  # the whole takes a minute, and what was beside it is told
            vocabulary = image.config.vocabulary
            row = load.round(
                lambda: asyncio.run(measured(found[0], args, vocabulary)), [server.pid]
            )
        finally:
            server.terminate()
            server.stderr.read()
            server.wait()
    common.show("cards", [row], args.json, **load.told())


if __name__ == "__main__":
    main()
