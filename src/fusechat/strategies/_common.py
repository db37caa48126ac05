"""What the strategies share: who may be picked, who is right, the score window."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

import numpy as np

from fusechat.parts import Group, Seen

TOLERANCE = 1e-9
"""Slack at both ends of a window, in the annotator's units, after rounding to float32."""
RIGHT = 1.0
"""The value of a right response; a smaller one (constraints met in part) is not right."""


def value_of(response: Seen, annotator: str) -> float | None:
    """The usable value of a score; None where the annotator gave none, or no finite number."""
    judged = response.scores.get(annotator)
    if judged is None or judged.status != "ok" or judged.value is None:
        return None
    return judged.value if math.isfinite(judged.value) else None


def standing(response: Seen, annotators: Iterable[str]) -> str:
    """Why a response cannot be picked, in countable words; empty where it can."""
    if not response.whole:
        return {"length": "cut", "error": "failed"}.get(response.finish, "empty")
    for name in annotators:
        if value_of(response, name) is None:
            judged = response.scores.get(name)
            if judged is None or judged.status == "ok":
                return f"{name}: {'no score' if judged is None else 'not finite'}"
            return cause_of(name, judged.status, judged.reason)
    return ""


def cause_of(annotator: str, status: str, reason: str) -> str:
    """The words for a score that an annotator could not give, with its own reason."""
    return f"{annotator}: {status} ({reason})" if reason else f"{annotator}: {status}"


def left_out(group: Group, annotators: Iterable[str]) -> dict[str, int]:
    """How many of a prompt's responses could not be picked, by cause."""
    names = tuple(annotators)
    causes = Counter(standing(r, names) for r in group.responses)
    return {cause: count for cause, count in sorted(causes.items()) if cause}


def eligible(
    responses: Iterable[Seen], by: str | None, correct_by: str | None = None, correct: bool = True
) -> tuple[list[Seen], str]:
    """The responses that may be picked, by sample index, or none and the reason.

    They are whole, judged `correct` (or not) by `correct_by`, and scored by `by`. A
    response that an annotator could not judge is on neither side.
    """
    found = sorted(responses, key=lambda r: (r.index, r.response_id))
    if not found:
        return [], "no response"
    found = [r for r in found if r.whole]
    if not found:
        return [], "no whole response"
    side = ""
    if correct_by is not None:
        verdicts = [(r, value_of(r, correct_by)) for r in found]
        if all(verdict is None for _, verdict in verdicts):
            return [], "no scored response"
        side = "correct " if correct else "incorrect "
        found = [r for r, v in verdicts if v is not None and (v >= RIGHT) == correct]
        if not found:
            return [], f"no {side}response"
    if by is not None:
        found = [r for r in found if value_of(r, by) is not None]
        if not found:
            return [], f"no scored {side}response"
    return found, ""


def by_source(group: Group) -> dict[str, list[Seen]]:
    """The responses of each source that has any, sources in recipe order."""
    found: dict[str, list[Seen]] = {name: [] for name in group.sources}
    for response in group.responses:
        if response.source in found:
            found[response.source].append(response)
    return {name: responses for name, responses in found.items() if responses}


def shares_right(group: Group, correct_by: str | None) -> dict[str, float]:
    """Source -> share of its judged whole responses that are right, in [0, 1]; 0 where none is."""
    shares = {}
    for source, responses in by_source(group).items():
        whole = [r for r in responses if r.whole and correct_by is not None]
        verdicts = [v for r in whole if (v := value_of(r, str(correct_by))) is not None]
        shares[source] = sum(v >= RIGHT for v in verdicts) / max(1, len(verdicts))
    return shares


def outside(gap: float, low: float | None, high: float | None, positive: bool) -> str:
    """Why a gap of two scores does not fit a window, in countable words; empty where it does.

    Both ends are inside. The gap and the ends are rounded to float32 before they are
    compared, with a slack of `TOLERANCE`, so that 0.11 over 0.10 is a gap of 0.01.
    `positive`: a gap of 0 or below never fits.
    """
    rounded = _single(gap)
    under = low is not None and rounded < _single(low) - TOLERANCE
    if rounded < 0 and (under or positive):
        return "negative gap"
    if under:
        return "gap below min_margin"
    if rounded == 0 and positive:
        return "equal scores"
    over = high is not None and rounded > _single(high) + TOLERANCE
    return "gap above max_margin" if over else ""


def _single(value: float) -> float:
    with np.errstate(over="ignore"):  # beyond float32 is beyond every window
        return float(np.float32(value))
