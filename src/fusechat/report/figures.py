"""What a figure of the page is made of, and how the words of the funnel are painted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from fusechat.report import charts
from fusechat.report.charts import share as share

ALL = "all"
"""Label of the row over all sources."""
GIVES = "good"
"""CSS class of what gave a row."""
_KINDS = ("response", "judge", "verdict", "margin", "rule")


@dataclass(frozen=True)
class Row:
    """One line of a figure: a name, a picture, and two short texts."""

    label: str
    picture: Markup
    first: str = ""
    second: str = ""
    colour: str = ""
    """CSS classes of the swatch before the name; none where empty."""


@dataclass(frozen=True)
class Figure:
    """A titled picture, made of one drawing, of rows, or of both, with how to read it below."""

    title: str
    what: str = ""
    picture: Markup | str = ""
    heads: tuple[str, str] = ("", "")
    rows: Sequence[Row] = ()
    ticks: Markup | str = ""
    how: str = ""


def number(value: float | None) -> str:
    """A short number; a dash where there is none."""
    return "–" if value is None else charts.short(value)


def signed(value: float | None) -> str:
    """A short number with its sign, also where it is above zero."""
    return ("+" if (value or 0) > 0 else "") + number(value)


def box(quantiles: Mapping[str, float]) -> tuple[float, ...]:
    """The 5, 25, 50, 75 and 95% quantiles of an entry of analysis.json; empty where it has none."""
    keys = ("0.05", "0.25", "0.5", "0.75", "0.95")
    return tuple(quantiles[key] for key in keys) if all(k in quantiles for k in keys) else ()


def span(boxes: Iterable[Sequence[float]], zero: bool = False) -> charts.Axis:
    """One scale for some boxes, from the lowest whisker to the highest, with zero if wanted."""
    ends = [value for found in boxes for value in found] + ([0.0] if zero else [])
    return charts.axis(min(ends), max(ends), 4)


def nothing() -> Markup:
    """What stands in place of a picture of no values."""
    return Markup('<span class="empty">no values</span>')


def word_kinds(words: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Word -> CSS classes: a colour for each kind, a pattern for each word of one kind."""
    seen: dict[str, int] = {}
    out = {}
    for entry in words:
        kind = entry["kind"] if entry["kind"] in _KINDS else "rule"
        place = seen[kind] = seen.get(kind, -1) + 1
        pattern = place % charts.PATTERNS
        out[entry["word"]] = f"k-{kind}" + (f" p{pattern}" if pattern else "")
    return out


def word_parts(counts: Mapping[str, int], kinds: Mapping[str, str]) -> list[tuple[str, int, str]]:
    """(word, count, CSS classes) in drawing order; words that nobody declared come last."""
    order = [*(w for w in kinds if w in counts), *(w for w in counts if w not in kinds)]
    return [(word, counts[word], kinds.get(word, "k-rule")) for word in order if counts[word]]


def with_all(found: Mapping[str, Any]) -> Sequence[tuple[str, Mapping[str, Any]]]:
    """The entry over all sources, then each source's; one source alone stands for all."""
    sources = list(found["sources"].items())
    return sources if len(sources) == 1 else [(ALL, found["all"]), *sources]
