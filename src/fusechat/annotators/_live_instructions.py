"""LiveBench's instruction following: half for the share of instructions kept, half for all."""

from __future__ import annotations

from fusechat.annotators._ifeval_checks import UncheckedError
from fusechat.annotators._ifeval_livebench import score
from fusechat.annotators._live_question import Graded, NotGradedError, Question


def instructions(question: Question, response: str) -> Graded:
    """The mean of 1 or 0 for all instructions kept, strictly, and of the share that was."""
    try:
        value, told = score(question.checker, response)
    except UncheckedError as error:
        raise NotGradedError(error.reason, error.details) from error
    pairs = zip(told["instructions"], told["strict"], strict=True)
    kept = ", ".join(f"{name}: {'kept' if strict else 'not kept'}" for name, strict in pairs)
    return Graded(value, kept if response.strip() else None)
