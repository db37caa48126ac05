"""Files of AlpacaEval: instructions with the baseline's outputs, df_gamed.csv, judge prompt."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fusechat.columns import read_rows
from fusechat.metrics.alpaca_eval import Gamed
from fusechat.records import Response
from fusechat.tasks._catalogue import DataFile

HUB = "tatsu-lab/alpaca_eval"
FIRST, SECOND = "m", "M"
"""What the judge calls the two outputs, in the order in which it is shown them."""
_ODD = "\"'`*. \t\r\n"
"""What may stand around the judge's word."""
_TURN = re.compile(r"<\|im_start\|>(\w+)\s*?\n(.*?)<\|im_end\|>", re.DOTALL)
_PLACES = ("instruction", "output_1", "output_2")
_PLACE = re.compile("|".join(re.escape("{" + name + "}") for name in _PLACES))

DATA = (
    DataFile(
        role="items",
        names=("judge/alpaca_eval_gpt4_baseline.json", "alpaca_eval_gpt4_baseline.json"),
        licence="CC-BY-NC-4.0",
        home=f"alpaca_eval_gpt4_baseline.json of the hub's data set {HUB}",
        sha256={"83db546b872ddebee8965fd05fa48461ee3c32bc695c62fb57f2d214ff741ec4":
                "805 instructions with the outputs of gpt4_1106_preview"},
        items=805,
    ),
    DataFile(
        role="gamed",
        names=("judge/alpaca_eval_df_gamed.csv", "alpaca_eval_df_gamed.csv", "df_gamed.csv"),
        licence="CC-BY-NC-4.0",
        home=f"df_gamed.csv of the hub's data set {HUB}",
        sha256={"97aeec3f1c7de6dee6fd31fe66f1702623f4614c3efe1c6fc5f4927cd5fd674d":
                "AlpacaEval 2.0, length_controlled_v1"},
    ),
    DataFile(
        role="judge_prompt",
        names=("alpaca_eval_clf.txt",
               "evaluators_configs/alpaca_eval_clf_gpt4_turbo/alpaca_eval_clf.txt"),
        licence="Apache-2.0",
        home="evaluators_configs/alpaca_eval_clf_gpt4_turbo/alpaca_eval_clf.txt of the Python "
             "package alpaca_eval (github.com/tatsu-lab/alpaca_eval, pip install alpaca-eval)",
        package=("alpaca_eval", "evaluators_configs/alpaca_eval_clf_gpt4_turbo/"
                                "alpaca_eval_clf.txt"),
        sha256={"784227e6dc2832fc08c43d2c8ea3a308e7523780187a1aaad2f85e30bac85f62":
                "alpaca_eval 0.6.6"},
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Baseline:
    """One row of the baseline's file."""

    index: int
    """Its number, from 0."""
    dataset: str
    instruction: str
    output: str


def baseline_rows(path: Path) -> list[tuple[str, Baseline | str]]:
    """Place and row of each row of the file, or why it is none."""
    return _baseline_rows(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _baseline_rows(path: Path, written: int) -> list[tuple[str, Baseline | str]]:
    found: list[tuple[str, Baseline | str]] = []
    for index, (place, row) in enumerate(read_rows(path)):
        if not isinstance(row, Mapping):
            found.append((place, f"no object: {row}" if isinstance(row, ValueError) else "no row"))
            continue
        asked, said = row.get("instruction"), row.get("output")
        if not isinstance(asked, str) or not asked.strip() or not isinstance(said, str):
            found.append((place, "it has no texts in 'instruction' and 'output'"))
            continue
        found.append((place, Baseline(index, str(row.get("dataset") or "all"), asked, said)))
    return found


def gamed_rows(path: Path) -> Gamed:
    """What df_gamed.csv holds; raises `ValueError` where it is not that."""
    return _gamed_rows(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _gamed_rows(path: Path, written: int) -> Gamed:
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            return Gamed.of(csv.DictReader(handle))
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} is no df_gamed.csv of AlpacaEval 2.0: {error}.") from error


def judge_turns(path: Path) -> list[tuple[str, str]]:
    """Role and text of the turns of the judge's prompt, with places for the texts in it.

    Raises `ValueError` where the file is no such prompt.
    """
    return _judge_turns(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _judge_turns(path: Path, written: int) -> list[tuple[str, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8.") from error
    turns = [(role, said.strip()) for role, said in _TURN.findall(text)]
    if not turns or any(role not in ("system", "user") for role, _ in turns):
        raise ValueError(f"{path} has no turns <|im_start|>system or user ... <|im_end|>.")
    places = [one.strip("{}") for _, said in turns for one in _PLACE.findall(said)]
    if sorted(places) != sorted(_PLACES):
        raise ValueError(f"{path} must name each of {', '.join(_PLACES)} once, in braces.")
    return turns


def filled(turns: Sequence[tuple[str, str]], texts: Mapping[str, str]) -> list[dict[str, str]]:
    """The messages with the texts in their places, whatever braces those hold themselves."""
    return [
        {"role": role, "content": _PLACE.sub(lambda found: texts[found[0].strip("{}")], said)}
        for role, said in turns
    ]


def chance_of_first(answer: Response) -> dict[str, Any] | None:
    """How likely the judge says `m`: `{"first": share in [0, 1], "by": "logprobs" or "text"}`.

    By the log-probabilities of the first token, as shares of `m` and `M` (one that is not among the
    likeliest has none); without those by the text, which must be the one or the other. None where
    it is neither.
    """
    found = json.loads(answer.details) if answer.details else {}
    told = found.get("top_logprobs") if isinstance(found, Mapping) else None
    if isinstance(told, Mapping) and (first := _share(told)) is not None:
        return {"first": first, "by": "logprobs"}
    word = answer.text.strip(_ODD)
    return {"first": float(word == FIRST), "by": "text"} if word in (FIRST, SECOND) else None


def _share(told: Mapping[str, Any]) -> float | None:
    """Of the probability of both words, what the first has; words with white space around count
    only where there is none without."""
    exact = {w: math.exp(v) for w, v in told.items() if w in (FIRST, SECOND)}
    if not exact:
        for word, value in told.items():
            if (bare := word.strip()) in (FIRST, SECOND):
                exact[bare] = exact.get(bare, 0.0) + math.exp(value)
    total = sum(exact.values())
    return exact.get(FIRST, 0.0) / total if total > 0 else None
