"""Training stages: rows in, a model folder out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from fusechat.chat import load_tokenizer
from fusechat.errors import TrainingError
from fusechat.faultpoints import reach
from fusechat.records import Demonstration, Dropped, Pair
from fusechat.settings import settings_key
from fusechat.stages.context import UnitContext
from fusechat.stages.train_rows import encode_rows, keep
from fusechat.tables import read_dicts, read_table, write_table
from fusechat.training.examples import Example
from fusechat.training.loop import Job, train
from fusechat.training.ranks import find_ranks


def train_sft(context: UnitContext) -> dict[str, Any]:
    """Fine-tune `inputs["model"]` on `inputs["build"]/sft`. Settings: `SftSettings`.

    Writes `model/`, `checkpoints/`, `metrics.jsonl` and `dropped/`. Returns `rows`, `dropped`,
    `response_tokens`, `steps`, `epochs` and `final` (means over the last ten steps). Raises
    `TrainingError` where there is nothing to train on or a loss is not finite.
    """
    return _train(context, "sft", Demonstration)


def train_dpo(context: UnitContext) -> dict[str, Any]:
    """Preference-train `inputs["model"]` on `inputs["build"]/dpo`. Settings: `DpoSettings`.

    The same as `train_sft`, and `reference/`: the log-probabilities of the model it began with.
    """
    return _train(context, "dpo", Pair)


def _train(
    context: UnitContext, table: str, row_type: type[Demonstration] | type[Pair]
) -> dict[str, Any]:
    build, base = context.inputs["build"], context.inputs["model"]
    tokenizer = load_tokenizer(base)
    dropped: list[Dropped] = []
    rows = read_table(build / table, row_type)
    settings = context.settings
    encoded = encode_rows(
        tokenizer, rows, settings.max_length, settings.over_length, settings.max_prompt_length
    )
    examples = keep(encoded, dropped.append)
    if find_ranks(context.where).main:
        write_table(context.folder / "dropped", dropped, Dropped)
        reach("train.dropped")
    if not examples:
        raise _nothing_to_train_on(context, table, build, dropped)
    if dropped:
        context.progress.note(f"{len(dropped)} rows do not fit and are left out")
    job = Job(
        context.folder, base, tokenizer, examples, settings, settings_key(settings),
        context.seed if settings.seed is None else settings.seed, context.where, context.progress,
    )  # fmt: skip
    return {**_counts(examples, dropped), **train(job)}


def _counts(examples: list[Example], dropped: list[Dropped]) -> dict[str, int]:
    tokens = sum(example.response_tokens for example in examples)
    truncated = sum(example.truncated for example in examples)
    counts = {"rows": len(examples), "dropped": len(dropped), "response_tokens": tokens}
    return {**counts, "truncated": truncated} if truncated else counts


def _nothing_to_train_on(
    context: UnitContext, table: str, build: Path, dropped: list[Dropped]
) -> TrainingError:
    if dropped:
        return TrainingError(
            f"{context.name}: all {len(dropped)} rows of {build / table} are longer than "
            f"max_length ({context.settings.max_length}) or max_prompt_length. Raise them."
        )
    path = build / "dropped"
    reasons: Counter[str] = Counter()
    if path.is_dir():
        found = read_dicts(path, ["stage", "reason"])
        reasons.update(row["reason"] for row in found if row["stage"] == table)
    commonest = ", ".join(f"'{reason}' ({count})" for reason, count in reasons.most_common(3))
    return TrainingError(
        f"{context.name}: the data set is empty, {build / table} has no rows. "
        + (f"Prompts were dropped there for: {commonest}. " if commonest else "")
        + f"Loosen the {table} strategies of the build, or give it more prompts; every dropped "
        f"prompt stands in {path} with its reason."
    )
