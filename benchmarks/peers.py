"""The same shapes here and in other engines, alternating: medians, ratios of speeds.

    python -m benchmarks.peers [--json] [--llama-python PATH] [--model smollm2] [--layers 32]
        [--ik-bench PATH] [--batched-bench PATH] [--openvino-python PATH]
        [--sequences 1,2,4,8,16]

llama.cpp comes as llama-cpp-python, in this environment or in the one of --llama-python;
ik_llama.cpp as its llama-bench, which loads the model anew each round and decodes from an empty
cache. --batched-bench is llama.cpp's llama-batched-bench: a token of each of several sequences at
once. OpenVINO GenAI reads the GGUF of the small model. What is absent is left out. SmolLM2 is its
Q4_1 against the default image; the 8B shape is random weights, Q3_K against 3-bit codes. With fewer
--layers, all sides have fewer. A round beside which others used the CPU is measured again; how many
were is printed.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import common
from benchmarks.llama_tools import batched_bench, llama_bench
from benchmarks.load import Load
from emulator.board import Board
from weights.rom import RomImage

Times = dict[tuple[str, str], list[float]]  # (what, who) -> seconds of each round
OURS, LLAMA, IK, OPENVINO = "ours", "llama.cpp", "ik_llama.cpp", "OpenVINO GenAI"


class Peer:
    """A process of another engine that measures itself when asked; the script says how."""

    def __init__(self, script: str, python: str, model: Path, threads: int) -> None:
        self._script = Path(__file__).with_name(script)
        self._process = subprocess.Popen(
            [python, str(self._script), str(model), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._script.name} ended with status {self._process.wait()}")
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


def measured(
    image: RomImage, gguf: Path, peers: dict[str, Peer], args: argparse.Namespace, load: Load
) -> Times:
    """Rounds in which every side measures everything once, one after the other."""
    board = Board(image, max(args.sequences), args.context + args.tokens + args.prompt)
    chip, pids = board.chips[0], [peer.pid for peer in peers.values()]
    times: Times = {}

    def note(who: str, action: Callable[[], dict[str, float]]) -> None:
        for what, seconds in load.round(action, pids).items():
            times.setdefault((what, who), []).append(seconds)

    def ours() -> dict[str, float]:
        found = {"prefill": common.prefill_seconds(chip, args.prompt)}
        common.fill_kv(chip, args.context)
        return found | {"decode": common.decode_seconds(chip, args.context, args.tokens)}

    def theirs(peer: Peer) -> dict[str, float]:
        decode = peer.seconds("decode", args.context, args.tokens)
        return {"prefill": peer.seconds("prefill", args.prompt), "decode": decode}

    def together() -> dict[str, float]:
        seconds = common.sequence_seconds(board, args.sequences, args.context, args.tokens)
        return {f"{n} sequences": value for n, value in seconds.items()}

    def batched() -> dict[str, float]:
        sizes = args.threads, args.context, args.tokens, args.sequences
        return {
            f"{n} sequences": s for n, s in batched_bench(args.batched_bench, gguf, *sizes).items()
        }

    common.prefill_seconds(chip, args.prompt)
    for _ in range(args.rounds):
        note(OURS, ours)
        for who, peer in peers.items():
            note(who, lambda peer=peer: theirs(peer))  # type: ignore[misc]
        if args.ik_bench:
            sizes = args.threads, args.prompt, args.tokens, args.ik_args.split()
            note(IK, lambda sizes=sizes: llama_bench(args.ik_bench, gguf, *sizes))  # type: ignore[misc]
        if args.batched_bench:
            note(OURS, together)
            note(LLAMA, batched)
    return times


def rows_of(name: str, layers: int, times: Times, args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each thing measured and each peer: medians, and how much faster we are."""
    rows = []
    for (what, who), theirs in times.items():
        if who == OURS:
            continue
        ours = times[what, OURS]
        tokens = args.prompt if what == "prefill" else int(what.split()[0]) if " " in what else 1
        rows.append(
            {
                "model": name,
                "layers": layers,
                "what": what,
                "threads": args.threads,
                "peer": who,
                "ours_tok_per_s": tokens / statistics.median(ours),
                "peer_tok_per_s": tokens / statistics.median(theirs),
                "ratio": statistics.median(theirs) / statistics.median(ours),
                "ratio_of_best": min(theirs) / min(ours),
            }
        )
    return rows


def main() -> None:
    parser = common.parser(__doc__.splitlines()[0])
    parser.add_argument("--llama-python", default=sys.executable, help="where llama_cpp lives")
    parser.add_argument("--openvino-python", metavar="PATH", help="where openvino_genai lives")
    parser.add_argument("--ik-bench", type=Path, metavar="PATH", help="ik_llama.cpp's llama-bench")
    parser.add_argument(
        "--ik-args", default="-rtr 1", help="its options; default: repacked weights"
    )
    parser.add_argument("--batched-bench", type=Path, metavar="PATH", help="llama-batched-bench")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=128, help="tokens of a prefill")
    parser.add_argument("--context", type=int, default=64, help="tokens before a decode step")
    parser.add_argument("--tokens", type=int, default=16, help="decode steps of a round")
    parser.add_argument("--sequences", type=common.numbers, default=[1, 2, 4, 8, 16])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    llama = has_llama(args.llama_python)
    if not (llama or args.openvino_python or args.ik_bench or args.batched_bench):
        print(
            f"skipped: {args.llama_python} has no llama_cpp, and there is neither --ik-bench nor "
            "--batched-bench nor --openvino-python",
            file=sys.stderr,
        )
        return
    common.use_threads(args.threads)
    rows, load = list[dict[str, Any]](), Load()
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
            peers = {}
            if llama:
                peers[LLAMA] = Peer("llama_peer.py", args.llama_python, gguf, args.threads)
            if args.openvino_python and model == "smollm2":  # it does not read Q3_K
                python = args.openvino_python
                peers[OPENVINO] = Peer("openvino_peer.py", python, gguf, args.threads)
            for peer in peers.values():
                stack.callback(peer.close)
            times = measured(image, gguf, peers, args, load)
            rows += rows_of(model, image.config.layers, times, args)
    bandwidth = common.read_bandwidth(args.threads)
    common.show("peers", rows, args.json, read_gb_per_s=round(bandwidth / 1e9, 2), **load.told())


if __name__ == "__main__":
    main()
