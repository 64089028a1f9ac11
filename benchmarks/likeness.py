"""What a model's layers do to its residual stream, in float32: trained and synthetic side by side.

    python -m benchmarks.likeness --text FILE          the embedded trained model, on a text
    python -m benchmarks.likeness --checkpoint FOLDER  a checkpoint, on tokens drawn at random

Two windows of 512 tokens. Figures are medians over positions, without a window's first, which a
trained model gives a stream a hundred times as large as the others.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emulator.chat.template import chat_format
from emulator.quality.evaluate import log_softmax
from emulator.quality.float_model import Float32, FloatModel
from emulator.quality.tap_points import Exact
from emulator.terminal.table import table
from emulator.text import read_text, windows_of
from weights.gguf_source import GgufCheckpoint, embedded_checkpoint
from weights.safetensors_source import SafetensorsCheckpoint

WINDOW, WINDOWS = 512, 2
EVERY = 16  # positions of the second half whose scores are looked at
FIGURES = ("stream", "scores", "averaged", "attention", "gate", "hidden", "feed-forward")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--text", type=Path)
    given.add_argument("--checkpoint", type=Path)
    args = parser.parse_args()
    if args.text:
        source = GgufCheckpoint(embedded_checkpoint())
        chat = chat_format(source.tokenizer_json, source.chat_style)
        windows = windows_of(chat.encode(read_text(args.text)), WINDOW, args.text)[:WINDOWS]
        model = FloatModel.of_checkpoint(source)
    else:
        model = FloatModel.of_checkpoint(SafetensorsCheckpoint(args.checkpoint))
        drawn = np.random.default_rng(1).integers(0, model.config.vocabulary, (WINDOWS, WINDOW))
        windows = drawn.tolist()
    print(_embedding(model), _gains(model), sep="\n")
    layers, logits = zip(*(_window(model, ids) for ids in windows), strict=True)
    mean = np.mean(layers, axis=0)
    rows = [[str(i), *(f"{value:.3f}" for value in row)] for i, row in enumerate(mean)]
    if len(mean) > 2:
        rows.append(["2 .., median", *(f"{value:.3f}" for value in np.median(mean[2:], axis=0))])
    print(table(["layer", *FIGURES], rows))
    deviation, entropy, best = np.mean(logits, axis=0)
    print(f"logits: deviation {deviation:.2f}, entropy {entropy:.2f} nats, best token {best:.3f}")


def _embedding(model: FloatModel) -> str:
    rows, columns = _rms(model.embedding), _rms(model.embedding.T)
    loud = np.percentile(columns, [99, 100]) / np.median(columns)
    return (
        f"embedding: rows of length {rows.mean() * model.config.hidden**0.5:.2f}; columns, in "
        f"medians: {loud[0]:.1f} (the 99th percentile), {loud[1]:.1f} (the loudest)"
    )


def _gains(model: FloatModel) -> str:
    gains = [w[name] for w in model.layers for name in ("attn_norm", "ffn_norm")]
    spread = np.median([gain.std() / np.abs(gain).mean() for gain in gains])
    return f"gains: deviation / mean {spread:.2f} (median of the norms), in the last norm " + (
        f"{model.final_gain.std() / model.final_gain.mean():.2f}"
    )


def _window(model: FloatModel, ids: list[int]) -> tuple[list[list[float]], list[float]]:
    """FIGURES of every layer; deviation, entropy and probability of the best, of the logits."""
    r, layers = model.embedding[ids], []
    for number in range(len(model.layers)):
        r, figures = _layer(model, number, r)
        layers.append(figures)
    logits = model.logits(r[1:])
    log_p = log_softmax(logits)
    p = np.exp(log_p)
    entropy = -(p * log_p).sum(axis=1).mean()
    return layers, [logits.std(axis=1).mean(), entropy, p.max(axis=1).mean()]


class Watched(Exact):
    """Keeps the signals of one layer, by place, while nothing changes."""

    def __init__(self) -> None:
        self.seen: dict[str, Float32] = {}

    def wire(self, place: str, x: Float32) -> Float32:
        self.seen[place] = x
        return x

    def silu(self, gate: Float32) -> Float32:
        self.seen["gate"] = gate
        return super().silu(gate)


def _layer(model: FloatModel, number: int, r: Float32) -> tuple[Float32, list[float]]:
    """The stream after a layer, and FIGURES: RMS of the stream before it; deviation of a row of
    attention scores; RMS of the attention's output, of a value's; what attention adds, of the
    stream; RMS of the gate and of the down projection's input; what the feed-forward adds.
    """
    watched, w = Watched(), model.layers[number]
    after, seen = replace(model, places=watched).layer(number, r), watched.seen
    attention = seen["o_input"] @ w["o"].T
    between = r + attention
    value = np.median(_rms(np.concatenate(seen["v"], axis=1))[1:])
    return after, [
        np.median(_rms(r)[1:]),
        _scores(seen["q"], seen["k"]),
        np.median(_rms(seen["o_input"])[1:]) / value,
        np.median((_rms(attention) / _rms(r))[1:]),
        np.median(_rms(seen["gate"])[1:]),
        np.median(_rms(seen["down_input"])[1:]),
        np.median((_rms(after - between) / _rms(between))[1:]),
    ]


def _scores(q: Float32, k: Float32) -> float:
    """Deviation of scores over the positions before one, the first left out: median over rows."""
    found = []
    for head in range(len(q)):
        keys = k[head * len(k) // len(q)]
        for place in range(q.shape[1] // 2, q.shape[1], EVERY):
            scores = keys[1 : place + 1] @ q[head, place] / np.sqrt(q.shape[2])
            found.append(scores.std())
    return float(np.median(found))


def _rms(x: Float32) -> NDArray[np.float64]:
    """Of each row."""
    return np.asarray(np.sqrt(np.mean(np.square(x, dtype=np.float64), axis=-1)))


if __name__ == "__main__":
    main()
