"""Names in a picture stand beside their dots, not over one another nor outside the frame."""

from __future__ import annotations

import re
import runpy
from itertools import combinations

import numpy as np
import pytest

from emulator.terminal.labels import add_labels
from tests.support.paths import ROOT

Figure = pytest.importorskip("matplotlib.figure").Figure
PICTURES = sorted((ROOT / "docs").glob("*.svg"))


def test_crowded_names_keep_apart_and_inside():
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    rng = np.random.default_rng(3)
    dots = [(float(x), float(y), f"a name of {i}") for i, (x, y) in enumerate(rng.random((12, 2)))]
    dots += [(1.0, 0.5, "at the edge"), (0.99, 0.5, "beside it")]
    axes.plot([x for x, _, _ in dots], [y for _, y, _ in dots], "o")
    boxes = [text.get_window_extent() for text in add_labels(axes, dots)]
    frame = axes.get_window_extent()
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    assert all(frame.x0 < b.x0 and b.x1 < frame.x1 for b in boxes)


def test_the_pictures_of_quality_are_drawn_from_its_tables():
    script = runpy.run_path(str(ROOT / "docs" / "draw_quality.py"))
    tables = script["tables"]((ROOT / "docs" / "quality.md").read_text("utf-8"))
    (beside,) = (t for t in tables if any("IQ3_XXS" in row[0] for row in t))
    rows = script["compared"](beside)
    names = {row["name"]: row for row in rows}
    assert len(rows) == 14
    assert names["Q4_1, the reference's own weights"]["kl_mean"] == 0.0035
    assert names["Q3_K_M plain"]["kl_mean"] > names["Q3_K_M"]["kl_mean"]


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.name)
def test_a_picture_has_a_ground_of_its_own_and_needs_no_other_host(picture):
    """Dark text on a page's dark ground could not be read."""
    text = picture.read_text("utf-8")
    first = re.search(
        r"<(?:path|rect)\b[^>]*>", text.split("</defs>")[-1] if "chat" in text else text
    )
    assert first is not None
    assert re.search(r'fill(?:="|: ?)#[0-9a-fA-F]{6}', first[0]), first[0]
    assert not re.findall(r'(?:href|src)="https?://|url\(["\']?https?://|@import', text)
