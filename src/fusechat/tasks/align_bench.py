"""AlignBench v1.1: 683 Chinese questions, rated by a judge along several dimensions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from fusechat.metrics.scoring import Items, group_means
from fusechat.parts import UnreadableRow
from fusechat.records import Prompt, Response
from fusechat.tasks import _chat_rubric as rubric
from fusechat.tasks._benchmark import JudgedBenchmark, Question, Verdict, json_file, numbered
from fusechat.tasks._catalogue import DataFile
from fusechat.tasks._chat_files import prompts_in, text_of

REASONING = ("数学计算", "逻辑推理")
LANGUAGE = ("基本任务", "中文理解", "综合问答", "文本写作", "角色扮演", "专业能力")
"""The categories of the two halves of the score."""
_FREE = ("文本写作", "角色扮演", "综合问答")
_NONE = "none stated"
_HOME = "github.com/THUDM/AlignBench"


def _config(role: str, name: str, sha256: str) -> DataFile:
    folders = ("judge/alignbench_config", "alignbench_config", "AlignBench/config")
    return DataFile(
        role=role, names=(*(f"{folder}/{name}" for folder in folders), name), licence=_NONE,
        home=f"{_HOME}, config/{name}", sha256={sha256: "AlignBench"},
    )  # fmt: skip


_CONFIG = ("kinds", "dimension_set", "definitions")
_DATA = (
    DataFile(
        role="items",
        names=("judge/alignbench_v1.1.jsonl", "alignbench_v1.1.jsonl", "data_v1.1_release.jsonl"),
        licence=_NONE,
        home=f"{_HOME}, data/data_v1.1_release.jsonl",
        sha256={"6ad5cdb2d552d2557aca18d0dcabaf19ff59fd18bef98eef880296c0478bbd11": "v1.1"},
        items=683,
    ),
    _config("kinds", "subcategory_question_mapping.json",
            "429f97d7044a27f329bbdd02ee162b6b3010118389621f71c07bdaaa54f668d2"),
    _config("dimension_set", "dimension_set.json",
            "1024f71c275855896c5980032df0e79a7709be3e10817a539c61f4eb57fd515b"),
    _config("definitions", "dimension_definition.json",
            "0a41c759fc9e55437476b38a9e3803425698693c736d74e318b4448616d80988"),
    DataFile(
        role="judge_prompt",
        names=("judge/alignbench_judge.py", "alignbench_judge.py", "AlignBench/judge.py"),
        licence=_NONE,
        home=f"{_HOME}, judge.py (as alignbench_judge.py; its judge prompt is read, not run)",
        optional=True,
    ),
)  # fmt: skip


class AlignBench(JudgedBenchmark):
    """AlignBench v1.1 (arXiv 2311.18743): Chinese questions, rated along several dimensions."""

    title: ClassVar[str] = "AlignBench v1.1"
    published: ClassVar[str | None] = "AlignBench v1.1"
    scale: ClassVar[float] = rubric.MOST
    data: ClassVar[tuple[DataFile, ...]] = _DATA
    domains: ClassVar[tuple[str, ...]] = (*LANGUAGE, *REASONING)
    judges: ClassVar[tuple[str, ...]] = ("gpt-4", "gpt-4-0613")
    nudge: ClassVar[str] = "请在最后一行按要求的字典格式写出全部分数，其中要有'综合得分'。"

    def missing(self) -> str | None:
        """Also: files of dimensions that do not fit together."""
        if (found := super().missing()) is not None:
            return found
        there = self.found()
        fault = rubric.config_fault({role: there[role] for role in _CONFIG})
        return f"{fault}. Get the files of one version: {_HOME}." if fault else None

    @property
    def differs(self) -> str:  # type: ignore[override]
        """Whose words the judge is asked in, where not in AlignBench's."""
        if self._frame() is not rubric.FRAME:
            return ""
        return (
            "The judge is asked for AlignBench's scores in this project's own words. "
            f"To ask in AlignBench's: {_DATA[-1].home}."
        )

    def notes(self) -> list[str]:
        """What is known of the files, but of the judge's prompt, on which see `differs`."""
        absent = {f.missing(self.data_dir) for f in self.data if f.optional}
        return [note for note in super().notes() if note not in absent]

    def prompts(self, split: str) -> Iterable[Prompt | UnreadableRow]:
        """The questions; `reference` is the reference answer, `domain` the category.

        `checker` is JSON of the judge's dimensions: `{"dimensions": [...]}`.
        """
        there = self.found()
        kinds, sets = json_file(there["kinds"]), json_file(there["dimension_set"])

        def prompt_of(row: Mapping[str, Any]) -> Prompt:
            category, kind = text_of(row, "category"), text_of(row, "subcategory")
            if category not in self.domains:
                raise ValueError(f"no category of AlignBench: {category}")
            if kind not in kinds:
                raise ValueError(f"no kind of question is known for the subcategory {kind}")
            dimensions = json.dumps({"dimensions": sets[kinds[kind]]}, ensure_ascii=False)
            return Prompt.of(
                text_of(row, "question"), domain=category, item=str(row.get("question_id", "")),
                reference=text_of(row, "reference"), checker=dimensions,
            )  # fmt: skip

        return numbered(prompts_in(there["items"], prompt_of))

    def decoding(self) -> dict[str, Any]:
        """4,096 tokens; temperatures go by category."""
        return {"temperature": 0.7, "max_new_tokens": 4096}

    def temperatures(self) -> Mapping[str, float]:
        """0.7 for writing, role play and open questions, 0.1 for all else."""
        return {name: 0.7 if name in _FREE else 0.1 for name in self.domains}

    def judge_decoding(self) -> dict[str, Any]:
        """Greedy; AlignBench sets no limit, and 4,096 tokens leave room for every rubric."""
        return {"temperature": 0.0, "max_new_tokens": 4096}

    def questions(self, prompt: Prompt, response: Response) -> Iterable[Question]:
        """One, with the dimensions of the question's kind and the reference answer."""
        names = json.loads(prompt.checker or "")["dimensions"]
        asked = self._frame().format(
            category=prompt.domain, question=prompt.messages[-1].content,
            dimensions=rubric.dimensions_told(names, json_file(self.found()["definitions"])),
            reference=prompt.reference, answer=response.text,
        )  # fmt: skip
        yield Question([{"role": "user", "content": asked}])

    def reading(self, prompt: Prompt, game: str, answer: Response) -> Any:
        """`{"score": 7.0, "dimensions": {...}}`, of the judge's last dictionary."""
        return rubric.scores_of(answer.text)

    def verdict(self, prompt: Prompt, response: Response, readings: Mapping[str, Any]) -> Verdict:
        """The overall score as a share of 10."""
        return Verdict(float(readings[""]["score"]) / rubric.MOST, readings[""])

    def score(self, items: Items) -> float:
        """Mean of the two halves, each the mean of its categories' means; of those that there
        are."""
        halves = self._halves(group_means(items))
        return sum(halves.values()) / len(halves)

    def extras(self, items: Items) -> dict[str, Any]:
        """Means of the two halves and of each category."""
        means = group_means(items)
        return self._halves(means) | {
            "categories": {name: value * self.scale for name, value in means.items()}
        }

    def _halves(self, means: Mapping[str, float]) -> dict[str, float]:
        halves = {"reasoning": REASONING, "language": LANGUAGE}
        there = {half: [means[n] for n in names if n in means] for half, names in halves.items()}
        return {half: self.scale * sum(v) / len(v) for half, v in there.items() if v}

    def _frame(self) -> str:
        path = self.found().get("judge_prompt")
        return (rubric.frame_in(path) if path else None) or rubric.FRAME
