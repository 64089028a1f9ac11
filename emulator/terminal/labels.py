"""Names beside the dots of a picture, none over another, over a dot or outside the frame."""

from __future__ import annotations

from typing import Any

GAP = 5  # points between a dot and its name
# Where a name may stand, best first: x and y of its offset in gaps, its alignment.
PLACES = (
    *((1, 1, "left", "bottom"), (1, -1, "left", "top"), (-1, 1, "right", "bottom")),
    *((-1, -1, "right", "top"), (0, 2, "center", "bottom"), (0, -2, "center", "top")),
    *((2, 0, "left", "center"), (-2, 0, "right", "center"), (1, 3, "left", "bottom")),
    *((1, -3, "left", "top"), (-1, 3, "right", "bottom"), (-1, -3, "right", "top")),
)


def add_labels(axes: Any, dots: list[tuple[float, float, str]], size: float = 8) -> list[Any]:
    """Write each dot's name; `dots` holds x, y and name. Call it last, when the limits stand.

    A name takes the first place that is free, and the first of all if none is.
    """
    axes.figure.draw_without_rendering()  # positions in pixels are known from here on
    pixels = axes.figure.dpi / 72
    taken = [_dot_box(axes.transData.transform((x, y)), 4 * pixels) for x, y, _ in dots]
    legend = axes.get_legend()
    if legend is not None:
        taken.append(legend.get_window_extent())
    frame, written = axes.get_window_extent(), []
    for x, y, name in dots:
        text = axes.annotate(
            name, (x, y), (0, 0), textcoords="offset points", fontsize=size, annotation_clip=False
        )
        text.set_in_layout(False)
        for place in (*PLACES, PLACES[0]):
            _move(text, place)
            box = text.get_window_extent()
            inside = frame.x0 < box.x0 and frame.y0 < box.y0
            inside &= box.x1 < frame.x1 and box.y1 < frame.y1
            if inside and not any(box.overlaps(other) for other in taken):
                break
        taken.append(text.get_window_extent())
        written.append(text)
    return written


def _move(text: Any, place: tuple[int, int, str, str]) -> None:
    across, up, horizontal, vertical = place
    text.set_position((GAP * across, GAP * up))
    text.set(ha=horizontal, va=vertical)


def _dot_box(centre: Any, radius: float) -> Any:
    from matplotlib.transforms import Bbox

    x, y = centre
    return Bbox.from_extents(x - radius, y - radius, x + radius, y + radius)
