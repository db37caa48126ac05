"""Arena-Hard v0.1: 500 hard prompts, each response judged against gpt-4-0314's in two games."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import yaml

from fusechat.metrics import bradley_terry as bt
from fusechat.metrics.scoring import Items
from fusechat.parts import UnreadableRow
from fusechat.records import Prompt, Response
from fusechat.tasks import _chat_battles as games
from fusechat.tasks._benchmark import JudgedBenchmark, Question, Verdict, numbered
from fusechat.tasks._catalogue import DataFile
from fusechat.tasks._chat_files import answer_texts, prompts_in, template_fault, text_of

BASELINE = "gpt-4-0314"
_HOME = "github.com/lmarena/arena-hard-auto"
_NEEDED = {"question_1", "answer_1", "answer_2"}
_NAMED = {"QUESTION": "question_1", "ANSWER_A": "answer_1", "ANSWER_B": "answer_2"}
"""Places of a judge prompt in its later layout -> in its first."""
_DATA = (
    DataFile(
        role="items",
        names=("judge/arena_hard_v0.1_question.jsonl", "arena_hard_v0.1_question.jsonl",
               "arena-hard-v0.1/question.jsonl", "arena_hard_question.jsonl",
               "arena_hard_v0.1_question.parquet"),
        licence="Apache-2.0",
        home=f"{_HOME}, data/arena-hard-v0.1/question.jsonl",
        hub=("lmarena-ai/arena-hard-auto-v0.1", "data/train-00000-of-00001.parquet"),
        revision="2a69efe86cff85c593cfd4c2b4491c128e52c6f1",
        sha256={"2650242d2883f22b2abd498f273b6a7e02253cce533f5c91a858e1d44aa3002f":
                "arena-hard-auto, columns uid and prompt"},
        items=500,
    ),
    DataFile(
        role="baseline",
        names=(f"judge/arena_hard_v0.1_answer_{BASELINE}.jsonl",
               f"arena_hard_v0.1_answer_{BASELINE}.jsonl",
               f"arena-hard-v0.1/model_answer/{BASELINE}.jsonl"),
        licence="Apache-2.0",
        home=f"{_HOME}, data/arena-hard-v0.1/model_answer/{BASELINE}.jsonl",
        sha256={"0f6abc84de4600fde987d9db70f838f4ecdbd27a2f1f4058c12aa322a6f791b2":
                "arena-hard-auto, columns uid and messages"},
    ),
    DataFile(
        role="judge_prompt",
        names=("arena_hard_judge_config.yaml", "arena_hard_judge_prompt.json",
               "arena-hard-v0.1/judge_config.yaml", "Arena-Hard/config/judge_config.yaml",
               "judge_config.yaml"),
        licence="Apache-2.0",
        home=f"{_HOME}, config/judge_config.yaml of v0.1 (it has system_prompt and "
             "prompt_template)",
    ),
)  # fmt: skip


class ArenaHard(JudgedBenchmark):
    """Arena-Hard v0.1 (arXiv 2406.11939): win rate against gpt-4-0314 on 500 hard prompts."""

    title: ClassVar[str] = "Arena-Hard"
    published: ClassVar[str | None] = "Arena-Hard"
    data: ClassVar[tuple[DataFile, ...]] = _DATA
    judges: ClassVar[tuple[str, ...]] = ("gpt-4-1106-preview",)
    nudge: ClassVar[str] = "continue your judgment and finish by outputting a final verdict label"

    def missing(self) -> str | None:
        """Also: a judge prompt that cannot be used."""
        if (found := super().missing()) is not None:
            return found
        path = self.found()["judge_prompt"]
        judge = judge_prompt(path)
        if not isinstance(judge, str):
            return None
        return f"{path.name} holds no judge prompt of Arena-Hard v0.1: {judge}. {_DATA[2].home}."

    def prompts(self, split: str) -> Iterable[Prompt | UnreadableRow]:
        """The questions; `reference` is the baseline's answer, `item` the publisher's id."""
        there = self.found()
        answers = answer_texts(there["baseline"])

        def prompt_of(row: Mapping[str, Any]) -> Prompt:
            name = str(row.get("uid") or row.get("question_id") or "")
            if not name:
                raise ValueError("it has neither 'uid' nor 'question_id'")
            if name not in answers:
                raise ValueError(f"{there['baseline'].name} has no answer to {name}")
            return Prompt.of(
                _question(row), domain="all", item=name, reference=answers[name],
                licence="Apache-2.0",
            )  # fmt: skip

        return numbered(prompts_in(there["items"], prompt_of))

    def decoding(self) -> dict[str, Any]:
        """Greedy, 4,096 tokens."""
        return {"temperature": 0.0, "max_new_tokens": 4096}

    def judge_decoding(self) -> dict[str, Any]:
        """Greedy, 4,096 tokens."""
        return {"temperature": 0.0, "max_new_tokens": 4096}

    def questions(self, prompt: Prompt, response: Response) -> Iterable[Question]:
        """Two games: the baseline's answer in place A, then in place B."""
        judge = judge_prompt(self.found()["judge_prompt"])
        if isinstance(judge, str):
            raise ValueError(judge)
        for game, (first, second) in {
            "1": (prompt.reference or "", response.text),
            "2": (response.text, prompt.reference or ""),
        }.items():
            asked = judge["template"].format(
                question_1=prompt.messages[-1].content, answer_1=first, answer_2=second
            )
            messages = [{"role": "system", "content": judge["system"]}] if judge["system"] else []
            yield Question([*messages, {"role": "user", "content": asked}], game)

    def reading(self, prompt: Prompt, game: str, answer: Response) -> Any:
        """`{"verdict": "A>B"}`; None where there is no label, or more than one."""
        label = games.label_of(answer.text)
        return None if label is None else {"verdict": label}

    def verdict(self, prompt: Prompt, response: Response, readings: Mapping[str, Any]) -> Verdict:
        """The weighted share of the two games that the response won."""
        labels = {game: str(reading["verdict"]) for game, reading in readings.items()}
        played = {game: games.battle(label, second=game == "1") for game, label in labels.items()}
        won = bt.win_rate([b.share for b in played.values()], [b.weight for b in played.values()])
        style = {
            "response": games.style_counts(response.text),
            "baseline": games.style_counts(prompt.reference or ""),
        }
        words = {game: one.word for game, one in played.items()}
        weight = sum(one.weight for one in played.values())
        kept = {"verdicts": labels, "found": words, "won": won, "weight": weight, "style": style}
        return Verdict(won, kept)

    def score(self, items: Items) -> float:
        """Bradley-Terry win rate against the baseline, in per cent."""
        known = items.known()
        weights = np.array([float(d.get("weight", 2)) for d in items.details])
        return 100 * bt.win_rate(items.values[known], weights[known])

    def extras(self, items: Items) -> dict[str, Any]:
        """Interval over resampled battles, style-controlled win rate, games by their end."""
        pairs, styles = _battles(items)
        battles = [one for pair in pairs for one in pair]
        if not battles:
            return {}
        shares, weights = [b.share for b in battles], [b.weight for b in battles]
        found = bt.interval(shares, weights)
        model = [style["response"] for style in styles for _ in range(2)]
        baseline = [style["baseline"] for style in styles for _ in range(2)]
        return {
            "interval_of_battles": [100 * found.low, 100 * found.high],
            "style_controlled": games.style_told(battles, model, baseline, "characters"),
            "games": games.told(battles),
            "games_disagree": games.disagreeing(pairs),
        }


def judge_prompt(path: Path) -> dict[str, str] | str:
    """`system` and `template` of a judge's settings file (YAML or JSON), or why there are none."""
    return _judge_prompt(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _judge_prompt(path: Path, written: int) -> dict[str, str] | str:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        return f"it is no YAML ({str(error).splitlines()[0]})"
    if not isinstance(found, Mapping) or not {"system_prompt", "prompt_template"} <= set(found):
        return "it has no 'system_prompt' and 'prompt_template'"
    if (bench := found.get("bench_name", "arena-hard-v0.1")) != "arena-hard-v0.1":
        return f"its bench_name is {bench}"
    given = found["prompt_template"]
    template = given[0] if isinstance(given, list) and len(given) == 1 else given
    if isinstance(template, str):
        for later, first in _NAMED.items():
            template = template.replace("{" + later + "}", "{" + first + "}")
    if fault := template_fault(template, _NEEDED, _NEEDED):
        return f"its prompt_template: {fault}"
    return {"system": str(found["system_prompt"] or ""), "template": str(template)}


def _question(row: Mapping[str, Any]) -> str:
    turns = row.get("turns")
    if isinstance(turns, list) and turns and isinstance(turns[0], Mapping):
        return text_of(turns[0], "content")
    return text_of(row, "prompt")


def _battles(
    items: Items,
) -> tuple[list[tuple[games.Battle, games.Battle]], list[Mapping[str, Any]]]:
    """The two games of each item that has them, and the styles of its two responses."""
    pairs, styles = [], []
    for known, details in zip(items.known().tolist(), items.details, strict=True):
        labels = details.get("verdicts")
        if not known or not isinstance(labels, Mapping) or set(labels) != {"1", "2"}:
            continue
        first, second = games.battle(labels["1"], True), games.battle(labels["2"], False)
        pairs.append((first, second))
        styles.append(details["style"])
    return pairs, styles
