"""Bits against KL divergence, ROM images and llama.cpp's files on the same tokens.

    python -m benchmarks.quality --text FILE [--llama-python PATH] [--image DIR ...]
        [--gguf FILE ...] [--types Q3_K_M,IQ3_S] [--plain-types Q3_K_M] [--plot FILE.svg]
        [--json]

The reference of both sides is the embedded checkpoint's weights in float32, the protocol that of
`emulator eval`. Bits a weight are those of whole files: codes, scales, tables, tokenizer, header.
--types has llama.cpp quantise the reference, a GGUF file in float32, with an importance matrix of
the calibration text that ships; --plain-types without one.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import common
from benchmarks.importance import WINDOW, mean_squares
from benchmarks.peers import has_llama
from emulator.chat.template import chat_format
from emulator.chip import Chip
from emulator.images.make import image_folder
from emulator.images.recipe import EMBEDDED
from emulator.quality.evaluate import Distance, chip_logits, log_softmax, scored_losses
from emulator.quality.float_model import FloatModel
from emulator.quality.pictures import OWN_WEIGHTS, kl_over_bits
from emulator.terminal.plot import add_plot_option, save_plot
from emulator.text import read_text, windows_of
from weights.calibrate import DEFAULT_TEXT
from weights.gguf_source import GgufCheckpoint, embedded_checkpoint
from weights.rom import open_image

LLAMA = Path(__file__).with_name("llama_logits.py")
Logits = Callable[[list[int]], np.ndarray]  # tokens -> [tokens, vocabulary]


class LlamaLogits:
    """A llama.cpp process that answers tokens with logits."""

    def __init__(self, python: str, gguf: Path, threads: int) -> None:
        command = [python, str(LLAMA), "logits", str(gguf), str(threads)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._vocabulary = int(self._read(lambda out: out.readline()))

    def _read(self, how: Callable[[Any], bytes]) -> bytes:
        answer = how(self._process.stdout)
        if not answer:
            raise SystemExit(f"the llama.cpp process ended with status {self._process.wait()}")
        return answer

    def __call__(self, tokens: list[int]) -> np.ndarray:
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, tokens)).encode() + b"\n")
        self._process.stdin.flush()
        size = 4 * len(tokens) * self._vocabulary
        values = np.frombuffer(self._read(lambda out: out.read(size)), "<f4")
        return values.reshape(len(tokens), self._vocabulary)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def write_float32(path: Path, original: Path) -> None:
    """The GGUF file again, its tensors dequantised to float32."""
    from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
    from gguf.quants import dequantize

    reader = GGUFReader(original)
    writer = GGUFWriter(path, "llama")  # which writes general.architecture
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), field.types[0], inner)
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
        shape = [int(n) for n in reversed(tensor.shape)]
        writer.add_tensor(tensor.name, values.reshape(shape), raw_dtype=GGMLQuantizationType.F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def scores(logits: Logits, windows: list[list[int]], exact: list[np.ndarray]) -> dict[str, float]:
    """Distances of the windows' second halves from the exact logits of them, and perplexity."""
    distance, losses = Distance(), []
    for ids, one in zip(windows, exact, strict=True):
        log_q = log_softmax(logits(ids)[:-1])
        distance.add(log_softmax(one), log_q[len(ids) // 2 :])
        losses.append(scored_losses(log_q, ids))
    return {**distance.report(), "ppl": float(np.exp(np.concatenate(losses).mean()))}


def models(
    args: Any, folder: Path, weights: int, importance: Callable[[], dict[str, np.ndarray]]
) -> Iterator[tuple[str, str, float, Any]]:
    """(whose, name, bits a weight, logits), one model open at a time.

    `importance` computes the matrix for --types.
    """
    for path in args.image or [image_folder(EMBEDDED)]:
        image = open_image(path)
        chip = Chip(image)

        def logits(ids: list[int], chip: Chip = chip) -> np.ndarray:
            chip.rewind(0)
            return chip_logits(chip, ids)

        size = sum(file.stat().st_size for file in Path(path).iterdir())
        yield "ours", Path(path).name, 8 * size / weights, logits
    if not has_llama(args.llama_python):
        print(f"skipped: {args.llama_python} has no llama_cpp; see --llama-python", file=sys.stderr)
        return
    for gguf in args.gguf or [embedded_checkpoint()]:
        with closing(LlamaLogits(args.llama_python, gguf, args.threads)) as peer:
            own = not args.gguf
            name = f"Q4_1, {OWN_WEIGHTS}" if own else gguf.stem
            yield "llama.cpp", name, 8 * gguf.stat().st_size / weights, peer
    original, matrix = folder / "float32.gguf", folder / "importance.npz"
    kinds = [(kind, kind, [str(matrix)]) for kind in args.types.split(",") if kind]
    plain = [(f"{kind} plain", kind, []) for kind in args.plain_types.split(",") if kind]
    if kinds:
        print("computing the importance matrix", file=sys.stderr)
        np.savez(matrix, **importance())
    if kinds or plain:
        write_float32(original, embedded_checkpoint())
    for name, kind, more in kinds + plain:
        gguf = folder / f"{kind}.gguf"
        command = [args.llama_python, str(LLAMA), "quantise", str(original), str(gguf), kind]
        if subprocess.run([*command, *more], check=False).returncode:
            raise SystemExit(1)
        with closing(LlamaLogits(args.llama_python, gguf, args.threads)) as peer:
            yield "llama.cpp", name, 8 * gguf.stat().st_size / weights, peer
        gguf.unlink()


def main() -> None:
    parser = common.parser(__doc__.splitlines()[0], models=False)
    parser.add_argument("--text", type=Path, required=True, help="UTF-8 text")
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--limit", type=int, default=6144, help="tokens of the text used")
    parser.add_argument("--image", type=Path, action="append", help="ROM image of that checkpoint")
    parser.add_argument("--gguf", type=Path, action="append", help="file of that checkpoint")
    parser.add_argument("--types", default="", help="llama.cpp's types to make and measure")
    parser.add_argument("--plain-types", default="", help="the same, without importance matrix")
    parser.add_argument("--llama-python", default=sys.executable, help="where llama_cpp lives")
    parser.add_argument("--threads", type=int, default=2)
    add_plot_option(parser)
    args = parser.parse_args()
    common.use_threads(args.threads)
    source = GgufCheckpoint(embedded_checkpoint())
    chat = chat_format(source.tokenizer_json, source.chat_style)
    tokens = chat.encode(read_text(args.text))[: args.limit]
    windows = windows_of(tokens, args.window, args.text)
    reference = FloatModel.of_checkpoint(source)
    half = args.window // 2
    exact = [reference.forward(ids)[:-1] for ids in windows]
    losses = [scored_losses(log_softmax(one), ids) for one, ids in zip(exact, windows, strict=True)]
    exact = [one[half:].copy() for one in exact]

    def importance() -> dict[str, np.ndarray]:
        calibration = chat.encode(read_text(DEFAULT_TEXT))
        return mean_squares(reference, windows_of(calibration, WINDOW, DEFAULT_TEXT))

    rows = []
    with TemporaryDirectory(prefix="quality-") as folder:
        found = models(args, Path(folder), source.config.parameters, importance)
        for whose, name, bits, logits in found:
            rows.append(
                {"whose": whose, "name": name, "bits": bits, **scores(logits, windows, exact)}
            )
    if args.plot:
        save_plot(args.plot, lambda path: kl_over_bits(path, rows))
    more = {"ppl_reference": float(np.exp(np.concatenate(losses).mean()))}
    common.show("quality", rows, args.json, windows=len(windows), **more)


if __name__ == "__main__":
    main()
