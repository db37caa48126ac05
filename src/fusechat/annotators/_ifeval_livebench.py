"""LiveBench's instruction following: its questions carry instructions of IFEval.

`process_results/instruction_following/utils.py` of LiveBench (arXiv 2406.19314), for the tasks
paraphrase, simplify, story_generation and summarize: strict, never loose.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fusechat.annotators._ifeval_checks import followed


def score(question: Mapping[str, Any], response: str) -> tuple[float, dict[str, Any]]:
    """The mean of "all instructions followed" (1 or 0) and of the share that is followed.

    `question` has `instruction_id_list` and `kwargs` as in LiveBench's rows. Returns the value in
    [0, 1], and `instructions` (their names) with `strict` (whether each is followed). A blank
    response follows none. Raises `_ifeval_checks.UncheckedError` where that cannot be said: an
    unknown instruction, an argument that is missing, langdetect that is not installed (no question
    of the release of 2024-08-31 needs it).
    """
    names = [str(name) for name in question.get("instruction_id_list") or ()]
    strict = followed(names, question.get("kwargs") or (), response)
    value = (float(all(strict)) + sum(strict) / len(strict)) / 2
    return value, {"instructions": names, "strict": strict}
