"""What LiveBench's graders are given, what they say, and what several of them share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Question:
    """One question of LiveBench as its grader sees it."""

    task: str
    """Such as `AMPS_Hard`."""
    text: str
    """What the model was asked."""
    answer: str = ""
    """The ground truth; empty where the task has none (instruction following, coding)."""
    subtask: str = ""
    """Such as `aime_i_2024`; empty where the task has none."""
    release: str = ""
    """Date on which the question came out, `2024-06-24`; its format of answers goes by it."""
    corrected: bool = True
    """Whether the faults of the grading of autumn 2024 are mended."""
    checker: Mapping[str, Any] = field(default_factory=dict)
    """All that the prompt's `checker` says."""


@dataclass(frozen=True)
class Graded:
    """A grader's verdict."""

    value: float
    """In [0, 1]."""
    read: str | None = None
    """What was taken for the answer; None where nothing was."""


class NotGradedError(Exception):
    """A question that cannot be graded; the message is short and countable."""

    def __init__(self, reason: str, details: str = "", failed: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.details, self.failed = reason, details, failed
        """`failed`: the grader's own failure, not the question's."""


def last_boxed(text: str) -> str | None:
    """What stands in the last `\\boxed{...}` (else `\\fbox{...}`); None without a closed one.

    As upstream: where the text holds `\\boxed` with a blank behind it anywhere, what follows the
    last such one up to a dollar sign is taken; dollar signs in a box are left out.
    """
    if "\\boxed " in text:
        return text.rpartition("\\boxed ")[2].partition("$")[0]
    start = text.rfind("\\boxed")
    start = text.rfind("\\fbox") if start < 0 else start
    if start < 0:
        return None
    depth = 0
    for place in range(start, len(text)):
        if text[place] == "{":
            depth += 1
        elif text[place] == "}":
            depth -= 1
            if depth == 0:
                box = text[start : place + 1].replace("$", "").replace("fbox", "boxed")
                inner = box.removeprefix("\\boxed{")
                return inner[:-1] if inner != box else None
    return None


def edit_distance(left: Sequence[Any], right: Sequence[Any]) -> int:
    """Levenshtein distance of two sequences: insertions, deletions and replacements, 1 each."""
    row = list(range(len(right) + 1))
    for i, one in enumerate(left, start=1):
        before, row[0] = row[0], i
        for j, other in enumerate(right, start=1):
            kept = before if one == other else 1 + min(before, row[j], row[j - 1])
            before, row[j] = row[j], kept
    return row[-1]
