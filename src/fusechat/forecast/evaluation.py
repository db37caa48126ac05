"""What the published benchmarks of a plan would take: requests, tokens, and what judging costs.

Nothing is measured for this. Tokens are estimated from characters, the length of answers that are
not there yet and of judgments is assumed, and both are said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fusechat.budget import price_of
from fusechat.planner import Plan
from fusechat.recipe import Cluster
from fusechat.records import Prompt, Response
from fusechat.settings import Price
from fusechat.stages.benchmark_units import JUDGE
from fusechat.tables import count_rows
from fusechat.tasks._benchmark import Benchmark, JudgedBenchmark

CHARACTERS_A_TOKEN = 4.0
ANSWER_TOKENS = 500
"""Assumed of an answer that is not there yet."""
JUDGMENT_TOKENS = 400
"""Assumed of a judgment that is not bounded more tightly."""
LOOKED_AT = 50
"""Prompts of a benchmark from which lengths are taken."""


@dataclass(frozen=True)
class EvaluationLine:
    """One benchmark's answers, or its judgments, over all models."""

    what: str
    """`mt_bench`, or `judge of mt_bench`."""
    requests: int
    to_do: int
    prompt_tokens: float
    """Of the requests that are to do, as `response_tokens`."""
    response_tokens: float
    cost: float | None
    """Where the cluster file has a price; else None."""

    def told(self) -> str:
        """A line for a terminal."""
        if not self.to_do:
            return f"{self.what}: {self.requests:,} requests, all done"
        tokens = f"about {self.prompt_tokens:,.0f} tokens in, {self.response_tokens:,.0f} out"
        cost = "" if self.cost is None else f", cost {self.cost:,.4g}"
        return f"{self.what}: {self.to_do:,} of {self.requests:,} requests to do, {tokens}{cost}"

    def as_json(self) -> dict[str, Any]:
        """For a program to read."""
        return asdict(self)


def evaluation_lines(plan: Plan, cluster: Cluster) -> tuple[EvaluationLine, ...]:
    """What every benchmark that is not skipped would take."""
    said = next((u.settings for u in plan.units if u.kind == "compare"), None) or {}
    lines: list[EvaluationLine] = []
    for name, row in said.get("benchmarks", {}).items():
        if row["skipped"] is None:
            lines += _lines(plan, cluster, name, row["part"], row["take"])
    return tuple(lines)


def _lines(
    plan: Plan, cluster: Cluster, name: str, task: Benchmark, take: int | None
) -> Iterator[EvaluationLine]:
    prompts = [row for row in task.prompts(task.splits[0]) if isinstance(row, Prompt)]
    count = len(prompts) if take is None else min(take, len(prompts))
    share = count / max(1, len(prompts))
    turns = sum(1 + len(prompt.turns or ()) for prompt in prompts) * share
    models = plan["evaluate/compare"].settings["models"]
    asked = round(turns * task.samples())
    shown = sum(len(m.content) for p in prompts[:LOOKED_AT] for m in p.messages)
    prompt = shown / max(1, len(prompts[:LOOKED_AT])) / CHARACTERS_A_TOKEN
    answer = min(ANSWER_TOKENS, int(task.decoding().get("max_new_tokens", ANSWER_TOKENS)))
    done = _rows(plan, name, models, judged=False)
    price = _price(plan, cluster, name, judged=False)
    yield _line(name, asked * len(models), done, (prompt, answer), price)
    if isinstance(task, JudgedBenchmark):
        games, question = _questions(task, prompts[:LOOKED_AT], answer)
        most = int(task.judge_decoding().get("max_new_tokens", JUDGMENT_TOKENS))
        done = _rows(plan, name, models, judged=True)
        price = _price(plan, cluster, name, judged=True)
        requests = round(asked * len(models) * games)
        each = question, float(min(JUDGMENT_TOKENS, most))
        yield _line(f"judge of {name}", requests, done, each, price)


def _questions(
    task: JudgedBenchmark, prompts: Sequence[Prompt], tokens: int
) -> tuple[float, float]:
    """Questions to the judge about one answer of `tokens` tokens, and the tokens of each."""
    text = ("word " * tokens)[: int(tokens * CHARACTERS_A_TOKEN)]
    found = [
        sum(len(message["content"]) for message in question.messages)
        for prompt in prompts
        for question in task.questions(prompt, _answer(prompt, text))
    ]
    if not found:
        return 0.0, 0.0
    return len(found) / len(prompts), sum(found) / len(found) / CHARACTERS_A_TOKEN


def _answer(prompt: Prompt, text: str) -> Response:
    return Response(
        id="", prompt_id=prompt.id, source="", index=0, text=text, finish="stop", model="",
        made_from="",
    )  # fmt: skip


def _line(
    what: str, requests: int, done: int, each: tuple[float, float], price: Price | None
) -> EvaluationLine:
    """`each`: tokens of a prompt and of a response."""
    left = max(0, requests - done)
    tokens = left * each[0], left * each[1]
    cost = None if price is None else price_of(price, *tokens)
    return EvaluationLine(what, requests, left, *tokens, cost)


def _rows(plan: Plan, task: str, models: Sequence[str], judged: bool) -> int:
    """Answers that are there already."""
    count = 0
    for unit in plan.units:
        steps = unit.name.split("/")
        of_task = unit.kind == "sample" and steps[:2] == ["evaluate", task]
        if not of_task or steps[2] not in models or (JUDGE in steps[3:]) != judged:
            continue
        if "again" not in steps and (plan.path(unit) / "data").exists():
            count += count_rows(plan.path(unit) / "data")
    return count


def _price(plan: Plan, cluster: Cluster, task: str, judged: bool) -> Price | None:
    """Of the first unit that asks for these answers; all models' units have one price."""
    for unit in plan.units:
        steps = unit.name.split("/")
        of_task = unit.kind == "sample" and steps[:2] == ["evaluate", task]
        if of_task and (JUDGE in steps[3:]) == judged:
            return cluster.where(unit.name).price
    return None


def foot(lines: Sequence[EvaluationLine]) -> Iterator[str]:
    """What a reader of the lines must know, and their sum where there are prices."""
    if not lines:
        return
    yield from (f"benchmark {line.told()}" for line in lines)
    costs = [line.cost for line in lines if line.cost is not None and line.to_do]
    if costs:
        yield f"benchmarks together: cost {sum(costs):,.4g}"
    yield (
        f"benchmarks are estimates: {CHARACTERS_A_TOKEN:g} characters a token, answers of "
        f"{ANSWER_TOKENS} tokens and judgments of {JUDGMENT_TOKENS} unless bounded below that, "
        "no judgment asked for twice."
    )
