"""The running server against the simulation: a trace replayed by an HTTP client that streams.

python -m benchmarks.replay                        # starts `serve --cards 3 --pace chip` itself
python -m benchmarks.replay --trace records.jsonl  # as `plan --out` writes them

The simulation gets the times at which the client sent, and the lengths that were served.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.common import show
from emulator.traffic.requests import NS, Ints, Requests, independent
from emulator.traffic.server import Served, simulate
from emulator.traffic.service_times import ServiceTimes
from emulator.traffic.traces import read_trace

PERCENTILES = (50, 90, 99)
LEAD_SECONDS = 0.5  # before the first request, so that it is not late
PATH = "/v1/completions"


@dataclass(frozen=True, slots=True)
class Seen:
    """What the client saw; float64[requests], seconds of time.monotonic()."""

    sent: np.ndarray
    first: np.ndarray
    last: np.ndarray
    tokens: Ints  # of each answer


def replay(url: str, requests: Requests, slow: float, vocabulary: int, **fields: Any) -> Seen:
    """Send each request at its time, `slow` times later, and read its stream to the end.

    Prompts are token ids that share no beginning. Raises RuntimeError for one that is refused.
    """
    return asyncio.run(_replay(url, requests, slow, vocabulary, fields))


async def _replay(
    url: str, requests: Requests, slow: float, vocabulary: int, fields: dict[str, Any]
) -> Seen:
    rng = np.random.default_rng(0)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=50)
    async with httpx.AsyncClient(base_url=url, timeout=None, limits=limits) as client:
        begin = time.monotonic() + LEAD_SECONDS
        rows = []
        for i, arrival in enumerate(requests.arrival_ns.tolist()):
            prompt = rng.integers(0, vocabulary, requests.prompt[i]).tolist()
            prompt[0] = i % vocabulary
            body = {"prompt": prompt, "max_tokens": int(requests.output[i]), "stream": True}
            body |= {"ignore_eos": True, **fields}
            rows.append(_ask(client, begin + slow * arrival / NS, body))
        columns = np.array(await asyncio.gather(*rows)).T
    return Seen(columns[0], columns[1], columns[2], columns[3].astype(np.int64))


async def _ask(client: httpx.AsyncClient, at: float, body: dict[str, Any]) -> Sequence[float]:
    await asyncio.sleep(at - time.monotonic())
    sent, first, last, tokens = time.monotonic(), 0.0, 0.0, 0
    async with client.stream("POST", PATH, json=body) as reply:
        if reply.status_code != 200:
            raise RuntimeError(f"{reply.status_code}: {await reply.aread()!r}")
        async for line in reply.aiter_lines():
            if line.startswith("data: {") and (event := json.loads(line[6:])).get("chip"):
                last = time.monotonic()
                first, tokens = first or last, event["chip"]["tokens"]
    return sent, first, last, tokens


def expected(seen: Seen, prompt: Ints, times: ServiceTimes, cards: int, slow: float) -> Served:
    """The simulation of what the client sent, in the chip's own time."""
    order = np.argsort(seen.sent, kind="stable")
    arrival = np.rint((seen.sent[order] - seen.sent.min()) / slow * NS).astype(np.int64)
    requests = independent(arrival, prompt[order], seen.tokens[order])
    return simulate(requests, times, cards, "one-queue")


def compare(seen: Seen, served: Served, slow: float) -> list[dict[str, Any]]:
    """Percentiles of time to first token and of the whole answer, ms; measured over simulated."""
    rows = []
    for name, ends, simulated in (
        ("ttft", seen.first, served.first_ns), ("e2el", seen.last, served.last_ns)
    ):  # fmt: skip
        measured = 1e3 * (ends - seen.sent)
        model = slow * (simulated - served.arrival_ns) / (NS / 1e3)
        for percent in PERCENTILES:
            pair = float(np.percentile(measured, percent)), float(np.percentile(model, percent))
            row = {"metric": f"p{percent}_{name}_ms", "served": pair[0], "simulated": pair[1]}
            rows.append(row | {"ratio": pair[0] / pair[1]})
    return rows


def shortened(requests: Requests, times: ServiceTimes, by: float, most: int, busy: float,
              cards: int) -> Requests:  # fmt: skip
    """The lengths divided, cut to `most` positions; arrivals stretched to keep the cards busy."""
    half = most // 2
    prompt = np.clip(np.rint(requests.prompt / by).astype(np.int64), 1, half)
    output = np.clip(np.rint(requests.output / by).astype(np.int64), 2, half)
    service = float(np.mean(times.prefill_ns(prompt) + times.decode_ns(prompt, output)))
    rate = (requests.arrival_ns.size - 1) / max(int(requests.arrival_ns.max()), 1)
    arrival = np.rint(requests.arrival_ns * (rate * service / (busy * cards))).astype(np.int64)
    return independent(arrival, prompt, output)


def main() -> None:
    """Replay against a server of one's own, and print both."""
    from emulator.chip import Chip
    from emulator.images.make import image_folder
    from emulator.images.recipe import EMBEDDED
    from emulator.silicon.spec import load_spec
    from emulator.traffic.service_times import service_times
    from emulator.traffic.source import load_of, open_load
    from weights.rom import open_image

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--json", action="store_true", help="one JSON object instead of a table")
    add("--image", type=Path, help="a ROM image; the small model's default one")
    add("--trace", type=Path, help="whose arrivals and lengths; ShareGPT's distribution without")
    add("--requests", type=int, default=200)
    add("--cards", type=int, default=3)
    add("--prefill", choices=("serial", "pipelined"), default="serial")
    add("--slow", type=float, default=10_000.0)
    add("--busy", type=float, default=0.7, help="share of the cards' time")
    add("--shorter", type=float, default=48.0, help="divide the lengths, so that it ends today")
    args = parser.parse_args()
    folder = args.image or image_folder(EMBEDDED)
    image, spec = open_image(folder), load_spec()
    times = service_times(
        Chip(image, 1).stages, spec, (args.prefill,), positions=image.context
    )[args.prefill]  # fmt: skip
    if args.trace:
        recorded, _ = read_trace(args.trace, args.requests)
    else:
        load = load_of("sharegpt-300")
        recorded = open_load(load, 0, None, "poisson", None, None, args.requests).requests()
    requests = shortened(recorded, times, args.shorter, image.context, args.busy, args.cards)
    command = [sys.executable, "-m", "emulator", "serve", "--image", str(folder), "--port", "0"]
    command += ["--cards", str(args.cards), "--queue", str(args.requests), "--pace", "chip"]
    command += ["--slow", str(args.slow), "--prefill", args.prefill]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    try:
        found = re.search(r"http://\S+", server.stderr.readline())
        assert found, server.stderr.read()
        seen = replay(found[0], requests, args.slow, image.config.vocabulary)
    finally:
        server.terminate()
    late = [line for line in server.stderr.read().splitlines() if "--slow" in line]
    served = expected(seen, requests.prompt, times, args.cards, args.slow)
    rows = compare(seen, served, args.slow)
    busy = sum(served.busy_ns) / args.cards / max(served.end_ns, 1)
    more = {"requests": len(requests), "cards": args.cards, "prefill": args.prefill,
            "slow": args.slow, "busy": round(busy, 3), "seconds": round(np.ptp(seen.last), 1),
            "late": late}  # fmt: skip
    show("replay", rows, args.json, **more)


if __name__ == "__main__":
    main()
