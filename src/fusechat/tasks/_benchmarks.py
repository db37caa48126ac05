"""The benchmarks that are known by name: where they are published, and which columns hold texts.

Only their texts are read here, to keep them out of the training rows. Files of the same
benchmark that others re-published have other columns; a name is looked for in all of those.
Where a benchmark's files are is said in its task's `data` (`_data_files.py` lists them all); its
hub id is taken from there where the whole set can be loaded by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusechat.columns import lookup, read_rows
from fusechat.errors import MissingExtraError
from fusechat.metrics.contamination import Item
from fusechat.tasks._data_files import hub_id

QUESTIONS = ("turns", "question", "problem", "prompt", "instruction", "text", "question_content",
             "Question", "question_stem", "query")  # fmt: skip
"""Columns of questions; the first that a row has is read."""
ANSWERS = ("solution", "reference_solution", "canonical_solution", "code", "completion",
           "reference", "answer", "Explanation", "ground_truth")  # fmt: skip
"""Columns of answers and solutions; all that a row has are read."""
NAMES = ("task_id", "question_id", "id", "uid", "key", "unique_id", "idx", "problem_id")
"""Columns of an item's name."""
EVERY = "*"
"""As a configuration: all of them, one after the other (57 subjects of MMLU-Redux)."""
FILES = (".jsonl", ".json", ".parquet", ".jsonl.gz", ".json.gz", ".ndjson")


@dataclass(frozen=True)
class Published:
    """Where a benchmark's publisher put it on the hub, and what part of it is evaluated."""

    path: str | None
    """Data set id; None where the publisher has it elsewhere only."""
    name: str | None = None
    """The configuration, where there are several."""
    split: str = "test"
    home: str = ""
    """Where else it is published."""


CATALOGUE: Mapping[str, Published] = {
    "alpaca_eval": Published(None, home="hub: tatsu-lab/alpaca_eval, alpaca_eval.json"),
    "arena_hard": Published(None, home="hub: lmarena-ai/arena-hard-auto, "
                            "data/arena-hard-v0.1/question.jsonl"),
    "mt_bench": Published("HuggingFaceH4/mt_bench_prompts", None, "train",
                          "github.com/lm-sys/FastChat, fastchat/llm_judge/data"),
    "alignbench": Published(None, home="github.com/THUDM/AlignBench"),
    "livebench_reasoning": Published(hub_id("live_bench", "reasoning")),
    "livebench_math": Published(hub_id("live_bench", "math")),
    "livebench_coding": Published(hub_id("live_bench", "coding")),
    "livebench_language": Published(hub_id("live_bench", "language")),
    "livebench_data_analysis": Published(hub_id("live_bench", "data_analysis")),
    "livebench_instruction_following": Published(
        hub_id("live_bench", "instruction_following")
    ),
    "gsm8k": Published("openai/gsm8k", "main"),
    "math": Published(None, home="github.com/hendrycks/math"),
    "math_500": Published("HuggingFaceH4/MATH-500"),
    "amc23": Published("math-ai/amc23"),
    "mmlu_pro": Published(hub_id("mmlu_pro")),
    "mmlu_redux": Published(hub_id("mmlu_redux"), EVERY),
    "gpqa_diamond": Published("Idavidrein/gpqa", "gpqa_diamond", "train"),
    "humaneval": Published("openai/openai_humaneval"),
    "mbpp": Published("google-research-datasets/mbpp", "full"),
    "livecodebench": Published(None, home="hub: livecodebench/code_generation_lite, test*.jsonl"),
    "ifeval": Published("google/IFEval", None, "train"),
}  # fmt: skip
"""The 14 benchmarks of FuseChat-3.0 (LiveBench in its parts), MATH-500, and IFEval.

AlpacaEval and LiveCodeBench are loading scripts on the hub, which datasets 4 refuses, and
Arena-Hard is an archive of files of unlike columns: their question files are to be fetched.
"""


def read_items(
    benchmark: str, path: str, name: str | None, split: str, revision: str | None
) -> Iterator[Item | str]:
    """The items of a benchmark from a file, a folder of files, or the hub.

    A row without any text comes as its place.
    """
    for place, row in _rows(path, name, split, revision):
        questions = _texts(next(_found(row, QUESTIONS), None))
        answers = [text for value in _found(row, ANSWERS) for text in _texts(value)]
        own = next((str(value) for value in _found(row, NAMES)), place)
        if questions:
            yield Item(benchmark, own, tuple(questions), tuple(answers))
        else:
            yield place


def _rows(
    path: str, name: str | None, split: str, revision: str | None
) -> Iterator[tuple[str, Any]]:
    here = Path(path)
    if here.is_dir():
        for file in sorted(here.rglob("*")):
            if file.name.endswith(FILES):
                yield from read_rows(file)
    elif here.exists():
        yield from read_rows(here)
    else:
        try:
            from datasets import get_dataset_config_names, load_dataset
        except ImportError as error:
            raise MissingExtraError("decontaminate", "datasets", "hub") from error
        names = get_dataset_config_names(path, revision=revision) if name == EVERY else [name]
        for one in names:
            label = f"{path}/{one}" if name == EVERY else path
            for number, row in enumerate(load_dataset(path, one, split=split, revision=revision)):
                yield f"{label}:{split}[{number}]", row


def _found(row: Any, columns: tuple[str, ...]) -> Iterator[Any]:
    if isinstance(row, Mapping):
        yield from (value for name in columns if (value := lookup(row, name)) is not None)


def _texts(value: Any) -> list[str]:
    """The texts in a value: a text, a list of texts, or messages."""
    if isinstance(value, str):
        return [value] if value.strip() else []
    if isinstance(value, Mapping):
        return _texts(value.get("content"))
    return [text for one in value for text in _texts(one)] if isinstance(value, list) else []
