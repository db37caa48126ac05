"""AlpacaEval 2.0: 805 instructions, each response judged against gpt4_1106_preview's."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from fusechat.errors import FusechatError
from fusechat.metrics import agreement as agree
from fusechat.metrics import alpaca_eval as lc
from fusechat.metrics.scoring import Items
from fusechat.parts import UnreadableRow
from fusechat.records import Prompt, Response
from fusechat.settings import ContentPath, package_fault
from fusechat.tasks import _alpaca_files as files
from fusechat.tasks import _alpaca_judgments as judgments
from fusechat.tasks._benchmark import Family, JudgedBenchmark, Question, Verdict, numbered
from fusechat.tasks._catalogue import DataFile

BASELINE = "gpt4_1106_preview"
_DECODING: Mapping[Family, dict[str, Any]] = {
    "llama": {"temperature": 0.6, "top_p": 0.9, "presence_penalty": 0.1, "frequency_penalty": 0.1},
    "qwen": {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05},
    "gemma": {"temperature": 0.5, "top_p": 1.0},
}
_PLACES: dict[str | None, dict[str, Path]] = {}
"""Folder -> its files by role, of this process."""
_BEHIND, _BEFORE = "1", "2"
"""Games: where the response stands, behind or before the baseline's."""


class AlpacaEval2(JudgedBenchmark):
    """AlpacaEval 2.0 (arXiv 2404.04475): length-controlled win rate against gpt4_1106_preview.

    A value is the judge's preference for the response: the share of its answer's probability. The
    places of the two answers are drawn for each instruction, as AlpacaEval draws them.
    """

    title: ClassVar[str] = "AlpacaEval-2 (LC)"
    published: ClassVar[str | None] = "AlpacaEval-2"
    data: ClassVar[tuple[DataFile, ...]] = files.DATA
    judges: ClassVar[tuple[str, ...]] = ("gpt-4-1106-preview",)
    differs: ClassVar[str] = (
        "Prompts go through each model's own chat template; the paper's has no dates for Llama 3."
    )
    nudge: ClassVar[str] = "Answer with nothing but m or M."

    repeats: int = Field(default=1, ge=1)
    """Responses to each instruction, each from a seed of its own; their mean counts."""
    judged_before: ContentPath | None = None
    """Published judgments (AlpacaEval's `annotations.json`) of a model whose outputs are among the
    models' responses, read as a `given` source: its row then says how the two judges agree."""

    def missing(self) -> str | None:
        """Also: files that cannot be used, and scikit-learn."""
        if (found := super().missing()) is not None:
            return found
        there = self.found()
        try:
            files.judge_turns(there["judge_prompt"])
            files.gamed_rows(there["gamed"])
        except ValueError as error:
            return str(error)
        return package_fault("sklearn", "evaluate")

    def faults(self) -> Iterator[tuple[str, str]]:
        """Also: published judgments that cannot be read."""
        yield from super().faults()
        if self.judged_before is not None and Path(self.judged_before).exists():
            try:
                judgments.preferences(Path(self.judged_before))
            except FusechatError as error:
                yield "judged_before", str(error)

    def prompts(self, split: str) -> Iterable[Prompt | UnreadableRow]:
        """The instructions; `reference` is the baseline's output, `item` the row's number from 0,
        `domain` the set that AlpacaEval took it from."""
        there = self.found()
        return numbered(_prompts(there["items"], there["gamed"]))

    def decoding(self) -> dict[str, Any]:
        """The family's own sampling, 4,096 tokens."""
        return {**_DECODING[self.family], "max_new_tokens": 4096}

    def samples(self) -> int:
        """As `repeats` says."""
        return self.repeats

    def judge_decoding(self) -> dict[str, Any]:
        """One token, with the five likeliest ones; its draw matters only without those."""
        return {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 1, "top_logprobs": 5}

    def questions(self, prompt: Prompt, response: Response) -> Iterable[Question]:
        """One question, in the order drawn for this instruction."""
        asked, baseline = prompt.messages[-1].content, prompt.reference or ""
        before = swapped(asked)
        pair = (response.text, baseline) if before else (baseline, response.text)
        texts = {"instruction": asked, "output_1": pair[0], "output_2": pair[1]}
        turns = files.judge_turns(self._there()["judge_prompt"])
        yield Question(files.filled(turns, texts), _BEFORE if before else _BEHIND)

    def reading(self, prompt: Prompt, game: str, answer: Response) -> Any:
        """`{"first": how likely the answer shown first is preferred, "by": "logprobs" or "text"}`;
        None where the judge names neither."""
        return None if answer.finish == "error" else files.chance_of_first(answer)

    def verdict(self, prompt: Prompt, response: Response, readings: Mapping[str, Any]) -> Verdict:
        """The preference for the response, in [0, 1]."""
        ((game, reading),) = readings.items()
        first = float(reading["first"])
        value = first if game == _BEFORE else 1.0 - first
        kept = {"preference": 1.0 + value, "by": reading["by"], "shown_first": game == _BEFORE}
        if self.judged_before is not None:
            told = judgments.preferences(Path(self.judged_before))
            asked = prompt.messages[-1].content
            if (other := told.get((asked, response.text.strip()))) is not None:
                kept["published"] = 1.0 + other
        return Verdict(value, kept)

    def score(self, items: Items) -> float:
        """The length-controlled win rate, in per cent.

        Of a resample (items more than once) with the usual strength of the penalty, which is not
        chosen anew: 4 ms instead of 0.1 s, and 0.06 points away at most.
        """
        again = len(set(items.names)) < len(items)
        return self._fitted(items, lc.USUAL if again else None).length_controlled

    def extras(self, items: Items) -> dict[str, Any]:
        """Win rate without control, its standard error, wins, how the judge was read, and how it
        agrees with published judgments of these very responses."""
        known = items.known()
        if not known.any():
            return {}
        told = lc.plain(items.values[known])
        fitted = self._fitted(items, None)
        read = [details.get("by") for details in items.details]
        return {
            "win_rate": told.win_rate, "standard_error": told.standard_error, "wins": told.wins,
            "losses": told.losses, "draws": told.draws, "discrete_win_rate": told.discrete,
            "weights": dict(zip(("length", "difficulty", "model"), fitted.weights, strict=True)),
            "read_from_text": read.count("text"), "read_from_logprobs": read.count("logprobs"),
            **_agreement(items),
        }  # fmt: skip

    def _there(self) -> dict[str, Path]:
        """As `found`, looked for once: a large folder is not searched for every item."""
        known = _PLACES.get(self.data_dir, {})
        if not known or not all(path.exists() for path in known.values()):
            known = _PLACES[self.data_dir] = self.found()
        return known

    def _fitted(self, items: Items, strength: float | None) -> lc.WinRate:
        """Raises `ValueError` where an item is none of the files."""
        there = self._there()
        gamed = files.gamed_rows(there["gamed"])
        rows = _numbers(there["items"], there["gamed"], there["items"].stat().st_mtime_ns)
        known = np.flatnonzero(items.known())
        if lacking := [items.names[i] for i in known if items.names[i] not in rows]:
            raise ValueError(f"{len(lacking)} items are none of {there['items'].name}")
        found = [rows[items.names[i]] for i in known]
        shorter_by = np.array([length for _, length in found]) - items.characters[known]
        difficulty = [gamed.of_instruction[index] for index, _ in found]
        return lc.length_controlled(items.values[known], shorter_by, difficulty, gamed, strength)


def _agreement(items: Items) -> dict[str, Any]:
    before = [details.get("published", math.nan) - 1.0 for details in items.details]
    if not any(map(math.isfinite, before)):
        return {}
    return {"agreement_with_published": agree.told(items.values.tolist(), before)}


def _prompts(items: Path, gamed: Path) -> Iterator[Prompt | UnreadableRow]:
    known = files.gamed_rows(gamed).of_instruction
    for place, row in files.baseline_rows(items):
        if isinstance(row, str):
            yield UnreadableRow(place, row)
        elif row.index not in known:
            yield UnreadableRow(place, f"{gamed.name} has no row of number {row.index}")
        else:
            yield Prompt.of(
                row.instruction, domain=row.dataset, item=str(row.index), reference=row.output,
                licence="CC-BY-NC-4.0",
            )  # fmt: skip


@lru_cache(maxsize=4)
def _numbers(items: Path, gamed: Path, written: int) -> dict[str, tuple[int, int]]:
    """Prompt id -> number of the instruction, and characters of the baseline's output."""
    rows = [row for row in numbered(_prompts(items, gamed)) if isinstance(row, Prompt)]
    return {row.id: (int(row.item or 0), len(row.reference or "")) for row in rows}


def swapped(instruction: str) -> bool:
    """Whether the model's output is shown before the baseline's, as AlpacaEval draws it (with
    Python's generator, from this very text and seed 0)."""
    drawn = random.Random(f"is_switched_outputs{instruction}0")
    return drawn.choices([False, True], k=1)[0]
