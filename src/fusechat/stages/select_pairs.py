"""How each state of a model ranks the held-out pairs: the numbers of `by: held_out`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fusechat.chat import load_tokenizer
from fusechat.errors import TrainingError
from fusechat.parts import Loss
from fusechat.progress import Progress
from fusechat.records import Dropped, Pair, Triple
from fusechat.settings import settings_key
from fusechat.stages.context import UnitContext
from fusechat.stages.held_out import read_held_out
from fusechat.stages.select_candidates import Candidate
from fusechat.stages.select_rules import Ranked
from fusechat.stages.source_logps import read_source_logps
from fusechat.stages.train_rows import encode_rows
from fusechat.training.engines import make_engine
from fusechat.training.examples import Example, Text
from fusechat.training.loop import Job
from fusechat.training.models import load_model, repeatable, without_bars
from fusechat.training.ranks import Ranks, find_ranks
from fusechat.training.reference import Known
from fusechat.training.step import Terms

if TYPE_CHECKING:
    import torch

END = 1.0
"""Share of training done, for losses that change with it: all states are held to the last."""


def rank_held_out(context: UnitContext, candidates: Sequence[Candidate]) -> list[Ranked]:
    """How each candidate ranks the pairs that `inputs["train/dpo"]` held out, in one order.

    The reference is `inputs["model"]`, the sources are those of the training. Without held-out
    pairs every state ranks none. Raises `TrainingError` where a loss is not a number.
    """
    examples = _examples(context)
    if not examples:
        return [Ranked((), ()) for _ in candidates]
    ranks = find_ranks(context.where)
    loss: Loss = context.settings["train"].loss
    known = read_source_logps(context.inputs, examples, ranks.device)
    with without_bars(), repeatable(ranks.device, context.where.threads):
        if loss.needs_reference:
            reference = _logps(context, context.inputs["model"], examples, ranks)
            known = replace(known, reference=reference)
        found = []
        for one in candidates:
            found.append(
                ranked(loss, _logps(context, one.folder, examples, ranks), known, examples)
            )
            context.progress.advance()
    return found


def _examples(context: UnitContext) -> list[Example]:
    train = context.settings["train"]
    row_type = Triple if train.loss.consumes == "Triple" else Pair
    rows = read_held_out(context.inputs["train/dpo"], row_type)
    tokenizer = load_tokenizer(context.inputs["train/dpo"] / "model")
    encoded = encode_rows(
        tokenizer, rows, train.max_length, train.over_length, train.max_prompt_length
    )
    return [one for one in encoded if not isinstance(one, Dropped)]


def _logps(
    context: UnitContext, folder: Path, examples: Sequence[Example], ranks: Ranks
) -> torch.Tensor:
    """Nats, float64 `[rows, sides]`, of one model, by the engine that training uses."""
    train = context.settings["train"]
    job = Job(
        context.folder, folder, load_tokenizer(folder), examples, train, settings_key(train),
        context.seed, context.where, Progress(context.name, None, None),
    )  # fmt: skip
    return make_engine(job, load_model(folder, ranks.device), ranks).logps(examples)


def ranked(loss: Loss, logps: torch.Tensor, known: Known, examples: Sequence[Example]) -> Ranked:
    """What a loss says of pairs whose responses have these log-probabilities, `[rows, sides]`.

    A pair's margin is in nats of a token where the loss has such a one (`normalized_margins`: the
    log-ratio to the reference per token, chosen less rejected), else the loss's own (`margins`).
    """
    import torch

    lengths = [text.length for side in range(len(loss.sides)) for text in _side(examples, side)]
    counts = torch.tensor(lengths, dtype=torch.float64, device=logps.device)
    named, sizes = Terms(loss).named(logps.T.reshape(-1), counts, known)
    with torch.no_grad():
        losses, metrics = loss(named, sizes, END)
    margins = metrics.get("normalized_margins", metrics["margins"]).tolist()
    values = losses.tolist()
    bad = [
        example.prompt_id
        for example, *numbers in zip(examples, margins, values, strict=True)
        if not all(map(math.isfinite, numbers))
    ]
    if bad:
        raise TrainingError(
            f"the loss of {len(bad)} held-out pairs is not finite (prompt {bad[0]}, ...). Look at "
            "those rows, or lower the learning rate: a state of this training is broken."
        )
    return Ranked(margins, values)


def _side(examples: Sequence[Example], side: int) -> list[Text]:
    return [example.texts[side] for example in examples]
