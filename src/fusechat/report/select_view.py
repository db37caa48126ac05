"""The section 'Chosen checkpoint', and what the sources said of the preference rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fusechat.metrics.bootstrap import wilson
from fusechat.metrics.text import percent
from fusechat.report.collect import Findings

RULES = {
    "held_out": "the one that ranks more held-out pairs right; where the shares do not tell, the "
    "one with the lower mean loss on them",
    "task": "the one with the higher mean value on dev prompts",
}


@dataclass(frozen=True)
class Row:
    """One state of the table."""

    step: int
    state: str
    cells: Sequence[str]
    chosen: bool


@dataclass(frozen=True)
class Selection:
    """The whole section."""

    rule: str
    heads: Sequence[str]
    rows: Sequence[Row]
    """None where there was one state only."""
    reason: str


def selection(findings: Findings) -> Selection | None:
    """What `select/dpo` chose; None where it is not done, or the run has no such unit."""
    found = findings.selected
    if found is None:
        return None
    candidates, by = found["candidates"], found["rule"]["by"]
    if len(candidates) == 1:
        return Selection(f"Rule: {by}.", (), (), f"Step {found['step']}: {found['reason']}.")
    heads, cells = _pair_cells(candidates) if by == "held_out" else _task_cells(candidates)
    rows = [
        Row(one["step"], _state(one), texts, one["step"] == found["step"])
        for one, texts in zip(candidates, cells, strict=True)
    ]
    beyond = found["rule"]["beyond_chance"]
    rule = f"Of the {len(candidates)} newest states {RULES[by]}"
    rule += ", beyond chance (95%); where nothing tells, the later one." if beyond else "."
    return Selection(rule, heads, rows, found["reason"])


def _state(candidate: Mapping[str, Any]) -> str:
    return "checkpoint" if candidate["checkpoint"] else "after the last step"


Cells = tuple[Sequence[str], list[Sequence[str]]]


def _pair_cells(candidates: Sequence[Mapping[str, Any]]) -> Cells:
    heads = ("Held-out pairs", "Ranked right, %", "Loss", "Margin")
    return heads, [_pair_cell(one) for one in candidates]


def _pair_cell(one: Mapping[str, Any]) -> Sequence[str]:
    if not one["pairs"]:
        return ("0", "–", "–", "–")
    interval = wilson(one["right"], one["pairs"])
    share = f"{percent(one['accuracy'])} [{percent(interval.low)}, {percent(interval.high)}]"
    return (f"{one['pairs']:,}", share, f"{one['loss']:.4g}", f"{one['margin']:+.3g}")


def _task_cells(candidates: Sequence[Mapping[str, Any]]) -> Cells:
    tasks = list(candidates[0]["tasks"])
    heads = [*(f"{task} (n={candidates[0]['tasks'][task]['expected']})" for task in tasks), "mean"]
    values = [
        [*(one["tasks"][task]["value"] for task in tasks), one["value"]] for one in candidates
    ]
    return heads, [["–" if v is None else percent(v) for v in row] for row in values]


@dataclass(frozen=True)
class Told:
    """One source, and how many responses of the preference rows it could judge."""

    source: str
    responses: str
    told: str
    token_logp: str
    reasons: Sequence[str]


def told(findings: Findings) -> list[Told]:
    """A row for each source that was asked how likely it finds the responses."""
    return [_told(name, counts) for name, counts in findings.source_logps.items()]


def _told(name: str, counts: Mapping[str, Any]) -> Told:
    mean = counts["token_logp"]
    reasons = [
        f"{count:,} {status}: {reason}"
        for status, found in counts["reasons"].items()
        for reason, count in found.items()
    ]
    return Told(
        name, f"{counts['responses']:,}", f"{counts['status'].get('ok', 0):,}",
        "–" if mean is None else f"{mean:.3f}", reasons,
    )  # fmt: skip
