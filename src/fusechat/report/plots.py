"""Charts with two axes as inline SVG: curves over training steps, histograms, yields.

Everything that comes from data is escaped; each chart says its numbers in `aria-label` too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from fusechat.report.charts import Axis, axis, short

WIDTH, HEIGHT = 340, 168
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 10, 24
_MOST_POINTS = 300
_LABEL = 96
"""Room that the label of a mark may need."""


@dataclass(frozen=True)
class Series:
    """One line of a chart; points by increasing x."""

    name: str
    points: Sequence[tuple[float, float]]
    kind: str
    """CSS class of its colour: `main`, `chosen`, `rejected`, `held`."""


@dataclass(frozen=True)
class Level:
    """A fine horizontal line at a value."""

    at: float
    kind: str
    """CSS class of its colour, as of a `Series`."""


def curves(title: str, series: Sequence[Series], levels: Sequence[Level] = ()) -> Markup:
    """A small line chart over training steps; says its first and last values in words."""
    points = [point for line in series for point in line.points]
    xs, ys = [x for x, _ in points], [y for _, y in points] + [level.at for level in levels]
    scale = axis(min(ys), max(ys), 4)
    first, last = min(xs), max(xs)
    words = "; ".join(
        f"{line.name} from {short(line.points[0][1])} to {short(line.points[-1][1])}"
        for line in series
    )
    body = Markup("").join(
        [_grid_lines(scale), _steps(first, last)]
        + [_level(level, scale) for level in levels]
        + [_line(line, scale, first, last) for line in series]
    )
    return Markup(
        '<svg class="curves" viewBox="0 0 {width} {height}" role="img" '
        'aria-label="{title}: {words}">{body}</svg>'
    ).format(width=WIDTH, height=HEIGHT, title=title, words=words, body=body)


def _x(value: float, first: float, last: float) -> float:
    share = (value - first) / (last - first) if last > first else 0.5
    return _LEFT + share * (WIDTH - _LEFT - _RIGHT)


def _y(value: float, scale: Axis, top: float = _TOP) -> float:
    share = (value - scale.low) / (scale.high - scale.low)
    return HEIGHT - _BOTTOM - share * (HEIGHT - top - _BOTTOM)


def _grid_lines(scale: Axis, top: float = _TOP) -> Markup:
    return Markup("").join(
        Markup(
            '<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            '<text x="{label}" y="{below:.1f}" text-anchor="end">{text}</text>'
        ).format(
            left=_LEFT, right=WIDTH - _RIGHT, y=_y(tick, scale, top), label=_LEFT - 6,
            below=_y(tick, scale, top) + 3.5, text=short(tick),
        )
        for tick in scale.ticks
    )  # fmt: skip


def _steps(first: float, last: float) -> Markup:
    text = Markup('<text x="{x:.1f}" y="{y}" text-anchor="{anchor}">{label}</text>')
    ends = [(first, "start", f"step {short(first)}"), (last, "end", short(last))]
    return Markup("").join(
        text.format(x=_x(at, first, last), y=HEIGHT - 6, anchor=anchor, label=label)
        for at, anchor, label in (ends if last > first else ends[:1])
    )


def _line(series: Series, scale: Axis, first: float, last: float) -> Markup:
    places = [(_x(x, first, last), _y(y, scale)) for x, y in thinned(series.points)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    end = Markup('<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>').format(
        kind=series.kind, x=places[-1][0], y=places[-1][1]
    )
    line = Markup('<polyline class="{kind}" points="{path}"/>').format(kind=series.kind, path=path)
    return line + end


def _level(level: Level, scale: Axis) -> Markup:
    return Markup(
        '<line class="level {kind}" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
    ).format(kind=level.kind, left=_LEFT, right=WIDTH - _RIGHT, y=_y(level.at, scale))


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most about 300 of the points, the first and the last among them."""
    step = max(1, math.ceil(len(points) / _MOST_POINTS))
    kept = list(points[::step])
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


@dataclass(frozen=True)
class Mark:
    """A vertical line at a value of the x axis, with its label."""

    at: float
    label: str


def histogram(
    label: str, edges: Sequence[float], counts: Sequence[int], low: Mark | None, high: Mark | None
) -> Markup:
    """Bars between `edges`, those inside [low, high] in colour, and the two ends as lines.

    `edges`: rising, one more than `counts`. None: an open end. `label`: all that the picture
    says, in words.
    """
    marks = [mark for mark in (low, high) if mark is not None]
    scale, top = axis(0, max(1, *counts), 3), _TOP + 14 * len(marks)
    first, last = edges[0], edges[-1]
    inside = (
        low.at if low else -math.inf,
        high.at if high else math.inf,
    )
    bars = []
    for left, right, count in zip(edges, edges[1:], counts, strict=False):
        x, y = _x(left, first, last), _y(count, scale, top)
        within = inside[0] <= (left + right) / 2 <= inside[1]
        bars.append(
            Markup(
                '<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
                'height="{height:.1f}"><title>{name}: {count}</title></rect>'
            ).format(
                kind="in" if within else "out", x=x + 0.5, y=y, count=f"{count:,}",
                width=max(0.6, _x(right, first, last) - x - 1), height=HEIGHT - _BOTTOM - y,
                name=f"{short(left)} to {short(right)}",
            )
        )  # fmt: skip
    body = [_grid_lines(scale, top), *bars, _x_ticks(first, last), *_marks(marks, first, last)]
    return _picture(label, "hist", body)


@dataclass(frozen=True)
class Counts:
    """A line of a chart of counts: how many there are at each rising value of x."""

    at: Sequence[float]
    counts: Sequence[int]
    kind: str
    """CSS class: `upper` or `lower`."""


def thresholds(
    label: str,
    lines: Sequence[Counts],
    most: int,
    reach: tuple[float, float],
    marks: Sequence[Mark],
) -> Markup:
    """How many of `most` there are, were a threshold at each x; `marks` are the present ones.

    `reach`: the part of the x axis that is drawn, lowest and highest value. Straight lines
    stand between the points that were counted.
    """
    first, last = reach
    top = _TOP + 14 * len(marks)
    scale = axis(0, max(1, most), 3)
    body = [_grid_lines(scale, top), _x_ticks(first, last)]
    for line in lines:
        found = _within(list(zip(line.at, line.counts, strict=True)), first, last)
        path = " ".join(f"{_x(x, first, last):.1f},{_y(y, scale, top):.1f}" for x, y in found)
        drawn = Markup('<polyline class="{kind}" points="{path}"/>')
        body.append(drawn.format(kind=line.kind, path=path))
    return _picture(label, "yield", [*body, *_marks(marks, first, last)])


def _within(
    points: Sequence[tuple[float, float]], first: float, last: float
) -> list[tuple[float, float]]:
    """The part of a line of straight pieces that lies between two values of x."""
    ends = []
    for (x0, y0), (x1, y1) in pairwise(points):
        for edge in (first, last):
            if x0 < edge < x1:
                ends.append((edge, y0 + (y1 - y0) * (edge - x0) / (x1 - x0)))
    return sorted([point for point in points if first <= point[0] <= last] + ends)


def _picture(label: str, kind: str, body: Sequence[Markup]) -> Markup:
    return Markup(
        '<svg class="curves {kind}" viewBox="0 0 {width} {height}" role="img" '
        'aria-label="{label}">{body}</svg>'
    ).format(kind=kind, width=WIDTH, height=HEIGHT, label=label, body=Markup("").join(body))


def _x_ticks(first: float, last: float) -> Markup:
    """Labels of the round values between two ends; they stand so far apart that none overlap."""
    ticks = [tick for tick in axis(first, last, 4).ticks if first <= tick <= last] or [first]
    return Markup("").join(
        Markup('<text x="{x:.1f}" y="{y}" text-anchor="middle">{text}</text>').format(
            x=_x(tick, first, last), y=HEIGHT - 6, text=short(tick)
        )
        for tick in ticks
    )


def _marks(marks: Sequence[Mark], first: float, last: float) -> Iterator[Markup]:
    """Lines with their labels above, one row each; away from each other where there is room.

    A mark outside the picture has no line; its label stands at that side, with an arrow.
    """
    for row, mark in enumerate(marks):
        x, y = _x(min(max(mark.at, first), last), first, last), 10 + 14 * row
        outward = row == 0 and len(marks) > 1
        left = x - _LABEL > _LEFT if outward else x + _LABEL > WIDTH
        label = mark.label
        if first <= mark.at <= last:
            line = '<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>'
            yield Markup(line).format(x=x, top=y - 8, bottom=HEIGHT - _BOTTOM)
        else:
            left = mark.at > last
            label = f"{label} →" if left else f"← {label}"
        text = '<text class="mark" x="{x:.1f}" y="{y}" text-anchor="{anchor}">{label}</text>'
        anchor = "end" if left else "start"
        yield Markup(text).format(x=x + (-4 if left else 4), y=y, anchor=anchor, label=label)
