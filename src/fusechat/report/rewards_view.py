"""What the scores know: right against wrong, length, and the lengths and styles of the pairs.

Shapes for the template, from the analysis that a build leaves beside its tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from fusechat.report import charts
from fusechat.report.collect import Findings
from fusechat.report.figures import (
    ALL,
    Figure,
    Row,
    box,
    nothing,
    number,
    share,
    signed,
    span,
    with_all,
)
from fusechat.report.pairs_view import domains_of
from fusechat.report.sources_view import colours

_STEPS = charts.axis(-1.0, 1.0, 4)


def knowing(findings: Findings) -> list[Figure]:
    """For each domain, score and verdict: the scores of right and of wrong responses."""
    names = colours(findings)
    return [
        _knowing(domain, judge, names)
        for domain, found in domains_of(findings).items()
        for judge in found.get("judges", ())
    ]


def _knowing(domain: str, judge: Mapping[str, Any], names: Mapping[str, str]) -> Figure:
    entries = with_all(judge)
    boxes = [box(e[side]["quantiles"]) for _, e in entries for side in ("right", "wrong")]
    scale = span(found for found in boxes if found) if any(boxes) else charts.axis(0, 1)
    rows = [
        Row(
            source,
            _two_boxes(source, entry, scale),
            _ratio(entry["auc"]),
            _ratio(entry["same_prompt"]["share"]),
            names.get(source, "") if source != ALL else "",
        )
        for source, entry in entries
    ]
    whole = judge["all"]
    how = (
        f"A right response scores above a wrong one with probability {_ratio(whole['auc'])} over "
        f"all responses ({whole['right']['n']:,} right, {whole['wrong']['n']:,} wrong)"
    )
    same = whole["same_prompt"]
    if same["share"] is not None:
        how += (
            f", and {_ratio(same['share'])} among the {same['pairs']:,} pairs of one prompt and "
            "source, on which the training pairs rest"
        )
    how += ". 0.5 would be knowing nothing."
    if whole["sampled"]:
        how += " Boxes and AUC are of an even sample."
    title = f"{domain}: {judge['score']} against {judge['verdict']}"
    ticks = charts.tick_strip(scale)
    return Figure(title, heads=("AUC", "same prompt"), rows=rows, ticks=ticks, how=how)


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _two_boxes(source: str, entry: Mapping[str, Any], scale: charts.Axis) -> Markup:
    strips, said = [], []
    for side, kind in (("right", "gain"), ("wrong", "loss")):
        found = box(entry[side]["quantiles"])
        strips.append(charts.box_strip(found, scale, kind) if found else nothing())
        middle = number(entry[side]["quantiles"].get("0.5"))
        said.append(f"{side} median {middle} of {entry[side]['n']:,}")
    return Markup('<div class="two" role="img" aria-label="{said}">{strips}</div>').format(
        said=f"{source}: {', '.join(said)}", strips=Markup("").join(strips)
    )


def parity(findings: Findings) -> list[Figure]:
    """For each domain with pairs: how much longer the chosen responses are than the rejected."""
    names = colours(findings)
    return [
        _parity(domain, found["parity"], names)
        for domain, found in domains_of(findings).items()
        if found.get("parity", {}).get("all", {}).get("counted")
    ]


def _parity(domain: str, given: Mapping[str, Any], names: Mapping[str, str]) -> Figure:
    entries = [(s, e, box(e["quantiles"])) for s, e in with_all(given)]
    scale = span((found for _, _, found in entries if found), zero=True)
    rows = [
        Row(
            source,
            charts.box_strip(found, scale, names.get(source, "plain"), zero=True)
            if found
            else nothing(),
            signed(entry["mean"]),
            share(entry["longer"] or 0, 1 if entry["counted"] else 0),
            names.get(source, "") if source != ALL else "",
        )
        for source, entry, found in entries
    ]
    whole = given["all"]
    how = (
        f"Chosen responses have {number(whole['mean_chosen'])} tokens on average, rejected ones "
        f"{number(whole['mean_rejected'])} ({whole['counted']:,} pairs with both counts); chosen "
        f"is longer in {share(whole['longer'], 1)}, equal in {share(whole['equal'], 1)}. Right of "
        f"the line the chosen one is longer.{_few(given['sources'])}"
    )
    ticks = charts.tick_strip(scale, signed=True)
    title = f"{domain}: chosen minus rejected"
    return Figure(title, "tokens", heads=("mean", "longer"), rows=rows, ticks=ticks, how=how)


FEW_PAIRS = 30
"""A source with fewer pairs is named: its box and its share say little."""


def _few(sources: Mapping[str, Mapping[str, Any]]) -> str:
    few = [f"{s} {e['counted']:,}" for s, e in sources.items() if 0 < e["counted"] < FEW_PAIRS]
    return f" Few pairs: {', '.join(few)}." if few else ""


def styles(findings: Findings) -> dict[str, Any] | None:
    """How often chosen and rejected responses use a style; a column for each domain with pairs.

    Styles that no response uses are left out.
    """
    wholes = {
        domain: found.get("parity", {}).get("all", {})
        for domain, found in domains_of(findings).items()
    }
    shown = {domain: whole for domain, whole in wholes.items() if whole.get("style")}
    if not shown:
        return None
    names = dict.fromkeys(name for whole in shown.values() for name in whole["style"])
    rows = [
        (name, [_style(whole, name) for whole in shown.values()])
        for name in names
        if any(any(whole["style"].get(name, {}).values()) for whole in shown.values())
    ]
    if not rows:
        return None
    return {"heads": [(d, whole["style_pairs"]) for d, whole in shown.items()], "rows": rows}


def _style(whole: Mapping[str, Any], name: str) -> str:
    found = whole["style"].get(name)
    return f"{share(found['chosen'], 1)} / {share(found['rejected'], 1)}" if found else "–"


def lengths(findings: Findings) -> list[Figure]:
    """For each domain and score: whether longer responses score higher."""
    names = colours(findings)
    return [
        _length(domain, given, names)
        for domain, found in domains_of(findings).items()
        for given in found.get("lengths", ())
    ]


def _length(domain: str, given: Mapping[str, Any], names: Mapping[str, str]) -> Figure:
    rows = []
    for source, entry in with_all(given):
        rank = entry["spearman"]
        kind = names.get(source, "plain") if source != ALL else "plain"
        strip = nothing() if rank is None else charts.dot_strip(rank, _STEPS, kind)
        swatch = names.get(source, "") if source != ALL else ""
        texts = (
            "–" if rank is None else signed(round(rank, 2)),
            _ratio(entry["same_prompt"]["share"]),
        )
        rows.append(Row(source, strip, *texts, swatch))
    whole = given["all"]
    same = whole["same_prompt"]
    how = (
        f"Rank correlation of score and tokens over {whole['n']:,} responses: 0 means that length "
        f"does not matter. Among {same['pairs']:,} pairs of different length from one prompt and "
        f"source the longer one scores higher in {_ratio(same['share'])}; 0.5 means the same."
    )
    ticks = charts.tick_strip(_STEPS, signed=True)
    title = f"{domain}: {given['score']} against length"
    return Figure(title, heads=("rank", "longer wins"), rows=rows, ticks=ticks, how=how)
