"""The same shapes here and in llama.cpp, alternating in one run: medians, and the ratio of speeds.

    python -m benchmarks.peers [--json] [--llama-python PATH] [--model smollm2] [--layers 32]

llama.cpp comes as llama-cpp-python, in this environment or in the one of --llama-python. SmolLM2 is
its Q4_1 against the default image; the 8B shape is random weights, Q3_K against 3-bit codes.
With fewer --layers, both sides have fewer.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import common
from emulator.chip import Chip


class Peer:
    """A llama.cpp process that measures itself when asked."""

    def __init__(self, python: str, model: Path, threads: int) -> None:
        script = Path(__file__).with_name("llama_peer.py")
        self._process = subprocess.Popen(
            [python, str(script), str(model), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the llama.cpp process ended with status {self._process.wait()}")
        return line

    def seconds(self, *request: object) -> float:
        assert self._process.stdin is not None
        print(*request, file=self._process.stdin, flush=True)
        return float(self._answer())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def has_llama(python: str) -> bool:
    found = subprocess.run([python, "-c", "import llama_cpp"], capture_output=True, check=False)
    return found.returncode == 0


def compare(name: str, chip: Chip, peer: Peer, args: Any) -> list[dict[str, Any]]:
    """Rounds of (ours, theirs, ours, theirs) for prefill and decode."""
    times: dict[tuple[str, str], list[float]] = {}
    common.prefill_seconds(chip, args.prompt)
    peer.seconds("prefill", args.prompt)
    for _ in range(args.rounds):
        for who, what, seconds in (
            ("ours", "prefill", lambda: common.prefill_seconds(chip, args.prompt)),
            ("theirs", "prefill", lambda: peer.seconds("prefill", args.prompt)),
            ("ours", "decode", lambda: _decode(chip, args)),
            ("theirs", "decode", lambda: peer.seconds("decode", args.context, args.tokens)),
        ):
            times.setdefault((what, who), []).append(seconds())
    rows = []
    for what, tokens in (("prefill", args.prompt), ("decode", 1)):
        ours, theirs = times[what, "ours"], times[what, "theirs"]
        rows.append(
            {
                "model": name,
                "layers": chip.image.config.layers,
                "what": what,
                "threads": args.threads,
                "ours_tok_per_s": tokens / statistics.median(ours),
                "llama_tok_per_s": tokens / statistics.median(theirs),
                "ratio": statistics.median(theirs) / statistics.median(ours),
                "ratio_of_best": min(theirs) / min(ours),
            }
        )
    return rows


def _decode(chip: Chip, args: Any) -> float:
    common.fill_kv(chip, args.context)
    return common.decode_seconds(chip, args.context, args.tokens)


def main() -> None:
    parser = common.parser(__doc__.splitlines()[0])
    parser.add_argument("--llama-python", default=sys.executable, help="where llama_cpp lives")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=128, help="tokens of a prefill")
    parser.add_argument("--context", type=int, default=64, help="tokens before a decode step")
    parser.add_argument("--tokens", type=int, default=16, help="decode steps of a round")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    if not has_llama(args.llama_python):
        print(
            f"skipped: {args.llama_python} has no llama_cpp; see --llama-python",
            file=sys.stderr,
        )
        return
    common.use_threads(args.threads)
    rows: list[dict[str, Any]] = []
    for model in common.chosen(args):
        with ExitStack() as stack:
            image = stack.enter_context(common.image_of(model, args.layers))
            if model == "smollm2":
                from weights.gguf_source import embedded_checkpoint

                gguf = embedded_checkpoint()
            else:
                from benchmarks.gguf_8b import write_gguf

                folder = stack.enter_context(TemporaryDirectory(prefix="gguf-8b-"))
                gguf = Path(folder) / "8b-q3_k.gguf"
                write_gguf(gguf, image.config)
            peer = Peer(args.llama_python, gguf, args.threads)
            stack.callback(peer.close)
            rows += compare(model, Chip(image), peer, args)
    bandwidth = common.read_bandwidth(args.threads)
    common.show("peers", rows, args.json, read_gb_per_s=round(bandwidth / 1e9, 2))


if __name__ == "__main__":
    main()
