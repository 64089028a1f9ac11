"""Tables on a terminal."""

from __future__ import annotations

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns two spaces apart; number columns (or "-") are right-aligned, except the first."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    right = [i > 0 and all(_number(row[i]) for row in cells[1:]) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        padded = zip(row, widths, right, strict=True)
        return "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in padded).rstrip()

    return "\n".join([line(cells[0]), "  ".join("-" * w for w in widths), *map(line, cells[1:])])


def _number(cell: str) -> bool:
    return cell[:1] in "+-" or cell[:1].isdigit()
