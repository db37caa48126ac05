"""What the three benchmarks of mathematics have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

from fusechat.columns import read_rows
from fusechat.parts import UnreadableRow
from fusechat.records import Prompt
from fusechat.tasks._benchmark import Benchmark, Profile, numbered

INSTRUCTION = "Please reason step by step, and put your final answer within \\boxed{}."
"""In FuseChat-3.0's evaluation a system message for Llama and Qwen; Gemma has none, and there it
stands behind the question."""


class MathBenchmark(Benchmark):
    """Base: zero-shot, a chain of thought and one boxed answer, greedy, at most 2,048 tokens.

    Both profiles read the same answers: `paper` by FuseChat-3.0's grader (`fuse_eval_math`),
    `robust` by math-verify (`math_answer`).
    """

    grader_settings: ClassVar[Mapping[str, Any]] = {}
    """Settings of the robust grader."""

    def graders(self) -> dict[Profile, dict[str, Any]]:
        """FuseChat-3.0's grader, which reads cut answers, too, and math-verify's."""
        return {
            "paper": {"use": "fuse_eval_math", "grade_cut": True},
            "robust": {"use": "math_answer", **self.grader_settings},
        }

    def decoding(self) -> dict[str, Any]:
        """Greedy, at most 2,048 tokens."""
        return {"temperature": 0.0, "top_p": 1.0, "max_new_tokens": 2048}

    def _prompts(self, read: Callable[[Mapping[str, Any]], Prompt]) -> Iterator[Any]:
        """A prompt of every row of the items' file, or why there is none."""
        return numbered(self._each(read))

    def _each(
        self, read: Callable[[Mapping[str, Any]], Prompt]
    ) -> Iterable[Prompt | UnreadableRow]:
        for place, row in read_rows(self.found()["items"]):
            try:
                if not isinstance(row, Mapping):
                    raise ValueError("row is not an object")
                yield read(row)
            except (KeyError, ValueError) as error:
                reason = f"no {error.args[0]}" if isinstance(error, KeyError) else str(error)
                yield UnreadableRow(place, reason)

    def _prompt(self, question: Any, answer: str, domain: str, item: str) -> Prompt:
        if not isinstance(question, str) or not question.strip():
            raise ValueError("no question")
        if not answer.strip():
            raise ValueError("no gold answer")
        messages = [
            {"role": "system", "content": INSTRUCTION},
            {"role": "user", "content": question.strip()},
        ]
        if self.family == "gemma":
            messages = [{"role": "user", "content": f"{question.strip()}\n{INSTRUCTION}"}]
        return Prompt.of(messages, domain=domain, answer=answer, item=item)


def last_boxed(solution: str) -> str:
    """What stands in the last `\\boxed{...}` of a solution; empty without one."""
    begin = solution.rfind("\\boxed{")
    depth, start = 0, begin + len("\\boxed")
    for at in range(start, len(solution) if begin >= 0 else start):
        depth += {"{": 1, "}": -1}.get(solution[at], 0)
        if not depth:
            return solution[start + 1 : at].strip()
    return ""
