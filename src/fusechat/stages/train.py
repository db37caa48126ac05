"""Training stages: rows in, a model folder out."""

from __future__ import annotations

from typing import Any

from fusechat.chat import load_tokenizer
from fusechat.faultpoints import reach
from fusechat.records import Dropped
from fusechat.settings import settings_key
from fusechat.stages.context import UnitContext
from fusechat.stages.held_out import write_held_out
from fusechat.stages.source_logps import coverage, read_source_logps
from fusechat.stages.train_data import (
    TrainingData,
    TrainingTables,
    find_tables,
    held_out_rows,
    nothing_to_train_on,
    read_data,
)
from fusechat.stages.train_watch import make_observers
from fusechat.stages.turn_end import refuse_untaught_end
from fusechat.tables import write_table
from fusechat.training.loop import Job, train
from fusechat.training.ranks import find_ranks
from fusechat.training.watch import find_warnings


def train_sft(context: UnitContext) -> dict[str, Any]:
    """Fine-tune `inputs["model"]` on `inputs["build"]/sft`. Settings: `SftSettings`.

    Writes `model/`, `checkpoints/`, `metrics.jsonl` and `dropped/`; where rows are held out also
    `held_out/`, `watch.jsonl` and `watch/`. Returns `rows`, `dropped` (with `reasons`), `held_out`,
    `response_tokens`, `steps`, `epochs`, `final` (means over the last ten steps) and, where the run
    drifted, `warnings`. Raises `TrainingError` where there is
    nothing to train on, the template teaches no end of turn, or a loss is not finite.
    """
    return _train(context, "sft")


def train_dpo(context: UnitContext) -> dict[str, Any]:
    """Preference-train `inputs["model"]` on the tables `dpo` of its builds (`build`,
    `build/on_policy`). Settings: `DpoSettings`.

    The same as `train_sft`, and `reference/`: the log-probabilities of the model it began with.
    """
    return _train(context, "dpo")


def _train(context: UnitContext, table: str) -> dict[str, Any]:
    base, settings = context.inputs["model"], context.settings
    seed = context.seed if settings.seed is None else settings.seed
    tokenizer = load_tokenizer(base)
    refuse_untaught_end(tokenizer, base)
    tables = find_tables(context, table)
    data = read_data(tables, tokenizer, settings, seed)
    _keep(context, tables, data)
    if not data.examples:
        raise nothing_to_train_on(context.name, context.inputs, table, data, settings.max_length)
    for note in data.notes(settings.held_out):
        context.progress.note(note)
    device = find_ranks(context.where).device
    sources = read_source_logps(context.inputs, data.examples, device)
    job = Job(
        context.folder, base, tokenizer, data.examples, settings, settings_key(settings),
        seed, context.where, context.progress, sources,
        observers=make_observers(context, tokenizer, data, seed, device),
    )  # fmt: skip
    counts = {**data.counts(settings.held_out), **coverage(sources), **train(job)}
    warnings = [warning.plain() for warning in find_warnings(context.folder)]
    return {**counts, "warnings": warnings} if warnings else counts


def _keep(context: UnitContext, tables: TrainingTables, data: TrainingData) -> None:
    """Write the rows that are not trained on."""
    if not find_ranks(context.where).main:
        return
    write_table(context.folder / "dropped", data.dropped, Dropped)
    reach("train.dropped")
    if context.settings.held_out:
        write_held_out(context.folder, held_out_rows(tables, data), tables.row_type)
