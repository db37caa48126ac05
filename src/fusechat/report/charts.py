"""Strips and bars as inline SVG and HTML, drawn without a library or a script.

Strips (intervals, boxes, bars) place their marks in percent of their width, so that they
stretch with the page while text and strokes keep their size. Colours are CSS classes, so
that one drawing serves light and dark. Everything that comes from data is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

COLOURS, PATTERNS = 8, 6
"""Source colours, `s0` to `s7` in the style sheet, and what is drawn over them: nothing, then
`p1` to `p5`. Together they tell 48 sources apart; a 49th looks like the first."""
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


def paint(number: int) -> str:
    """The CSS classes of the source at this place: a colour, then colours with a pattern."""
    pattern = number // COLOURS % PATTERNS
    return f"s{number % COLOURS}" + (f" p{pattern}" if pattern else "")


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
    elif size >= 999.5:
        text = f"{value:,.0f}"
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
    """The labels of a scale, to stand below strips; narrow pages show every second of many."""
    parts = [Markup('<div class="ticks" aria-hidden="true">')]
    step = scale.ticks[1] - scale.ticks[0]
    for tick in scale.ticks:
        text = ("+" if signed and tick > 0 else "") + short(tick)
        many = len(scale.ticks) > 4
        kind = "minor" if many and round(tick / step) % 2 else "major"
        parts.append(
            Markup('<span class="{kind}" style="left:{at}">{text}</span>').format(
                kind=kind, at=scale.percent(tick), text=text
            )
        )
    return Markup("").join([*parts, Markup("</div>")])


def box_strip(quantiles: Sequence[float], scale: Axis, kind: str, zero: bool = False) -> Markup:
    """Quantiles 5, 25, 50, 75, 95% as whiskers, box and median line; `zero` adds the zero line."""
    p5, p25, p50, p75, p95 = (scale.percent(value) for value in quantiles)
    width = f"{max(0.6, float(p75[:-1]) - float(p25[:-1])):.2f}%"
    at = scale.percent(0.0)
    line = Markup('<line class="zero" x1="{at}" x2="{at}" y1="0" y2="100%"/>').format(at=at)
    return Markup(
        '<svg class="strip box {kind}" role="presentation" aria-hidden="true">{line}'
        '<line class="reach" x1="{p5}" x2="{p95}" y1="50%" y2="50%"/>'
        '<rect x="{p25}" width="{width}" y="22%" height="56%" rx="2"/>'
        '<line class="median" x1="{p50}" x2="{p50}" y1="12%" y2="88%"/></svg>'
    ).format(
        kind=kind, line=line if zero else "", p5=p5, p25=p25, p50=p50, p95=p95, width=width
    )  # fmt: skip


def bar_strip(share: float, kind: str) -> Markup:
    """A share in [0, 1] as a bar on a track."""
    return Markup(
        '<div class="track" aria-hidden="true"><span class="{kind}" style="width:{width:.2f}%">'
        "</span></div>"
    ).format(kind=kind, width=100 * share)


def share(part: float, whole: float) -> str:
    """A share as whole percent; a dash where there is nothing to share."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    if 0 < percent < 0.5:
        return "<1%"
    return ">99%" if 99.5 <= percent < 100 else f"{percent:.0f}%"


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
        percent = 100 * count / total
        text = share(count, total) if percent >= 12 else ""
        wide = "" if percent >= 22 else " slim"
        out.append(
            Markup(
                '<span class="{kind}{wide}" style="width:{percent:.3f}%" title="{name}: {count} '
                '({share})">{text}</span>'
            ).format(
                kind=kind,
                wide=wide,
                percent=percent,
                name=name,
                count=f"{count:,}",
                share=share(count, total),
                text=text,
            )
        )
    return Markup("").join([*out, Markup("</div>")])


def dot_strip(value: float, scale: Axis, kind: str) -> Markup:
    """A point on a scale, and a line to it from zero."""
    zero, at = scale.percent(0.0), scale.percent(value)
    return Markup(
        '<svg class="strip box {kind}" role="presentation" aria-hidden="true">'
        '<line class="zero" x1="{zero}" x2="{zero}" y1="0" y2="100%"/>'
        '<line class="reach" x1="{zero}" x2="{at}" y1="50%" y2="50%"/>'
        '<circle cx="{at}" cy="50%" r="5"/></svg>'
    ).format(kind=kind, zero=zero, at=at)
