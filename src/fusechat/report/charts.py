"""Charts as inline SVG and HTML, drawn without a library or a script.

Strips (intervals, boxes, bars) place their marks in percent of their width, so that they
stretch with the page while text and strokes keep their size. Colours are CSS classes, so
that one drawing serves light and dark. Everything that comes from data is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

COLOURS = 8
"""Number of source colours, `s0` to `s7` in the style sheet."""
_WIDTH, _HEIGHT = 340, 168
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 10, 24
_MOST_POINTS = 300
_SMALLEST = 1e-300  # below this a range of floats cannot be cut into steps


@dataclass(frozen=True)
class Axis:
    """A linear scale from `low` to `high`, with round tick values."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def percent(self, value: float) -> str:
        """Place of `value` on the scale, clipped to it, as a CSS percentage."""
        share = (value - self.low) / (self.high - self.low)
        return f"{100 * min(1.0, max(0.0, share)):.2f}%"


def axis(low: float, high: float, count: int = 5) -> Axis:
    """A scale that covers [low, high] in about `count` round steps (1, 2 or 5 times 10^k)."""
    if high - low <= max(1e-9 * max(abs(low), abs(high)), _SMALLEST):
        pad = abs(low) / 10 if abs(low) > _SMALLEST else 0.5
        low, high = low - pad, high + pad
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(float(f"{i * step:.12g}") for i in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks)


def short(value: float) -> str:
    """A number in at most about six characters, with a true minus sign."""
    size = abs(value)
    if value == 0:
        text = "0"
    elif size >= 1e6:
        text = f"{value / 1e6:.3g}M"
    elif size >= 1e4:
        text = f"{value / 1e3:.3g}k"
    elif size < 1e-3:
        text = f"{value:.1e}".replace("e-0", "e-").replace(".0e", "e")
    else:
        text = f"{value:.3g}"
    return text.replace("-", "−")


def interval_strip(value: float, low: float, high: float, scale: Axis, kind: str) -> Markup:
    """A point with its interval on a scale, and the zero line; `kind` names the colour."""
    zero = scale.percent(0.0)
    left, middle, right = scale.percent(low), scale.percent(value), scale.percent(high)
    return Markup(
        '<svg class="strip {kind}" role="presentation" aria-hidden="true">'
        '<line class="zero" x1="{zero}" x2="{zero}" y1="0" y2="100%"/>'
        '<line class="reach" x1="{left}" x2="{right}" y1="50%" y2="50%"/>'
        '<circle cx="{middle}" cy="50%" r="5"/></svg>'
    ).format(kind=kind, zero=zero, left=left, middle=middle, right=right)


def tick_strip(scale: Axis, signed: bool = False) -> Markup:
    """The labels of a scale, to stand below strips; narrow pages show every second one."""
    parts = [Markup('<div class="ticks" aria-hidden="true">')]
    step = scale.ticks[1] - scale.ticks[0]
    for tick in scale.ticks:
        text = ("+" if signed and tick > 0 else "") + short(tick)
        kind = "minor" if round(tick / step) % 2 else "major"
        parts.append(
            Markup('<span class="{kind}" style="left:{at}">{text}</span>').format(
                kind=kind, at=scale.percent(tick), text=text
            )
        )
    return Markup("").join([*parts, Markup("</div>")])


def box_strip(quantiles: Sequence[float], scale: Axis, colour: int) -> Markup:
    """Quantiles 5, 25, 50, 75, 95% as whiskers, box and median line."""
    p5, p25, p50, p75, p95 = (scale.percent(value) for value in quantiles)
    width = f"{max(0.6, float(p75[:-1]) - float(p25[:-1])):.2f}%"
    return Markup(
        '<svg class="strip box s{colour}" role="presentation" aria-hidden="true">'
        '<line class="reach" x1="{p5}" x2="{p95}" y1="50%" y2="50%"/>'
        '<rect x="{p25}" width="{width}" y="22%" height="56%" rx="2"/>'
        '<line class="median" x1="{p50}" x2="{p50}" y1="12%" y2="88%"/></svg>'
    ).format(colour=colour % COLOURS, p5=p5, p25=p25, p50=p50, p95=p95, width=width)


def bar_strip(share: float, colour: int) -> Markup:
    """A share in [0, 1] as a bar on a track."""
    return Markup(
        '<svg class="strip share s{colour}" role="presentation" aria-hidden="true">'
        '<rect class="track" x="0" width="100%" y="28%" height="44%" rx="2"/>'
        '<rect x="0" width="{width:.2f}%" y="28%" height="44%" rx="2"/></svg>'
    ).format(colour=colour % COLOURS, width=100 * share)


def stacked(parts: Sequence[tuple[str, int, str]], label: str) -> Markup:
    """A stacked bar of (name, count, CSS class); its numbers are in `aria-label` too."""
    total = sum(count for _, count, _ in parts)
    words = ", ".join(f"{name} {count:,}" for name, count, _ in parts)
    out = [
        Markup('<div class="stack" role="img" aria-label="{label}: {words}">').format(
            label=label, words=words
        )
    ]
    for name, count, kind in parts:
        if not count:
            continue
        share = 100 * count / total
        text = f"{share:.0f}%" if share >= 12 else ""
        out.append(
            Markup(
                '<span class="{kind}" style="width:{share:.3f}%" title="{name}: {count} '
                '({share:.1f}%)">{text}</span>'
            ).format(kind=kind, share=share, name=name, count=f"{count:,}", text=text)
        )
    return Markup("").join([*out, Markup("</div>")])


@dataclass(frozen=True)
class Series:
    """One line of a chart; points by increasing x."""

    name: str
    points: Sequence[tuple[float, float]]
    kind: str
    """CSS class of its colour: `main`, `chosen`, `rejected`, `held`."""


def curves(title: str, series: Sequence[Series]) -> Markup:
    """A small line chart over training steps; says its first and last values in words."""
    points = [point for line in series for point in line.points]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    scale = axis(min(ys), max(ys), 4)
    first, last = min(xs), max(xs)
    words = "; ".join(
        f"{line.name} from {short(line.points[0][1])} to {short(line.points[-1][1])}"
        for line in series
    )
    body = Markup("").join(
        [_grid_lines(scale), _steps(first, last)]
        + [_line(line, scale, first, last) for line in series]
    )
    return Markup(
        '<svg class="curves" viewBox="0 0 {width} {height}" role="img" '
        'aria-label="{title}: {words}">{body}</svg>'
    ).format(width=_WIDTH, height=_HEIGHT, title=title, words=words, body=body)


def _x(value: float, first: float, last: float) -> float:
    share = (value - first) / (last - first) if last > first else 0.5
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _y(value: float, scale: Axis) -> float:
    share = (value - scale.low) / (scale.high - scale.low)
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _grid_lines(scale: Axis) -> Markup:
    return Markup("").join(
        Markup(
            '<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            '<text x="{label}" y="{below:.1f}" text-anchor="end">{text}</text>'
        ).format(
            left=_LEFT, right=_WIDTH - _RIGHT, y=_y(tick, scale), label=_LEFT - 6,
            below=_y(tick, scale) + 3.5, text=short(tick),
        )
        for tick in scale.ticks
    )  # fmt: skip


def _steps(first: float, last: float) -> Markup:
    text = Markup('<text x="{x:.1f}" y="{y}" text-anchor="{anchor}">{label}</text>')
    ends = [(first, "start", f"step {short(first)}"), (last, "end", short(last))]
    return Markup("").join(
        text.format(x=_x(at, first, last), y=_HEIGHT - 6, anchor=anchor, label=label)
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


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most about 300 of the points, the first and the last among them."""
    step = max(1, math.ceil(len(points) / _MOST_POINTS))
    kept = list(points[::step])
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


# Bookkeeping columns of metrics.jsonl, which are no curves.
_NO_CURVES = {
    "step",
    "epoch",
    "progress",
    "seconds",
    "time",
    "rows",
    "pairs",
    "examples",
    "samples",
}
_TITLES = {
    "loss": "Loss",
    "margins": "Margin of implicit rewards",
    "accuracies": "Share of pairs ranked right",
    "rewards": "Implicit rewards",
    "logps": "Log-probability, nats",
    "token_logps": "Log-probability of a token, nats",
    "lengths": "Length, tokens",
    "grad_norm": "Gradient norm",
    "learning_rate": "Learning rate",
}
_SIDES = ("chosen", "rejected", "response")
_HELD_OUT = ("eval_", "held_out_", "validation_")


def panels(rows: Sequence[Mapping[str, object]]) -> list[tuple[str, list[Series]]]:
    """The charts of one metrics.jsonl: every numeric column, chosen beside rejected.

    `x/y` is read as `x_y`; a column `eval_x` joins the chart of `x`; a later row of the same
    step (a resumed run) replaces the earlier one.
    """
    found: dict[str, dict[str, dict[float, float]]] = {}
    for number, row in enumerate(rows, 1):
        flat = _flat(row)
        step = flat.get("step", float(number))
        for name, value in flat.items():
            held = next((name[len(p) :] for p in _HELD_OUT if name.startswith(p)), None)
            side = next((s for s in _SIDES if s in (held or name).split("_")), "")
            words = [word for word in (held or name).split("_") if word != side]
            group = "_".join(words) or name
            if group in _NO_CURVES or (side and not words):
                continue
            label = " ".join(filter(None, ["held-out" if held else "", side])) or "training"
            found.setdefault(group, {}).setdefault(label, {})[step] = value
    order = [*(g for g in _TITLES if g in found), *sorted(g for g in found if g not in _TITLES)]
    return [(_TITLES.get(g, g.replace("_", " ").capitalize()), _lines(found[g])) for g in order]


def _flat(row: Mapping[str, object], prefix: str = "") -> dict[str, float]:
    out: dict[str, float] = {}
    for key, value in row.items():
        name = prefix + key.replace("/", "_").replace("-", "_").lower()
        if isinstance(value, Mapping):
            out |= _flat(value, f"{name}_")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            out[name] = float(value)
    return {name: value for name, value in out.items() if math.isfinite(value)}


def _lines(group: Mapping[str, Mapping[float, float]]) -> list[Series]:
    kinds = {"chosen": "chosen", "rejected": "rejected"}
    return [
        Series(
            label,
            sorted(points.items()),
            ("held " if label.startswith("held-out") else "")
            + kinds.get(label.removeprefix("held-out").strip(), "main"),
        )
        for label, points in group.items()
    ]
