"""Render `Findings` as one self-contained HTML page: no script, no request, all text escaped."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fusechat.metrics.text import percent, points, raw_score, title
from fusechat.report import (
    attribution_view,
    benchmarks_view,
    charts,
    judges_view,
    pairs_view,
    rewards_view,
    select_view,
    sources_view,
    texts_view,
    training_view,
    views,
    words,
)
from fusechat.report.collect import Findings


def render(findings: Findings) -> str:
    """The page."""
    metrics = findings.metrics
    return _environment().get_template("report.html.j2").render(
        findings=findings,
        metrics=metrics,
        verdict=_verdict(findings),
        further=_further(findings),
        unscored=words.unscored_note(metrics) if metrics else "",
        models=views.shown_models(metrics) if metrics else [],
        sources=views.source_models(metrics) if metrics else [],
        comparisons=views.comparisons(metrics) if metrics else [],
        colours=sources_view.colours(findings),
        trained=training_view.runs(findings.trained),
        views=views,
        by_source=sources_view,
        texts=texts_view,
        judges=judges_view,
        explained=pairs_view,
        attribution=attribution_view,
        rewards=rewards_view,
        selecting=select_view,
        bench=benchmarks_view,
    )  # fmt: skip


def _verdict(findings: Findings) -> words.Verdict:
    """Of the tasks, else of the benchmarks, else what was made."""
    if findings.metrics is None and findings.benchmarks is not None:
        return benchmarks_view.verdict(findings.benchmarks.table)
    if findings.metrics is None and findings.built:
        return _made(findings)
    return words.verdict(findings.metrics)


def _further(findings: Findings) -> list[words.Verdict]:
    """What else came of it: against other models, and of the benchmarks beside tasks."""
    found = words.further(findings.metrics)
    if findings.metrics is not None and findings.benchmarks is not None:
        one = benchmarks_view.verdict(findings.benchmarks.table)
        found.append(words.Verdict(one.kind, f"Benchmarks: {one.text}"))
    return found


def _made(findings: Findings) -> words.Verdict:
    """What a run of data only came to."""
    counts = {name: f"{count:,}" for count, name in views.flow(findings)}
    responses, kept = counts.get("responses", "0"), counts.get("kept", "0")
    rows = f"{counts.get('SFT rows', '0')} SFT rows and {counts.get('DPO pairs', '0')} DPO pairs"
    made = f"{responses} responses to {kept} prompts became {rows}. "
    return words.Verdict("unclear", made + words.verdict(None).text)


def _breakable(name: str) -> Markup:
    """A name that may be broken after its punctuation, so that narrow columns cut no word."""
    parts = re.split(r"(?<=[_/.\-])", name)
    return Markup("<wbr>").join(parts)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("fusechat.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = resources.files("fusechat.report").joinpath("assets/report.css")
    environment.globals["style"] = Markup(style.read_text(encoding="utf-8"))
    environment.filters |= {
        "percent": percent,
        "score": raw_score,
        "points": points,
        "title_of": title,
        "joined": lambda names: words.joined(list(names)),
        "count": lambda value: f"{value:,}",
        "length": len,
        "whole": lambda value: "–" if value is None else f"{value:,.0f}",
        "short": lambda value: "–" if value is None else charts.short(value),
        "breakable": _breakable,
        "plain_name": lambda name: str(name).rstrip("/").rpartition("/")[2],
    }
    return environment
