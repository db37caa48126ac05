"""Whose responses were sampled, chosen and scored how: shapes for the template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fusechat.metrics.text import percent
from fusechat.report import charts
from fusechat.report.collect import Findings, MarginBox
from fusechat.report.judged import ScoreBox
from fusechat.report.views import domains


def colours(findings: Findings) -> dict[str, str]:
    """Each source's CSS classes, the same on the whole page."""
    names = [*findings.sources, *(row.source for row in findings.responses)]
    names += [s for by in findings.chosen.values() for c in by.values() for s in c]
    return {name: charts.paint(number) for number, name in enumerate(dict.fromkeys(names))}


def score_panels(findings: Findings) -> list[dict[str, Any]]:
    """For each annotator and domain: every source's scores on one scale."""
    names = colours(findings)
    groups: dict[tuple[str, str], list[ScoreBox]] = {}
    for box in findings.boxes:
        groups.setdefault((box.annotator, box.domain), []).append(box)
    return [
        _score_panel(annotator, domain, boxes, names)
        for (annotator, domain), boxes in sorted(groups.items(), key=lambda pair: pair[0][1])
    ]


def _score_panel(
    annotator: str, domain: str, boxes: Sequence[ScoreBox], names: Mapping[str, str]
) -> dict[str, Any]:
    binary = all(box.binary for box in boxes)
    scale = charts.axis(
        min(box.quantiles[0] for box in boxes), max(box.quantiles[4] for box in boxes), 4
    )
    return {
        "title": f"{domain}, by {annotator}",
        "what": "share judged right" if binary else "median",
        "ticks": "" if binary else charts.tick_strip(scale),
        "rows": [
            {
                "label": box.source,
                "colour": names.get(box.source, "s0"),
                "n": box.n,
                "strip": charts.bar_strip(box.mean, names.get(box.source, "s0"))
                if binary
                else charts.box_strip(box.quantiles, scale, names.get(box.source, "s0")),
                "value": percent(box.mean) + "%" if binary else charts.short(box.quantiles[2]),
            }
            for box in boxes
        ],
    }


def margin_panels(findings: Findings) -> list[dict[str, Any]]:
    """For each domain: the margins of each source's pairs, on the domain's own scale."""
    names = colours(findings)
    groups = {
        domain: [box for box in findings.margins if box.domain == domain]
        for domain in domains(findings)
    }
    return [
        _margin_panel(domain, sorted(boxes, key=lambda box: list(names).index(box.source)), names)
        for domain, boxes in groups.items()
        if boxes
    ]


def _margin_panel(
    domain: str, boxes: Sequence[MarginBox], names: Mapping[str, str]
) -> dict[str, Any]:
    scale = charts.axis(
        min(box.quantiles[0] for box in boxes), max(box.quantiles[4] for box in boxes), 4
    )
    return {
        "title": f"{domain}: chosen minus rejected score",
        "what": "median",
        "ticks": charts.tick_strip(scale),
        "rows": [
            {
                "label": box.source,
                "colour": names[box.source],
                "n": box.n,
                "strip": charts.box_strip(box.quantiles, scale, names[box.source]),
                "value": charts.short(box.quantiles[2]),
            }
            for box in boxes
        ],
    }


def chosen(findings: Findings) -> list[dict[str, Any]]:
    """Whose responses the SFT and DPO sets hold, per domain."""
    names = colours(findings)
    out = []
    for use, title_ in (("sft", "SFT: best responses"), ("dpo", "DPO: pairs")):
        rows = []
        for domain, counts in findings.chosen.get(use, {}).items():
            parts = [
                (source, counts[source], kind) for source, kind in names.items() if counts[source]
            ]
            bar = charts.stacked(parts, f"{title_}, {domain}")
            rows.append({"domain": domain, "n": sum(counts.values()), "bar": bar})
        if rows:
            out.append({"title": title_, "rows": rows})
    return out
