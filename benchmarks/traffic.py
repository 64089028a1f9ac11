"""Time and memory of a million requests on ten cards, one hypothesis, one core.

python -m benchmarks.traffic
"""

from __future__ import annotations

import argparse
import json
import time

from emulator.host import peak_rss_bytes
from emulator.silicon.spec import load_spec
from emulator.timing.models import HC1_MIX, blank_stages, known_model
from emulator.traffic.metrics import report
from emulator.traffic.server import POLICIES, simulate
from emulator.traffic.service_times import service_times
from emulator.traffic.source import load_of, open_load
from weights.mix import Mix


def main() -> None:
    """Draw, simulate and report, by policy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.add_argument("--requests", type=int, default=1_000_000)
    args = parser.parse_args()
    begin = time.process_time()
    stages = blank_stages(known_model("llama-3.1-8b"), Mix.parse(HC1_MIX))
    times = service_times(stages, load_spec(), ("serial",))["serial"]
    load = open_load(load_of("sharegpt-300"), 0, 60.0, None, None, None, args.requests)
    requests = load.requests()
    seconds = {"tables and draws": time.process_time() - begin}
    for policy in POLICIES:
        begin = time.process_time()
        report(simulate(requests, times, 10, policy), None)
        seconds[policy] = time.process_time() - begin
    peak = peak_rss_bytes()
    megabytes = None if peak is None else peak / 1e6
    if args.json:
        print(json.dumps({"requests": args.requests, "cpu_s": seconds, "peak_mb": megabytes}))
        return
    for name, value in seconds.items():
        print(f"{name:16}  {value:6.2f} s of one core")
    print(f"{args.requests:,} requests; peak {megabytes or 0:,.0f} MB")


if __name__ == "__main__":
    main()
