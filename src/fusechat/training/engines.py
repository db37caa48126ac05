"""Which engine trains a job, with which attention, and whether prompts are shared."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from fusechat.packed.attention import Backend, choose
from fusechat.packed.head import Head
from fusechat.packed.networks import known
from fusechat.training.engine import Engine, PackedEngine, PaddedEngine
from fusechat.training.models import mixed_precision
from fusechat.training.packing import Totals, totals
from fusechat.training.ranks import Ranks

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from fusechat.training.loop import Job

Autocast = Callable[[], AbstractContextManager[object]]
BIN_TOKENS = {"cpu": 4096, "cuda": 16384}
"""Computed tokens of a bin where the place does not say, by kind of device."""
SHARING_WASTE = {"buckets": 0.02, "varlen": 0.04, "flex": 0.08}
"""Share of a step that sharing prompts costs in attention and gathering, by backend."""


def make_engine(job: Job, model: PreTrainedModel, ranks: Ranks) -> Engine:
    """The engine that `job.settings` and `job.where` ask for, over `model` as it is loaded.

    A model that packed rows cannot go through gets the padded engine, and a note of why. Raises
    `TrainingError` where `job.where.attention` cannot be used here.
    """
    autocast = mixed_precision(job.settings, ranks.device)
    sharded = job.where.sharding != "none"
    if job.settings.engine != "padded":
        engine = _packed(job, model, ranks, autocast)
        if isinstance(engine, PackedEngine):
            engine.lockstep = sharded
            return engine
        job.progress.note(f"the padded engine is used, since this model cannot be packed: {engine}")
    size, note = job.where.micro_batch_size, job.progress.note
    return PaddedEngine(model, job.settings.loss, ranks, size, autocast, note, sharded)


def share_prompts(asked: str, found: Totals, waste: float) -> bool:
    """Whether the responses of a row share one copy of their prompt, for a whole data set.

    `asked`: `always`, `never`, or `auto`: where that saves more tokens than it wastes time.
    """
    return asked == "always" or (asked == "auto" and found.ratio > 1 + waste)


def _packed(
    job: Job, model: PreTrainedModel, ranks: Ranks, autocast: Autocast | None
) -> PackedEngine | str:
    """Or why the model cannot be packed."""
    import torch

    from fusechat.training.packed_model import PackedModel, plain_model

    parts = known(plain_model(model))
    if isinstance(parts, str):
        return parts
    head = Head(parts.scale, parts.cap, halved=autocast is not None)
    dtype = parts.weight.dtype if autocast is None else torch.bfloat16
    backend = choose(parts.decoder, ranks.device, dtype, job.where.attention)
    found = totals(job.examples)
    share = _decide_sharing(job, backend, found)
    budget = job.where.micro_batch_tokens or _bin_tokens(ranks.device)
    note = job.progress.note
    if ranks.device.type != "cpu":
        note(f"{parts.note}; attention: {backend.name} ({backend.note}); {budget} tokens at a time")
    module = PackedModel(model, head, backend, autocast)
    return PackedEngine(module, job.settings.loss, ranks, budget, share, note, totals=found)


def _bin_tokens(device: torch.device) -> int:
    return BIN_TOKENS.get(device.type, BIN_TOKENS["cuda"])


def _decide_sharing(job: Job, backend: Backend, found: Totals) -> bool:
    if found.ratio == 1.0:
        return False
    share = share_prompts(job.settings.share_prompts, found, SHARING_WASTE[backend.name])
    done = "share one copy" if share else "have a copy each"
    times = f"sharing {'computes' if share else 'would compute'} {found.ratio:.2f} times"
    job.progress.note(f"the responses of a row {done} of their prompt: {times} fewer tokens")
    return share
