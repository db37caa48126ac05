"""Evaluate: any task on any model of the plan, compared on the same items.

Evaluation is the data pipeline pointed at a test set. Each task's prompts, each model's
responses and their scores are units like all others; this stage gathers them:

    evaluate/<task>/prompts            prompts/   (Prompt)
    evaluate/<task>/<model>/sample     data/      (Response, one a prompt)
    evaluate/<task>/<model>/annotate   data/      (Score)

It writes `items/` (one `ItemResult` a task, model and prompt) and `metrics.json`. What an
item's outcome means, and why there are two readings of accuracy, is in `metrics/accuracy.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fusechat import tables
from fusechat.errors import PartError
from fusechat.local_models import Dtype
from fusechat.metrics import accuracy as acc
from fusechat.metrics import paired, text
from fusechat.parts import AnnotatorPart, TaskPart
from fusechat.records import Record, Response, Score
from fusechat.stages.context import UnitContext

METHOD = (
    "Accuracy: the mean over scored items; its 95% interval is Wilson's where every value is 0 or "
    "1, else the percentiles of a bootstrap (10,000 resamples, fixed seed). Strict accuracy counts "
    "a response that was cut at the token limit, or holds no text, as not solved, and leaves out "
    "only items that could not be judged for another reason. Differences are paired on the same "
    "items in the strict reading; their 95% interval is a paired bootstrap (10,000 resamples, "
    "fixed seed). The average weighs each task the same; its intervals combine the tasks' own "
    "(accuracy) or resample items within each task (differences). The best source is the one "
    "with the highest strict average on these same items, a choice that favours it."
)

TARGET, SFT, DPO = "target", "train.sft", "train.dpo"
Tables = Mapping[str, Mapping[str, "list[ItemResult]"]]


class EvaluateTask(BaseModel):
    """One entry of `evaluate.tasks`: a task part's own settings beside the keys below."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^\w[\w.-]*$")
    """How the task is called in units and tables; the part's name where not given."""
    task: TaskPart
    split: str = "test"
    take: int | None = Field(default=None, ge=1)
    """At most so many prompts, drawn with the recipe's seed; all where not given."""
    domain: str | None = None
    graded_by: AnnotatorPart | None = None
    """The annotator; the task's own where not given."""

    @model_validator(mode="before")
    @classmethod
    def _from_recipe(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"use": value}
        if not isinstance(value, Mapping) or "use" not in value:
            return value
        own = {k: value[k] for k in ("name", "split", "take", "domain", "graded_by") if k in value}
        part = {k: v for k, v in value.items() if k not in own}
        return {"name": str(value["use"]).rpartition(":")[2], **own, "task": part}


class EvaluateSettings(BaseModel):
    """The recipe's `evaluate`: which models answer which tasks, and how they are sampled."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: tuple[EvaluateTask, ...] = Field(min_length=1)
    models: tuple[str, ...] | None = None
    """`target`, `train.sft`, `train.dpo` or names of sources; all that the recipe has where not
    given."""
    max_new_tokens: int = Field(default=2048, ge=1)
    """A response is cut here, and a cut response counts as not solved in the strict reading."""
    temperature: float = Field(default=0.0, ge=0.0)
    dtype: Dtype = "auto"
    """Number format of the target, before and after training; a source answers in its own."""

    @model_validator(mode="after")
    def _names_differ(self) -> EvaluateSettings:
        for what, names in (("task", [t.name for t in self.tasks]), ("model", self.models or ())):
            twice = sorted(name for name, n in Counter(names).items() if n > 1)
            if twice:
                raise ValueError(
                    f"the {what} '{twice[0]}' is there twice. Give each its own 'name:'."
                    if what == "task"
                    else f"the model '{twice[0]}' is there twice. Name each model once."
                )
        return self


class ItemResult(Record):
    """How one model did on one item of one task."""

    task: str
    model: str
    prompt_id: str
    outcome: acc.Outcome
    value: float | None = None
    """In [0, 1]; there iff `outcome` is `scored`."""
    reason: str = ""
    response_id: str | None = None
    tokens: int | None = None
    characters: int | None = None
    """Of the response's text; None where there is no response."""

    @property
    def verdict(self) -> acc.Verdict:
        """Its part in the metrics."""
        return acc.Verdict(self.outcome, self.value)


def compare(context: UnitContext) -> dict[str, int]:
    """Join prompts, responses and scores of every task and model; write items/ and metrics.json."""
    results: dict[str, dict[str, list[ItemResult]]] = {}
    for task, models in _inputs(context.inputs).items():
        prompts = context.inputs[f"evaluate/{task}/prompts"] / "prompts"
        ids = [row["id"] for row in tables.read_dicts(prompts, ["id"])]
        results[task] = {model: _items(context, task, model, ids) for model in models}
    context.progress.start(len(results), "tasks")
    items = [item for models in results.values() for rows in models.values() for item in rows]
    tables.write_table(context.folder / "items", items, ItemResult)
    tables.write_json(context.folder / "metrics.json", metrics_of(results))
    context.progress.advance(len(results))
    outcomes = Counter(item.outcome for item in items)
    return {
        "tasks": len(results),
        "models": len({item.model for item in items}),
        "items": len(items),
        **{outcome: outcomes[outcome] for outcome in sorted(outcomes)},
    }


def _inputs(names: Mapping[str, Any]) -> dict[str, list[str]]:
    """Task -> its models, in the order of the plan."""
    out: dict[str, list[str]] = {}
    for name in names:
        parts = name.split("/")
        if len(parts) == 4 and parts[0] == "evaluate" and parts[3] == "annotate":
            out.setdefault(parts[1], []).append(parts[2])
    return out


def _items(context: UnitContext, task: str, model: str, ids: Sequence[str]) -> list[ItemResult]:
    unit = f"evaluate/{task}/{model}"
    responses: dict[str, Response] = {}
    for response in tables.read_table(context.inputs[f"{unit}/sample"] / "data", Response):
        if response.prompt_id in responses:
            raise PartError(
                f"{unit}/sample holds more than one response to prompt {response.prompt_id}. "
                "Evaluation takes one response a prompt: sample each prompt once."
            )
        responses[response.prompt_id] = response
    judged = tables.read_table(context.inputs[f"{unit}/annotate"] / "data", Score)
    scores = {score.response_id: score for score in judged}
    for score in scores.values():
        if not 0.0 <= (score.value or 0.0) <= 1.0:
            raise PartError(
                f"{unit}/annotate holds the score {score.value}, and an accuracy is a mean of "
                "shares in [0, 1]. Grade the task by right and wrong (graded_by), not with a "
                "reward model's raw scale."
            )
    return [_item(task, model, prompt_id, responses, scores) for prompt_id in ids]


def _item(
    task: str,
    model: str,
    prompt_id: str,
    responses: Mapping[str, Response],
    scores: Mapping[str, Score],
) -> ItemResult:
    response = responses.get(prompt_id)
    if response is None:
        return ItemResult(
            task=task, model=model, prompt_id=prompt_id, outcome="error", reason="no response"
        )
    score = scores.get(response.id)
    outcome, value, reason = _outcome(response, score)
    failed = response.finish == "error"
    return ItemResult(
        task=task, model=model, prompt_id=prompt_id, outcome=outcome, value=value, reason=reason,
        response_id=response.id, tokens=None if failed else response.tokens,
        characters=None if failed else len(response.text),
    )  # fmt: skip


def _outcome(response: Response, score: Score | None) -> tuple[acc.Outcome, float | None, str]:
    """The outcome, value and reason of one response.

    A failed request is nobody's answer and an annotator's failure nobody's fault: both are
    errors. A response that was cut or is blank is its model's own doing, unless the annotator
    judged it all the same.
    """
    if response.finish == "error":
        return "error", None, "the request failed"
    if score is None:
        return "error", None, "the annotator gave no score"
    if score.status != "unscorable":
        return "scored" if score.status == "ok" else "error", score.value, score.reason
    if response.finish == "length":
        return "cut", None, "the response was cut at the token limit"
    if not response.text.strip():
        return "empty", None, "the response holds no text"
    return "unscorable", None, score.reason


def metrics_of(results: Tables) -> dict[str, Any]:
    """The content of metrics.json from the items of every task and model."""
    accuracies = {
        task: {model: acc.accuracy([item.verdict for item in rows]) for model, rows in by.items()}
        for task, by in results.items()
    }
    models = list(dict.fromkeys(model for by in results.values() for model in by))
    averages = {
        model: _average([by[model] for by in accuracies.values() if model in by], len(results))
        for model in models
    }
    best = best_source(averages)
    return {
        "tasks": {
            task: {
                "n": max(entry.expected for entry in accuracies[task].values()),
                "models": {
                    model: _task_entry(accuracies[task][model], rows) for model, rows in by.items()
                },
                "differences": list(_differences({task: by}, best)),
            }
            for task, by in results.items()
        },
        "average": {"models": averages, "differences": list(_differences(results, best))},
        "best_source": best,
        "method": METHOD,
    }


def best_source(averages: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The source with the highest strict average; the first of them in the plan where tied."""
    known = {
        model: entry["accuracy_strict"]
        for model, entry in averages.items()
        if is_source(model) and entry["accuracy_strict"] is not None
    }
    return max(known, key=lambda model: known[model]) if known else None


def is_source(model: str) -> bool:
    """Whether a model of the evaluation is a source: neither the target nor trained here."""
    return model != TARGET and not model.startswith("train.")


def pairs_to_compare(models: Sequence[str], best: str | None) -> list[tuple[str, str]]:
    """Which models are held against which, as (model, against), of those that are there."""
    wanted = [(SFT, TARGET), (DPO, SFT), (DPO, TARGET)]
    if best is not None:
        wanted += [(DPO, best), (SFT, best)]
    return [pair for pair in wanted if pair[0] in models and pair[1] in models]


def _task_entry(result: acc.Accuracy, rows: Sequence[ItemResult]) -> dict[str, Any]:
    reasons = Counter(row.reason for row in rows if row.outcome != "scored")
    return {
        **_mean_entry(result.mean, "accuracy", ("low", "high")),
        "scored": result.scored,
        "expected": result.expected,
        "unscorable": result.unscorable,
        "errors": result.errors,
        "cut": result.cut,
        "empty": result.empty,
        **_mean_entry(result.strict, "accuracy_strict", ("strict_low", "strict_high")),
        "mean_tokens": _mean_length([row.tokens for row in rows]),
        "mean_characters": _mean_length([row.characters for row in rows]),
        "reasons": dict(sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))),
    }


def _average(results: Sequence[acc.Accuracy], tasks: int) -> dict[str, Any]:
    missing = acc.Mean(None, None, 0, "the model was not asked every task")
    whole = len(results) == tasks
    mean = acc.average([r.mean for r in results]) if whole else missing
    strict = acc.average([r.strict for r in results]) if whole else missing
    return {
        **_mean_entry(mean, "accuracy", ("low", "high")),
        **_mean_entry(strict, "accuracy_strict", ("strict_low", "strict_high")),
        "tasks": len(results),
    }


def _mean_entry(mean: acc.Mean, name: str, bounds: tuple[str, str]) -> dict[str, Any]:
    interval = mean.interval
    entry: dict[str, Any] = {
        name: mean.value,
        bounds[0]: interval.low if interval else None,
        bounds[1]: interval.high if interval else None,
    }
    if mean.why:
        entry[f"{name}_missing"] = mean.why
    return entry


def _mean_length(lengths: Sequence[int | None]) -> float | None:
    known = [length for length in lengths if length is not None]
    return sum(known) / len(known) if known else None


def _differences(results: Tables, best: str | None) -> Iterator[dict[str, Any]]:
    common = set.intersection(*(set(by) for by in results.values()))
    for model, against in pairs_to_compare(sorted(common), best):
        items = [
            list(paired.item_differences(_verdicts(by[model]), _verdicts(by[against])).values())
            for by in results.values()
        ]
        found = paired.average_difference(items)
        entry: dict[str, Any] = {
            "model": model,
            "against": against,
            "difference": found.value,
            "low": found.interval.low if found.interval else None,
            "high": found.interval.high if found.interval else None,
            "n": found.n,
        }
        yield {**entry, "missing": found.why} if found.why else entry


def _verdicts(rows: Sequence[ItemResult]) -> dict[str, acc.Verdict]:
    return {row.prompt_id: row.verdict for row in rows}


def format_table(metrics: Mapping[str, Any], width: int = 80) -> str:
    """The comparison as text for a terminal of `width` columns (`metrics/text.py`)."""
    return text.format_table(metrics, width)
