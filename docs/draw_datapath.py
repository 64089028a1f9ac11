"""Draw docs/datapath.svg: one layer of the chip, with the width of every signal.

    python docs/draw_datapath.py [OUTPUT]

Standard library only; the same input gives the same bytes.
"""

from __future__ import annotations

import sys
from pathlib import Path

OUTPUT = Path(__file__).with_name("datapath.svg")
WIDTH, HEIGHT = 900, 1130
STREAM = 62  # x of the residual stream

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


class Picture:
    """Collects SVG elements; y grows downwards."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def text(self, x: float, y: float, words: str, size: int = 12, style: str = "") -> None:
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size}" {style or _ink()}>{_escape(words)}</text>'
        )

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

    def signal(self, x: float, top: float, bottom: float, label: str, left: bool = False) -> None:
        """A vertical arrow with its width written beside it."""
        self.line((x, top), (x, bottom))
        middle = (top + bottom) / 2 + 4
        if left:
            self.text(x - 8, middle, label, 12, _ink("end", FAINT))
        else:
            self.text(x + 8, middle, label, 12, _ink(colour=FAINT))

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
    p.text(28, 36, "One token through the chip", 18, _ink(weight=600))
    p.text(28, 56, "integers from the embedding to the top-k; the layer in the frame repeats", 13,
           _ink(colour=FAINT))
    _legend(p)

    p.text(STREAM + 8, 99, "token id", 12, _ink(colour=FAINT))
    p.line((STREAM, 84), (STREAM, 108))
    p.box(STREAM + 32, 108, 132, "rom", "Embedding", "row of the ROM")

    p.parts.append(
        f'<rect x="20" y="176" width="{WIDTH - 40}" height="756" rx="12" fill="none" '
        'stroke="#94a3b8" stroke-dasharray="6 5"/>'
    )
    p.text(WIDTH - 36, 196, "one layer", 13, _ink("end", FAINT, 600))
    p.line((STREAM, 152), (STREAM, 544), width=3.2)
    p.line((STREAM, 572), (STREAM, 884), width=3.2)
    p.line((STREAM, 912), (STREAM, 984), width=3.2)
    p.text(STREAM + 10, 169, f"residual stream: {INT32}, in the rotated basis R1", 12,
           _ink(colour=FAINT))
    _attention_half(p)
    _feed_forward_half(p)
    _head(p)
    return p.svg()


def _legend(p: Picture) -> None:
    kinds = (("rom", "mask ROM"), ("norm", "norm"), ("rotate", "adders only"),
             ("table", "tables"), ("sram", "SRAM"), ("plain", "arithmetic"))
    x = 372
    for kind, words in kinds:
        fill, border = COLOURS[kind]
        p.parts.append(
            f'<rect x="{x}" y="84" width="13" height="13" rx="3" fill="{fill}" stroke="{border}"/>'
        )
        p.text(x + 18, 95, words, 12, _ink(colour=FAINT))
        x += 36 + 7 * len(words)


def _fabric(p: Picture, x: int, y: int, w: int, title: str) -> int:
    return p.box(x, y, w, "rom", title,
                 "multiply once (int8 x alphabet) → select → add",
                 "x group scale (8 bit) → acc int64 → x row scale, x scale")


def _norm(p: Picture, y: int) -> None:
    """The branch from the stream into a norm at the top of a sublayer."""
    p.line((STREAM, y + 22), (212, y + 22))
    p.text(STREAM + 10, y + 16, INT32, 12, _ink(colour=FAINT))
    p.box(322, y, 220, "norm", "RMSNorm → int8", "root goes into the scale")


def _add(p: Picture, y: int, x: float) -> None:
    """Sublayer output back into the stream; y is the centre of the adder."""
    p.parts.append(
        f'<circle cx="{STREAM}" cy="{y}" r="13" fill="#f1f5f9" stroke="#475569" '
        'stroke-width="1.4"/>'
    )
    p.text(STREAM, y + 6, "+", 18, _ink("middle", weight=600))
    p.line((x, y), (STREAM + 15, y))
    p.text(STREAM + 24, y - 7, f"delta: {INT32}", 12, _ink(colour=FAINT))
    p.text(STREAM + 24, y + 17, "saturating residual add", 12, _ink(colour=FAINT))


def _attention_half(p: Picture) -> None:
    _norm(p, 206)
    p.signal(322, 250, 276, f"x: {INT8}")
    _fabric(p, 452, 276, 480, "Weight fabric  q, k, v")
    p.signal(302, 336, 364, f"q: {INT32}")
    p.signal(452, 336, 364, f"k: {INT32}")
    p.signal(622, 336, 432, f"v: {INT32} (R2 in its matrix)")
    p.box(377, 364, 250, "table", "RoPE", "cos and sin tables Q1.14")
    p.signal(302, 408, 432, INT32)
    p.signal(452, 408, 432, INT32)
    p.box(377, 432, 250, "rotate", "R3: Hadamard → int8", "each head of q and of k")
    p.box(640, 432, 180, "plain", "narrow → int8", "each head of v")
    p.line((275, 476), (275, 506))
    p.text(283, 495, f"q: {INT8}", 12, _ink(colour=FAINT))
    p.line((452, 476), (452, 490), (590, 490), (590, 506))
    p.text(470, 485, f"k: {INT8}", 12, _ink(colour=FAINT))
    p.signal(690, 476, 506, f"v: {INT8}")
    p.box(640, 506, 300, "sram", "KV SRAM", "int8, and a scale of 24 bit per position and head")
    p.line((490, 528), (426, 528))
    p.text(458, 520, "k, v", 12, _ink("middle", FAINT))
    p.box(308, 506, 234, "table", "Attention",
          "scores Q23.8 → exp2 table →", "p 15 bit → sum p·v → 1 / sum p")
    p.line((308, 566), (308, 580), (660, 580))
    p.text(484, 574, f"{INT32} → narrow → {INT8}", 12, _ink("middle", FAINT))
    p.box(735, 562, 150, "rom", "Weight fabric  o")
    p.line((735, 590), (735, 604), (190, 604), (190, 558), (STREAM + 15, 558))


def _feed_forward_half(p: Picture) -> None:
    _norm(p, 628)
    p.signal(322, 672, 698, f"x: {INT8}")
    _fabric(p, 452, 698, 480, "Weight fabric  gate, up")
    p.signal(322, 758, 786, f"gate: {INT32}")
    p.signal(582, 758, 786, f"up: {INT32}")
    p.box(452, 786, 480, "table", "SwiGLU", "SiLU table of 256 steps over ±8, then x up")


def _head(p: Picture) -> None:
    pass


if __name__ == "__main__":
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    output.write_text(draw(), encoding="utf-8", newline="\n")
