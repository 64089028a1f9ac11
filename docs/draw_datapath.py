"""Draw docs/datapath.svg: one layer of the chip, with the width of every signal.

    python docs/draw_datapath.py [OUTPUT]

Standard library only; the same input gives the same bytes.
"""

from __future__ import annotations

import sys
from pathlib import Path

OUTPUT = Path(__file__).with_name("datapath.svg")
WIDTH, HEIGHT = 900, 1190
STREAM, CENTRE = 60, 500  # x of the residual stream and of the blocks
ATTENTION_ADD, FEED_FORWARD_ADD, HEAD = 672, 1042, 1136  # y where the stream meets them

COLOURS = {  # kind of block -> (fill, border)
    "rom": ("#dbeafe", "#2563eb"),
    "norm": ("#ede9fe", "#7c3aed"),
    "table": ("#fef3c7", "#b45309"),
    "rotate": ("#dcfce7", "#15803d"),
    "sram": ("#fee2e2", "#b91c1c"),
    "plain": ("#f1f5f9", "#475569"),
}
INK, FAINT = "#1e293b", "#475569"
INT32 = "int32 Q15.16"
INT8 = "int8 + scale"
TIMES = "\u00d7"


class Picture:
    """Collects SVG elements; y grows downwards."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def text(self, x: float, y: float, words: str, size: int = 12, style: str = "") -> None:
        where = f'x="{x:g}" y="{y:g}" font-size="{size}"'
        self.parts.append(f"<text {where} {style or _ink()}>{_escape(words)}</text>")

    def box(self, x: int, y: int, w: int, kind: str, title: str, *lines: str) -> int:
        """A block of width w centred on x, top at y; returns its bottom."""
        fill, border = COLOURS[kind]
        height = 28 + 16 * len(lines)
        self.parts.append(
            f'<rect x="{x - w / 2:g}" y="{y}" width="{w}" height="{height}" rx="7" '
            f'fill="{fill}" stroke="{border}" stroke-width="1.4"/>'
        )
        self.text(x, y + 19, title, 14, _ink("middle", weight=600))
        for i, line in enumerate(lines):
            self.text(x, y + 36 + 16 * i, line, 12, _ink("middle", FAINT))
        return y + height

    def line(self, *points: tuple[float, float], arrow: bool = True, width: float = 1.6) -> None:
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        end = ' marker-end="url(#tip)"' if arrow else ""
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{INK}" stroke-width="{width:g}"{end}/>'
        )

    def signal(self, x: float, top: float, bottom: float, label: str) -> None:
        """A vertical arrow with its width written beside it."""
        self.line((x, top), (x, bottom))
        self.text(x + 8, top + 19, label, 12, _ink(colour=FAINT))

    def svg(self) -> str:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
            f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            "font-family=\"-apple-system, 'Segoe UI', Helvetica, Arial, sans-serif\">\n"
            "<title>The datapath of one layer, with the width of every signal</title>\n"
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            f'markerHeight="7" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="{INK}"/>'
            "</marker></defs>\n"
            f'<rect x="1" y="1" width="{WIDTH - 2}" height="{HEIGHT - 2}" rx="16" '
            'fill="#ffffff" stroke="#cbd5e1"/>\n'
        )
        return head + "\n".join(self.parts) + "\n</svg>\n"


def _ink(anchor: str = "start", colour: str = INK, weight: int = 400) -> str:
    return f'text-anchor="{anchor}" fill="{colour}" font-weight="{weight}"'


def _escape(words: str) -> str:
    return words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def draw() -> str:
    """The whole picture as SVG text."""
    p = Picture()
    p.text(28, 38, "One token through the chip", 18, _ink(weight=600))
    p.text(28, 59, "integers from the embedding to the top-k", 13, _ink(colour=FAINT))
    _legend(p)
    p.parts.append(
        f'<rect x="20" y="166" width="{WIDTH - 40}" height="920" rx="12" fill="none" '
        'stroke="#94a3b8" stroke-dasharray="6 5"/>'
    )
    p.text(WIDTH - 36, 188, "one layer", 13, _ink("end", FAINT, 600))
    p.box(110, 84, 164, "rom", "Embedding", "token id → its row")
    p.text(STREAM + 10, 150, f"residual stream: {INT32}, in the basis R1", 12, _ink(colour=FAINT))
    tops = (128, ATTENTION_ADD + 13, FEED_FORWARD_ADD + 13)
    for top, bottom in zip(tops, (ATTENTION_ADD - 13, FEED_FORWARD_ADD - 13, HEAD), strict=True):
        p.line((STREAM, top), (STREAM, bottom), arrow=False, width=3.2)
    _attention_half(p)
    _feed_forward_half(p)
    _head(p)
    return p.svg()


def _legend(p: Picture) -> None:
    kinds = (
        ("rom", "mask ROM"),
        ("norm", "norm"),
        ("rotate", "adders only"),
        ("table", "small tables"),
        ("sram", "SRAM"),
        ("plain", "arithmetic"),
    )
    for i, (kind, words) in enumerate(kinds):
        x, y = 520 + 122 * (i % 3), 27 + 22 * (i // 3)
        fill, border = COLOURS[kind]
        p.parts.append(
            f'<rect x="{x}" y="{y}" width="13" height="13" rx="3" fill="{fill}" stroke="{border}"/>'
        )
        p.text(x + 19, y + 11, words, 12, _ink(colour=FAINT))


def _norm(p: Picture, y: int) -> None:
    """The branch from the stream into the norm at the top of a sublayer."""
    p.line((STREAM, y + 22), (CENTRE - 145, y + 22))
    p.text(STREAM + 12, y + 15, INT32, 12, _ink(colour=FAINT))
    p.box(CENTRE, y, 290, "norm", "RMSNorm → int8", "1 / rms goes into the scale, not the values")


def _fabric(p: Picture, y: int, title: str) -> None:
    p.box(
        CENTRE,
        y,
        640,
        "rom",
        f"Weight fabric: {title}",
        "multiply once by the alphabet (int8) → select by ROM code → add",
        f"{TIMES} group scale (int8) → accumulator < 2^44 → {TIMES} row and token scale",
    )


def _add(p: Picture, y: int, x: float) -> None:
    """Output of a sublayer, at (x, y), back into the stream."""
    p.parts.append(
        f'<circle cx="{STREAM}" cy="{y}" r="13" fill="#f1f5f9" stroke="#475569" '
        'stroke-width="1.4"/>'
    )
    p.text(STREAM, y + 6, "+", 18, _ink("middle", weight=600))
    p.line((x, y), (STREAM + 14, y))
    p.text(STREAM + 26, y - 7, f"delta: {INT32}", 12, _ink(colour=FAINT))
    p.text(STREAM + 26, y + 17, "saturating add", 12, _ink(colour=FAINT))


def _attention_half(p: Picture) -> None:
    q, k, v = 290, 500, 720
    _norm(p, 182)
    p.signal(CENTRE, 226, 256, f"x: {INT8}")
    _fabric(p, 256, "q, k, v")
    p.signal(q, 316, 346, f"q: {INT32}")
    p.signal(k, 316, 346, f"k: {INT32}")
    p.signal(v, 316, 420, f"v: {INT32}")
    p.text(v + 8, 388, "R2 is in its matrix", 12, _ink(colour=FAINT))
    p.box(395, 346, 430, "table", "RoPE", "cosine and sine by position, Q1.14")
    p.signal(q, 390, 420, f"q: {INT32}")
    p.signal(k, 390, 420, f"k: {INT32}")
    p.box(
        395, 420, 430, "rotate", "R3: Hadamard of each head → int8", "16-bit mantissas in, adders"
    )
    p.box(v, 420, 190, "plain", "narrow → int8", "each head of v")
    p.signal(q, 464, 568, f"q: {INT8}")
    p.signal(k, 464, 494, f"k: {INT8}")
    p.signal(v, 464, 494, f"v: {INT8}")
    p.box(620, 494, 400, "sram", "KV SRAM", "int8, with a scale of 24 bits a position and head")
    p.signal(620, 538, 568, f"all positions: {INT8}")
    p.box(
        CENTRE,
        568,
        640,
        "table",
        "Attention → int8",
        "scores int32 Q23.8 in log2 units → 2^-n by table: 15 bits → sum of p and of p v",
        "one reciprocal of the sum → int32 Q15.16 → narrowed by the token's maximum",
    )
    p.signal(CENTRE, 628, 658, f"x: {INT8}")
    p.box(CENTRE, 658, 300, "rom", "Weight fabric: o")
    _add(p, ATTENTION_ADD, CENTRE - 150)


def _feed_forward_half(p: Picture) -> None:
    gate, up = 340, 600
    _norm(p, 716)
    p.signal(CENTRE, 760, 790, f"x: {INT8}")
    _fabric(p, 790, "gate, up")
    p.signal(gate, 850, 880, f"gate: {INT32}")
    p.signal(up, 850, 880, f"up: {INT32}")
    p.box(
        CENTRE,
        880,
        640,
        "table",
        "SwiGLU",
        "SiLU by table: 256 steps over ±8, linear between; times up",
    )
    p.signal(CENTRE, 924, 954, INT32)
    p.box(
        CENTRE,
        954,
        640,
        "rotate",
        "R4: Hadamard of each block → int8",
        "16-bit mantissas in, adders; then the token's maximum",
    )
    p.signal(CENTRE, 998, 1028, f"x: {INT8}")
    p.box(CENTRE, 1028, 300, "rom", "Weight fabric: down")
    _add(p, FEED_FORWARD_ADD, CENTRE - 150)
    p.text(WIDTH - 36, 1072, "then the next layer", 12, _ink("end", FAINT))


def _head(p: Picture) -> None:
    p.line((STREAM, HEAD), (200, HEAD))
    p.text(STREAM + 12, HEAD - 8, INT32, 12, _ink(colour=FAINT))
    p.box(
        290,
        HEAD - 30,
        180,
        "norm",
        "Final norm → int8",
        "tied model: rotate back,",
        "gain, rotate again",
    )
    p.line((380, HEAD), (474, HEAD))
    p.text(427, HEAD - 8, INT8, 12, _ink("middle", FAINT))
    p.box(552, HEAD - 22, 156, "rom", "Weight fabric:", "head")
    p.line((630, HEAD), (738, HEAD))
    p.text(684, HEAD - 8, "logits: int32", 12, _ink("middle", FAINT))
    p.box(800, HEAD - 22, 124, "plain", "Top-k", "8 token ids")


if __name__ == "__main__":
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    output.write_text(draw(), encoding="utf-8", newline="\n")
