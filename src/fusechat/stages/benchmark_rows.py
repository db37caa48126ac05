"""The content of benchmarks.json: one row a benchmark, never one dropped, and their average.

A row is `ok` (every item that was asked has a verdict for every model), `partial` (some have none,
or the data hold fewer items than the benchmark) or `skipped`, always with the reason. The average
is the plain mean of the numbers of the rows that are `ok`, as FuseChat-3.0 has it: ratings stand on
their own scale of 10.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fusechat.metrics import published as paper
from fusechat.metrics.benchmark_bootstrap import BROKEN, Estimate, Scoring, difference, estimate
from fusechat.metrics.benchmark_pairs import NOT_ASKED, examples, outcomes, pairs_to_compare, role
from fusechat.metrics.scoring import Items
from fusechat.metrics.text import title
from fusechat.stages.benchmark_average import average
from fusechat.stages.benchmark_items import Answered, Benchmarked
from fusechat.stages.benchmark_origin import Served as Served
from fusechat.stages.benchmark_origin import Size, data_files, reasons_not_comparable, size_of
from fusechat.stages.benchmark_origin import served_names as served_names
from fusechat.tasks._benchmark import Benchmark

FORMAT = 1
RESAMPLES, RESAMPLES_OF_MEANS = 1000, 10_000
SLOW = {"alpaca_eval_2": 400}
"""Resamples of the benchmarks whose number is a fitted regression."""
COUNTED = ("parse_failed", "judge_failed", "errors", "unscorable", "cut", "empty")
MISSING = {
    "judge_failed": "the judge gave no verdict",
    "errors": "the request or the grader failed",
    "unscorable": "nothing to judge by",
}
"""Counts of items that have no verdict, in words."""

METHOD = (
    "Numbers are in the units of FuseChat-3.0's table: per cent, MT-Bench and AlignBench as mean "
    "ratings. Each rests on the items with a verdict; one without (a failed request, a judge that "
    "gave none) is never counted as 0, and makes its row partial. Intervals are 95% bootstraps "
    "over items (10,000 resamples of a plain mean, 1,000 of other numbers, 400 of a fitted "
    "regression), widened for few items (Hesterberg, 2015). Differences are paired: both models "
    "are resampled with the same items, over those that have a verdict for both; on fewer than six "
    "items that differ, nothing is beyond chance. The average is the plain mean over the rows that "
    "are ok, as the paper has it, with ratings on their scale of 10. 'Not comparable' says why a "
    "number is not to be held against the published one. Where many differences stand, about one "
    "in twenty is marked by chance."
)


def benchmark_rows(
    entries: Sequence[Benchmarked], profile: str = "paper", served: Served | None = None
) -> dict[str, Any]:
    """The content of benchmarks.json.

    `profile`: whose grading heads the table, where a benchmark is graded in two. `served`: under
    which names the answers came, by which the paper's target is found. A row of the paper that was
    not asked for is there and says so.
    """
    told = served or Served({}, {})
    models = list(dict.fromkeys(model for entry in entries for model in entry.models))
    there = published_of({model: told.models.get(model, ()) for model in models})
    order = list(there.rows) if there else list(paper.ROWS)
    asked = [_row(entry, models, profile, there, told.judges.get(entry.name, ()))
             for entry in entries]  # fmt: skip
    keys = {entry.part.published for entry in entries}
    rows = [*asked, *(_not_asked(key, there) for key in _every(order) if key not in keys)]
    ordered = _ordered(rows, order)
    return {
        "format": FORMAT,
        "profile": profile,
        "models": [
            {"name": model, "role": role(model), "served": list(told.models.get(model, ()))}
            for model in models
        ],
        "rows": ordered,
        "average": average(ordered, models, there, len(order)),
        "published": _published(there),
        "method": METHOD,
    }


def published_of(models: Mapping[str, Sequence[str]]) -> paper.Published | None:
    """The paper's table for models of these names: by the base's, else by the others'."""
    found = [
        name
        for wanted in ("base", "fused", "sft")
        for model, names in models.items()
        if role(model) == wanted
        for name in names
    ]
    return paper.published_for(found)


def _every(order: Sequence[str]) -> list[str]:
    """All rows that are always shown: those of the target's table, then what is left of the 14."""
    return [*order, *(key for key in paper.ROWS if key not in order)]


def _ordered(rows: Sequence[dict[str, Any]], order: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the paper's table in its order, then the others as they were asked for.

    Of two rows of one benchmark only the first counts in the average.
    """
    own = [row for row in rows if row["key"] in order]
    own.sort(key=lambda row: order.index(row["key"]))
    seen: set[str] = set()
    for row in own:
        row["counted"] = row["key"] not in seen
        seen.add(row["key"])
    return own + [row | {"counted": False} for row in rows if row["key"] not in order]


def _not_asked(key: str, there: paper.Published | None) -> dict[str, Any]:
    return {
        "name": paper.TASKS[key], "title": key, "key": key, "private": False, "notes": [],
        "scale": 10.0 if key in paper.RATINGS else 100.0, "status": "skipped",
        "reason": NOT_ASKED, "published": _figures(key, there),
    }  # fmt: skip


def _figures(key: str | None, there: paper.Published | None) -> dict[str, float] | None:
    return dict(there.rows[key]) if there and key is not None and key in there.rows else None


def _row(
    entry: Benchmarked,
    models: Sequence[str],
    profile: str,
    there: paper.Published | None,
    judges: Sequence[str],
) -> dict[str, Any]:
    part = entry.part
    figures = _figures(part.published, there)
    row: dict[str, Any] = {
        "name": entry.name, "title": part.title, "key": part.published,
        "private": bool(getattr(part, "private", False)), "notes": list(entry.notes),
        "scale": part.scale, "published": figures,
    }  # fmt: skip
    if entry.skipped is not None or not entry.results:
        return row | {"status": "skipped", "reason": entry.skipped or "no model answered it"}
    head = profile if profile in entry.results else next(iter(entry.results))
    found, scoring = entry.results[head], _scoring(part)
    size = size_of(entry)
    partial = [*part.lacks(), *_partial(size, found, models)]
    graded = _graded(part, found, models, scoring)
    data = data_files(part)
    why_not = reasons_not_comparable(entry, head, size, data, judges)
    return row | {
        "status": "partial" if partial else "ok",
        "reason": " ".join(partial),
        "asked": size.asked,
        "whole": size.whole,
        "sampled": size.taken,
        "data": data,
        "settings": _settings(entry.settings),
        "judge": entry.judge,
        "judge_served": list(judges),
        "comparable": not why_not and not partial,
        "why_not": [*why_not, *(["the row is partial"] if partial else [])],
        "resamples": scoring.resamples,
        "profile": head,
        **graded,
        "other": _other(entry, head, graded, models, scoring),
        "minus_published": _minus(graded["models"], figures or {}),
        "examples": examples({model: one.items for model, one in found.items()}, models),
    }


def _settings(found: Mapping[str, str]) -> str | dict[str, str] | None:
    """One digest where all models were asked alike, else that of each model."""
    return next(iter(found.values()), None) if len(set(found.values())) < 2 else dict(found)


def _scoring(part: Benchmark) -> Scoring:
    plain = type(part).score is Benchmark.score
    usual = RESAMPLES_OF_MEANS if plain else SLOW.get(part.part_name(), RESAMPLES)
    return Scoring(part.score, part.scale, plain, int(getattr(part, "resamples", usual)))


def _graded(
    part: Benchmark, found: Mapping[str, Answered], models: Sequence[str], scoring: Scoring
) -> dict[str, Any]:
    """What one profile says of every model, and of the differences between them."""
    there = [model for model in models if model in found]
    return {
        "models": {model: _cell(part, found[model], scoring, model) for model in there},
        "differences": [
            {"model": model, "against": against}
            | _difference(found, (model, against), scoring)
            | outcomes(found[model].items, found[against].items)
            for model, against in pairs_to_compare(there)
        ],
    }


def _difference(
    found: Mapping[str, Answered], pair: tuple[str, str], scoring: Scoring
) -> dict[str, Any]:
    items = [found[model].items for model in pair]
    return _numbers(difference(items[0], items[1], scoring, pair), "difference")


def _cell(part: Benchmark, answered: Answered, scoring: Scoring, model: str) -> dict[str, Any]:
    items = answered.items
    return {
        **_numbers(estimate(items, scoring, model), "score"),
        "expected": len(items),
        **{name: int(answered.counts.get(name, 0)) for name in COUNTED},
        "mean_characters": _mean(items.characters),
        "mean_tokens": _mean(items.tokens),
        "extras": _extras(part, items),
        "runs": [
            value for one in answered.by_sample if (value := _score(one, scoring)) is not None
        ],
    }


def _score(items: Items, scoring: Scoring) -> float | None:
    """Of what one run would have seen: its number alone."""
    return estimate(items, replace(scoring, resamples=1)).value


def _numbers(found: Estimate, name: str) -> dict[str, Any]:
    interval = found.interval
    numbers: dict[str, Any] = {
        name: found.value,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "n": found.n,
    }
    return numbers | ({"why": found.why} if found.why else {})


def _extras(part: Benchmark, items: Items) -> dict[str, Any]:
    known = items.take(np.flatnonzero(items.known()))
    if not len(known):
        return {}
    try:
        return {str(name): plain(value) for name, value in part.extras(known).items()}
    except BROKEN as error:
        return {"missing": f"not to be had of these items: {error}"}


def plain(value: Any) -> Any:
    """A value as JSON holds it: numpy's numbers as Python's, nan and infinities as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _mean(lengths: Any) -> float | None:
    known = lengths[np.isfinite(lengths)]
    return float(known.mean()) if len(known) else None


def _partial(size: Size, found: Mapping[str, Answered], models: Sequence[str]) -> list[str]:
    """Why a row is partial, in sentences; empty where it is not."""
    out = []
    if size.short:
        out.append(f"{size.asked:,} of {size.whole:,} items are in the data.")
    for model in models:
        if model not in found:
            out.append(f"{title(model)} was not asked.")
            continue
        items, counts = found[model].items, found[model].counts
        if lost := counts.get("samples_missing"):
            out.append(
                f"{title(model)}: {lost:,} samples of items that have others have no verdict."
            )
        missing = len(items) - int(items.known().sum())
        if missing:
            told = [f"{counts[name]:,} × {MISSING[name]}" for name in MISSING if counts.get(name)]
            why = f" ({', '.join(told)})" if told else ""
            out.append(f"{title(model)}: {missing:,} of {len(items):,} items have no verdict{why}.")
    return out


def _other(
    entry: Benchmarked,
    head: str,
    graded: Mapping[str, Any],
    models: Sequence[str],
    scoring: Scoring,
) -> dict[str, Any] | None:
    """The other profile's numbers and what they differ by; None where there is no other."""
    other = next((profile for profile in entry.results if profile != head), None)
    if other is None:
        return None
    again = replace(scoring, made={})
    found = _graded(entry.part, entry.results[other], models, again)
    for model, cell in found["models"].items():
        ours = graded["models"].get(model, {}).get("score")
        both = ours is not None and cell["score"] is not None
        cell["minus_headline"] = cell["score"] - ours if both else None
    return {"profile": other, **found}


def _minus(cells: Mapping[str, Any], figures: Mapping[str, float]) -> dict[str, float]:
    """Our number less the published one, of the models that have a published column."""
    return {
        model: cell["score"] - figures[str(role(model))]
        for model, cell in cells.items()
        if cell["score"] is not None and role(model) in figures
    }


def _published(there: paper.Published | None) -> dict[str, Any] | None:
    if there is None:
        return None
    return {
        "target": there.target,
        "columns": dict(there.models),
        "average": dict(there.average),
        "rows": len(there.rows),
        "source": paper.source(),
    }
