"""What HumanEval and MBPP have in common: EvalPlus's files, prompts, decoding and graders."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from fusechat.columns import read_rows
from fusechat.metrics.scoring import Items
from fusechat.parts import UnreadableRow
from fusechat.records import Prompt
from fusechat.tasks._benchmark import Benchmark, Profile, numbered

FENCE = "```"
_ASK = (
    "Please provide a self-contained Python script that solves the following problem in a "
    "markdown code block:"
)
_BEGUN = (
    "Below is a Python script with a self-contained function that solves the problem and passes "
    "corresponding tests:"
)
_QWEN_SYSTEM = (
    "You are an intelligent programming assistant to produce Python algorithmic solutions"
)
_QWEN_ASK = "Can you complete the following Python function?"
_STOP = ("<|endoftext|>", "<|endofmask|>", "</s>", "\nif __name__", "\ndef main(", "\nprint(")
_FIELDS = ("task_id", "entry_point", "prompt", "canonical_solution", "atol", "base_input")


class EvalPlusBenchmark(Benchmark):
    """Base of HumanEval and MBPP in EvalPlus's form: pass@1 of one greedy answer, base tests.

    Prompts: EvalPlus's for chat models (`codegen.py`, `provider/utility.py`), and for the family
    `qwen` those of Qwen2.5-Coder's fork of it, as FuseEval/Code-Eval/eval_plus has them. The
    answer is begun for the model, up to the opening fence of its code; without `prefill` the same
    question is asked and the answer's own fenced block is taken.
    """

    licence: ClassVar[str]

    prefill: bool = True
    """Whether the answer is begun for the model; false where a model cannot go on with one."""
    plus: bool = True
    """Whether a program that passes the base tests is run against EvalPlus's added ones too; that
    is told beside the row's number and never changes it."""

    def decoding(self) -> dict[str, Any]:
        """Greedy, 2,048 tokens, up to the closing fence or to code that only tries out."""
        stop = [*_STOP, f"\n{FENCE}" if self.family == "qwen" else f"\n{FENCE}\n"]
        wanted = {"temperature": 0.0, "max_new_tokens": 2048}
        return wanted | {"stop": stop} if self.prefill else wanted

    def graders(self) -> dict[Profile, dict[str, Any]]:
        """The text as it stands, and the code that is found in it; both against base tests."""
        both: dict[str, Any] = {"use": "code_benchmark"}
        if stop := self.decoding().get("stop"):
            both["stop"] = stop
        return {"paper": {**both, "profile": "paper", "grade_cut": True}, "robust": both}

    def notes(self) -> list[str]:
        """Also: where no answer is begun."""
        own = (
            "the answer is not begun for the models; the fenced block of their answers is taken "
            "(EvalPlus begins it with an opened block)."
        )
        return [*super().notes(), *([] if self.prefill else [own])]

    def extras(self, items: Items) -> dict[str, Any]:
        """`plus`: pass@1 on base and plus tests, in per cent, over `plus_items` items."""
        said = [
            detail["plus"]
            for detail, known in zip(items.details, items.known(), strict=True)
            if known and isinstance(detail.get("plus"), bool)
        ]
        if not self.plus or not said:
            return {}
        return {"plus": round(100 * sum(said) / len(said), 4), "plus_items": len(said)}

    def prompts(self, split: str) -> Iterable[Prompt | UnreadableRow]:
        """The items in the file's order."""
        return numbered(self._each())

    def _each(self) -> Iterator[Prompt | UnreadableRow]:
        path = self.found().get("items")
        for place, row in read_rows(path) if path is not None else ():
            try:
                yield self._prompt(row)
            except ValueError as error:
                yield UnreadableRow(place, str(error))

    def _prompt(self, row: Any) -> Prompt:
        if not isinstance(row, Mapping) or not set(_FIELDS) <= row.keys():
            raise ValueError("row is no task of EvalPlus's release")
        kept = {name: row[name] for name in _FIELDS}
        if self.plus and "plus_input" in row:
            kept["plus_input"] = row["plus_input"] or []
        return Prompt.of(
            self._messages(str(row["prompt"])), domain="all", item=str(row["task_id"]),
            tests=json.dumps({"evalplus": kept}), licence=self.licence,
        )  # fmt: skip

    def _messages(self, problem: str) -> list[dict[str, str]]:
        if self.family == "qwen":
            asked = f"{_QWEN_ASK}\n{FENCE}python\n{problem.strip()}\n\n{FENCE}\n"
            messages = [
                {"role": "system", "content": _QWEN_SYSTEM},
                {"role": "user", "content": asked},
            ]
            begun = f"{FENCE}python\n"
        else:
            asked = f"{_ASK}\n{FENCE}\n{problem.strip()}\n{FENCE}\n"
            messages = [{"role": "user", "content": asked}]
            begun = f"{_BEGUN}\n{FENCE}python\n"
        return [*messages, {"role": "assistant", "content": begun}] if self.prefill else messages
