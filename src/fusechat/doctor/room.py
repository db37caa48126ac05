"""Whether prompts and answers fit: each model's context, training lengths, the reward model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fusechat.doctor.findings import Finding


@dataclass(frozen=True)
class Measured:
    """Tokens of real prompts, as one model's template and vocabulary count them."""

    lengths: Sequence[int]
    of: int
    """How many prompts there are; `lengths` may be of the first some of them."""

    def over(self, most: int) -> tuple[int, float]:
        """How many of the measured prompts have more than `most` tokens, and their share."""
        many = sum(length > most for length in self.lengths)
        return many, many / len(self.lengths) if self.lengths else 0.0

    def said(self, most: int) -> str:
        """`12 of 400 measured prompts (3.0%)`."""
        many, share = self.over(most)
        return f"{many} of {len(self.lengths)} measured prompts ({share:.1%})"


def sampling_room(
    context: int | None, max_new_tokens: int | None, measured: Measured | None, error_share: float
) -> Iterator[Finding]:
    """Prompt and answer within a model's context."""
    if context is None or max_new_tokens is None:
        return
    if max_new_tokens >= context:
        yield Finding(
            "fault", "context-no-room",
            f"max_new_tokens is {max_new_tokens} and the whole context {context}: no prompt fits "
            "beside an answer of that length.",
            "Lower max_new_tokens, or serve the model with a longer context.",
        )  # fmt: skip
    if measured is None or not measured.lengths:
        return
    many, share = measured.over(context - 1)
    if many:
        yield Finding(
            "fault" if share > error_share else "warning", "prompt-over-context",
            f"{measured.said(context - 1)} fill the context of {context} tokens and become errors "
            f"(max_error_share {error_share:.1%}).",
            "Leave them out of the prompt set, or take a model with a longer context.",
        )  # fmt: skip
    cut, _ = measured.over(context - max_new_tokens)
    if cut > many and max_new_tokens < context:
        yield Finding(
            "warning", "answer-cut-by-context",
            f"{measured.said(context - max_new_tokens)} leave less room than max_new_tokens "
            f"{max_new_tokens} in a context of {context}: long answers to them are cut.",
            "Lower max_new_tokens, or leave long prompts out.",
        )  # fmt: skip


def training_room(
    stage: str,
    max_length: int,
    context: int | None,
    longest_answer: int | None,
    measured: Measured | None,
) -> Iterator[Finding]:
    """Prompt and response within `max_length`, and that within the target's context."""
    if context is not None and max_length > context:
        yield Finding(
            "fault", "max-length-over-context",
            f"train.{stage}.max_length is {max_length}; the target's context is {context}.",
            f"Set train.{stage}.max_length to {context} or less.",
        )  # fmt: skip
    if measured is None or not measured.lengths:
        if longest_answer is not None and longest_answer >= max_length:
            yield Finding(
                "note", "answer-over-max-length",
                f"answers have up to {longest_answer} tokens and train.{stage}.max_length is "
                f"{max_length} with the prompt: the longest are dropped or cut, and counted.",
                f"Raise train.{stage}.max_length, or lower max_new_tokens.",
            )  # fmt: skip
        return
    many, _ = measured.over(max_length - 1)
    if many:
        yield Finding(
            "warning", "prompt-over-max-length",
            f"{measured.said(max_length - 1)} leave no room for a response in "
            f"train.{stage}.max_length {max_length}, and are dropped there.",
            f"Raise train.{stage}.max_length.",
        )  # fmt: skip
    if longest_answer is None:
        return
    tight, share = measured.over(max_length - longest_answer)
    if tight > many:
        yield Finding(
            "warning" if share > 0.5 and max_length > longest_answer else "note",
            "answer-over-max-length",
            f"{measured.said(max_length - longest_answer)} and an answer of {longest_answer} "
            f"tokens exceed train.{stage}.max_length {max_length}: such rows are dropped or cut, "
            "and counted.",
            f"Raise train.{stage}.max_length, or lower max_new_tokens.",
        )  # fmt: skip


def judging_room(
    context: int | None, longest_answer: int | None, measured: Measured | None
) -> Iterator[Finding]:
    """Prompt and response within a reward model's context."""
    if context is None or longest_answer is None:
        return
    if longest_answer >= context:
        yield Finding(
            "warning", "judge-too-short",
            f"the reward model takes {context} tokens and answers have up to {longest_answer}: "
            "longer conversations are unscorable, and long answers are never chosen.",
            "Take a reward model with a longer context, or lower max_new_tokens.",
        )  # fmt: skip
    elif measured is not None and measured.over(context - longest_answer)[0]:
        yield Finding(
            "note", "judge-too-short",
            f"{measured.said(context - longest_answer)} and an answer of {longest_answer} tokens "
            f"exceed the reward model's {context} tokens: such answers are unscorable.",
            "Take a reward model with a longer context, or lower max_new_tokens.",
        )  # fmt: skip
