"""MT-Bench: 80 conversations of two turns, each answer rated by a judge from 1 to 10."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from fusechat.metrics.scoring import Items, group_means
from fusechat.parts import UnreadableRow
from fusechat.records import Prompt, Response
from fusechat.tasks._benchmark import JudgedBenchmark, Question, Verdict, numbered
from fusechat.tasks._catalogue import DataFile
from fusechat.tasks._chat_files import by_id, prompts_in, template_fault, text_of, turns_of

TEMPERATURES: Mapping[str, float] = {
    "writing": 0.7, "roleplay": 0.7, "reasoning": 0.0, "math": 0.0, "coding": 0.0,
    "extraction": 0.0, "stem": 0.1, "humanities": 0.1,
}  # fmt: skip
"""Category -> temperature of the answers, as in FastChat."""
REFERENCED = ("math", "reasoning", "coding")
"""Categories whose judge sees a reference answer."""
MOST = 10.0
_DOUBLE = re.compile(r"\[\[(\d+\.?\d*)\]\]")
_SINGLE = re.compile(r"\[(\d+\.?\d*)\]")
_HOME = "github.com/lm-sys/FastChat, fastchat/llm_judge/data"
_PAPER, _OLDER = "references", "references_gpt4"
_DATA = (
    DataFile(
        role="items",
        names=("judge/mt_bench_question.jsonl", "mt_bench_question.jsonl",
               "mt_bench/question.jsonl"),
        licence="Apache-2.0",
        home=f"{_HOME}/mt_bench/question.jsonl",
        sha256={"119565adbab82227089cefdb44c8d7e2cf04dc0a0ec233634c82e7d4e2a944f7": "FastChat"},
        items=80,
    ),
    DataFile(
        role="judge_prompts",
        names=("judge/mt_bench_judge_prompts.jsonl", "mt_bench_judge_prompts.jsonl",
               "judge_prompts.jsonl"),
        licence="Apache-2.0",
        home=f"{_HOME}/judge_prompts.jsonl",
        sha256={"fd283293406d024f44c174b094ef48031d0687a4682fd3a56b29b138f80281b6": "FastChat"},
    ),
    DataFile(
        role=_PAPER,
        names=("judge/mt_bench_reference_gpt-4-0125-preview.jsonl",
               "mt_bench_reference_gpt-4-0125-preview.jsonl",
               "mt_bench/reference_answer/gpt-4-0125-preview.jsonl",
               "reference_answer/gpt-4-0125-preview.jsonl"),
        licence="none stated (answers of GPT-4)",
        home="github.com/SLIT-AI/FuseChat-3.0, FuseEval/IF-Eval/MT-Bench/data",
        sha256={"e484037da5cc14007dde1d821ef76046fccbd0b2f095237fad9ead2c4fc66800": "FuseEval"},
        optional=True,
    ),
    DataFile(
        role=_OLDER,
        names=("judge/mt_bench_reference_gpt-4.jsonl", "mt_bench_reference_gpt-4.jsonl",
               "mt_bench/reference_answer/gpt-4.jsonl"),
        licence="Apache-2.0",
        home=f"{_HOME}/mt_bench/reference_answer/gpt-4.jsonl",
        sha256={"f957a5bc977badb66885ec970e6cd08527845780313f0995764260e5777b9b3f": "FastChat"},
        optional=True,
    ),
)  # fmt: skip


class MTBench(JudgedBenchmark):
    """MT-Bench (arXiv 2306.05685): 80 conversations of two turns, rated by a judge."""

    title: ClassVar[str] = "MT-Bench"
    published: ClassVar[str | None] = "MT-Bench"
    scale: ClassVar[float] = MOST
    turns: ClassVar[int] = 2
    data: ClassVar[tuple[DataFile, ...]] = _DATA
    domains: ClassVar[tuple[str, ...]] = tuple(TEMPERATURES)
    judges: ClassVar[tuple[str, ...]] = ("gpt-4-0125-preview",)
    nudge: ClassVar[str] = 'Finish with the rating, strictly in this format: "Rating: [[5]]".'

    def missing(self) -> str | None:
        """Also: no reference answers at all, or judge prompts that cannot be used."""
        if (found := super().missing()) is not None:
            return found
        there = self.found()
        if _PAPER not in there and _OLDER not in there:
            return _DATA[2].missing(self.data_dir)
        return _prompts_fault(there["judge_prompts"])

    def notes(self) -> list[str]:
        """Also: whose reference answers are used, where not all are those of the paper's judge."""
        absent = {f.missing(self.data_dir) for f in self.data if f.optional}
        told = [note for note in super().notes() if note not in absent]
        there = self.found()
        first = by_id(there[_PAPER], "question_id") if _PAPER in there else {}
        older = by_id(there[_OLDER], "question_id") if _OLDER in there else {}
        if borrowed := sorted(set(older) - set(first), key=lambda name: (len(name), name)):
            whose = "all" if not first else ", ".join(borrowed)
            told.append(
                "Reference answers are gpt-4's, where the paper's judge had those of "
                f"gpt-4-0125-preview: {whose}."
            )
        return told

    def prompts(self, split: str) -> Iterable[Prompt | UnreadableRow]:
        """The first questions; `turns` is the second, `domain` the category.

        `reference` is JSON of the reference answers of both turns, where the category has them:
        `{"turns": [..., ...], "by": ...}`.
        """
        there = self.found()
        references = {
            role: by_id(there[role], "question_id") for role in (_PAPER, _OLDER) if role in there
        }

        def prompt_of(row: Mapping[str, Any]) -> Prompt:
            category = text_of(row, "category")
            if category not in TEMPERATURES:
                raise ValueError(f"no category of MT-Bench: {category}")
            turns = row.get("turns")
            if not isinstance(turns, list) or len(turns) != 2:
                raise ValueError("it has not two turns")
            name = str(row.get("question_id", ""))
            reference = _reference(references.values(), name) if category in REFERENCED else None
            return Prompt.of(
                str(turns[0]), domain=category, item=name, turns=(str(turns[1]),),
                reference=reference, licence="Apache-2.0",
            )  # fmt: skip

        return numbered(prompts_in(there["items"], prompt_of))

    def decoding(self) -> dict[str, Any]:
        """4,096 tokens; temperatures go by category."""
        return {"temperature": 0.7, "max_new_tokens": 4096}

    def temperatures(self) -> Mapping[str, float]:
        """From 0 (math) to 0.7 (writing)."""
        return TEMPERATURES

    def questions(self, prompt: Prompt, response: Response) -> Iterable[Question]:
        """One: the first answer alone, or both with the second one to be rated."""
        asked = [m.content for m in prompt.messages if m.role == "user"]
        answers = [m.content for m in prompt.messages if m.role == "assistant"] + [response.text]
        texts = {"question": asked[0], "answer": answers[0]}
        texts |= {f"question_{n}": text for n, text in enumerate(asked, 1)}
        texts |= {f"answer_{n}": text for n, text in enumerate(answers, 1)}
        if prompt.reference is not None:
            turns = json.loads(prompt.reference)["turns"]
            texts |= {f"ref_answer_{n}": text for n, text in enumerate(turns, 1)}
        name = _prompt_name(prompt.reference is not None, len(asked))
        template = by_id(self.found()["judge_prompts"], "name")[name]
        yield Question(
            [
                {"role": "system", "content": template["system_prompt"]},
                {"role": "user", "content": template["prompt_template"].format(**texts)},
            ]
        )

    def reading(self, prompt: Prompt, game: str, answer: Response) -> Any:
        """`{"rating": 7}`: the first `[[x]]`, or else the first `[x]`; None above 10."""
        rating = rating_of(answer.text)
        return None if rating is None else {"rating": rating}

    def verdict(self, prompt: Prompt, response: Response, readings: Mapping[str, Any]) -> Verdict:
        """The rating as a share of 10."""
        rating = float(readings[""]["rating"])
        turn = sum(m.role == "user" for m in prompt.messages)
        return Verdict(rating / MOST, {"rating": rating, "turn": turn})

    def extras(self, items: Items) -> dict[str, Any]:
        """Means of each turn and of each category (over both turns)."""
        second = [name.endswith("#2") for name in items.names]
        told = {}
        for turn in (1, 2):
            at = [place for place, is_second in enumerate(second) if is_second == (turn == 2)]
            values = items.values[at]
            known = values[items.known()[at]]
            told[f"turn_{turn}"] = float(known.mean() * MOST) if len(known) else None
        means = {name: value * MOST for name, value in group_means(items).items()}
        return told | {"categories": means}


def rating_of(judgment: str) -> float | None:
    """The rating in a judgment, of 0 to 10; None where there is none."""
    found = _DOUBLE.search(judgment) or _SINGLE.search(judgment)
    rating = float(found[1]) if found else None
    return rating if rating is not None and rating <= MOST else None


def _prompt_name(referenced: bool, turns: int) -> str:
    return f"single-{'math-' if referenced else ''}v1{'-multi-turn' if turns > 1 else ''}"


def _reference(sources: Iterable[Mapping[str, Mapping[str, Any]]], name: str) -> str:
    for rows in sources:
        turns = turns_of(rows.get(name, {}))
        if len(turns) >= 2:
            by = rows[name].get("model_id") or rows[name].get("model")
            return json.dumps({"turns": turns[:2], "by": by}, ensure_ascii=False)
    raise ValueError(f"no reference answer to question {name}")


def _prompts_fault(path: Path) -> str | None:
    """Why the four judge prompts cannot be used; None where they can."""
    there = by_id(path, "name")
    for referenced in (False, True):
        for turns in (1, 2):
            name = _prompt_name(referenced, turns)
            numbers = range(1, turns + 1)
            needed = {f"answer_{n}" for n in numbers} | {f"question_{n}" for n in numbers}
            needed = {"question", "answer"} if turns == 1 else needed
            allowed = needed | ({"ref_answer_1", "ref_answer_2"} if referenced else set())
            template = there.get(name, {}).get("prompt_template")
            fault = template_fault(template, needed, allowed)
            if fault or not isinstance(there[name].get("system_prompt"), str):
                told = fault or "it has no system_prompt"
                return f"{path.name}: the judge prompt {name}: {told}. Get it: {_DATA[1].home}."
    return None
