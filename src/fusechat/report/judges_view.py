"""What each annotator did: how its scores ended and why, its self-test, its sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fusechat.report import charts
from fusechat.report.collect import Findings
from fusechat.report.judged import Judge
from fusechat.report.views import named

_STATUSES = (
    ("ok", "scored", "good"),
    ("unscorable", "unscorable", "warn"),
    ("error", "failed", "bad"),
)
_LEVELS = {
    "jail": "no network, no files but its own, no other processes, inside bubblewrap",
    "full": "no network, no files but its own, no other processes",
    "network": "no network; it could read what its user can read",
    "weak": "the network was open, allowed by the recipe",
}


def scored(findings: Findings) -> list[dict[str, Any]]:
    """Scores of each annotator: how they ended, with the reasons, and in which conditions."""
    out = []
    for annotator, judge in findings.judges.items():
        parts = named(judge.statuses, _STATUSES)
        words = {key: name for key, name, _ in _STATUSES}
        out.append(
            {
                "annotator": annotator,
                "total": judge.statuses.total(),
                "parts": parts,
                "bar": charts.stacked(parts, annotator),
                "reasons": [
                    (f"{words.get(status, status)}: {reason}", count)
                    for (status, reason), count in judge.reasons.most_common()
                ],
                "conditions": [*_sandbox(judge), *map(_self_test, judge.self_tests)],
            }
        )
    return out


def _sandbox(judge: Judge) -> list[str]:
    return [
        f"Sandbox level {level}: {count:,} programs"
        + (f" ({_LEVELS[level]})." if level in _LEVELS else ".")
        for level, count in judge.sandbox.most_common()
    ]


_WAYS = {
    "shared": "a prompt computed once for all its responses",
    "padded": "responses padded in batches",
    "alone": "responses one by one",
}
"""How a reward model scores, in words."""
_SELF_TEST = {
    "conversations": "{} conversations",
    "dtype": "in {}",
    "way": "{}",
    "spread": "scores differ by at most {} from those one by one",
    "least_margin": "the smallest margin of the recipe is {}",
}


def _self_test(found: Mapping[str, Any]) -> str:
    """The measured self-test of a reward model in words; whatever else it says, as it says it."""
    told = {key: value for key, value in found.items() if value is not None}
    if "way" in told:
        told["way"] = _WAYS.get(str(told["way"]), f"the way {told['way']}")
    parts = [text.format(_plain(told[key])) for key, text in _SELF_TEST.items() if key in told]
    parts += [f"{key} {_plain(value)}" for key, value in told.items() if key not in _SELF_TEST]
    return f"Self-test at start: {', '.join(parts)}." if parts else "Self-test at start: passed."


def _plain(value: Any) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return charts.short(float(value))
    return str(value)
