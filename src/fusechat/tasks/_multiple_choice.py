"""What the multiple-choice benchmarks have in common: FuseEval's prompt, decoding and graders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any, ClassVar

from fusechat.columns import FileReadError, read_rows
from fusechat.metrics.scoring import Items, group_means
from fusechat.parts import UnreadableRow
from fusechat.records import Prompt
from fusechat.tasks._benchmark import Benchmark, Profile

MOST_OPTIONS = 10
"""FuseEval reads letters up to J."""
_STOP = ("Question:",)
_ASK = (
    "Please read the following multiple-choice questions and provide the most likely correct "
    "answer based on the options given.\n"
)
_STEPS = (
    "- For simple problems:\nDirectly provide the answer with minimal explanation.\n\n"
    "- For complex problems:\nUse this step-by-step format:\n"
    "## Step 1: [Concise description]\n[Brief explanation]\n"
    "## Step 2: [Concise description]\n[Brief explanation]\n\n"
    "Regardless of the approach, always conclude with:\n"
    "The best answer is [the_answer_letter].\n"
    "where the [the_answer_letter] is the correct letter choice.\n\n"
    "Answer: Let's think step by step."
)


class ChoiceBenchmark(Benchmark):
    """Base of the multiple-choice rows: zero-shot, with steps, greedy, accuracy over all items.

    Prompt and decoding: FuseEval/General-Eval/MC-Eval/evaluate_from_local.py, with
    `--chat_template --zero_shot`. There the default system prompt that Qwen's template writes is
    cut out; here the family `qwen` has an empty system message in its place.
    """

    licence: ClassVar[str]

    def decoding(self) -> dict[str, Any]:
        """Greedy, 2,048 tokens, cut where the model begins another question."""
        return {"temperature": 0.0, "max_new_tokens": 2048, "stop": list(_STOP)}

    def graders(self) -> dict[Profile, dict[str, Any]]:
        """FuseEval's three expressions with a guess, and the strict reading without one.

        Both read a response up to the text at which its model is stopped, for sources that cannot.
        """
        common = {"use": "multiple_choice", "stop": list(_STOP)}
        return {"paper": common | {"profile": "paper", "grade_cut": True}, "robust": common}

    def extras(self, items: Items) -> dict[str, Any]:
        """Accuracy by subject, in per cent; the score is over all items, not their mean."""
        by = {name: round(100 * mean, 2) for name, mean in group_means(items).items()}
        return {"by_subject": by} if len(by) > 1 else {}

    def notes(self) -> list[str]:
        """Also: how Qwen's default system prompt is removed."""
        empty = (
            "Qwen's default system prompt is replaced by an empty one; FuseEval cuts the whole "
            "system block out."
        )
        return [*super().notes(), *([empty] if self.family == "qwen" else [])]

    def _rows(self, role: str = "items") -> Iterator[tuple[str, Any]]:
        """Rows of the file of a role, with their places; none where it is not there."""
        path = self.found().get(role)
        return rows_of_file(path) if path is not None else iter(())

    def _prompt(self, question: Any, options: Any, gold: str, subject: str, item: str) -> Prompt:
        """The prompt of one item; raises `ValueError` with the reason why it is none."""
        asked, given = checked(question, options)
        letters = ascii_uppercase[: len(given)]
        if not gold or any(letter not in letters for letter in gold.split(",")):
            raise ValueError("the gold answer is none of the options")
        messages = [{"role": "user", "content": question_text(asked, given)}]
        if self.family == "qwen":
            messages.insert(0, {"role": "system", "content": ""})
        return Prompt.of(
            messages, domain=subject, answer=gold, choices=given, item=item, licence=self.licence
        )


def question_text(question: str, options: Sequence[str]) -> str:
    """What the user turn says: the instruction, the question, its options, how to conclude."""
    lines = "".join(f"{ascii_uppercase[n]}. {option}\n" for n, option in enumerate(options))
    return f"{_ASK}Question:\n{question}\nOptions:\n{lines}{_STEPS}"


def checked(question: Any, options: Any) -> tuple[str, tuple[str, ...]]:
    """A question and its options; raises `ValueError` with the reason where they are none."""
    if not isinstance(question, str) or not question.strip():
        raise ValueError("no question in the row")
    if not isinstance(options, (list, tuple)) or not all(isinstance(o, str) for o in options):
        raise ValueError("the options are no list of texts")
    if not 2 <= len(options) <= MOST_OPTIONS:
        raise ValueError(f"{len(options)} options; there are 2 to {MOST_OPTIONS}")
    return question, tuple(options)


def gold_letter(place: Any, options: int) -> str:
    """The letter of the option at a place from 0; raises `ValueError` where there is none."""
    if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < options:
        raise ValueError("the gold answer is none of the options")
    return ascii_uppercase[place]


def each(rows: Iterator[tuple[str, Any]], prompt: Any) -> Iterator[Prompt | UnreadableRow]:
    """A prompt of each row, by `prompt(row)`, or why there is none."""
    for place, row in rows:
        try:
            if not isinstance(row, Mapping):
                raise ValueError("row is not an object")
            yield prompt(row)
        except ValueError as error:
            yield UnreadableRow(place, str(error).splitlines()[0])


def rows_of_file(path: Path) -> Iterator[tuple[str, Any]]:
    """Rows of a file with their places: JSON, JSON lines, Parquet, CSV with a header, Arrow."""
    if path.name.endswith(".csv"):
        return _read_csv(path)
    if path.name.endswith(".arrow"):
        return _read_arrow(path)
    return read_rows(path)


def _read_csv(path: Path) -> Iterator[tuple[str, Any]]:
    import csv

    with path.open(encoding="utf-8-sig", newline="") as handle:
        try:
            for number, row in enumerate(csv.DictReader(handle)):
                yield f"{path.name}[{number}]", row
        except (csv.Error, UnicodeDecodeError) as error:
            raise FileReadError(
                f"{path} cannot be read: {error}. It is damaged, or not what its name says."
            ) from error


def _read_arrow(path: Path) -> Iterator[tuple[str, Any]]:
    """The stream that `datasets` saves to disk."""
    import pyarrow as pa

    number = 0
    try:
        with pa.ipc.open_stream(str(path)) as reader:
            for batch in reader:
                for row in batch.to_pylist():
                    yield f"{path.name}[{number}]", row
                    number += 1
    except (OSError, pa.lib.ArrowException) as error:
        raise FileReadError(
            f"{path} cannot be read: {error}. It is damaged, or not what its name says."
        ) from error
