"""The training loop: one for every loss and every engine.

    load -> reference (once) -> for each step: gradient, clip, AdamW, a line of metrics,
    now and then a checkpoint -> model

It is a pure function of the rows, the settings and the seed: on the CPU, a run that was
killed anywhere and resumed writes the same bytes as one that was not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fusechat.digests import digest
from fusechat.faultpoints import reach
from fusechat.progress import Progress
from fusechat.training.adapters import add_adapters, load_adapters
from fusechat.training.batches import epoch_order
from fusechat.training.checkpoints import (
    Checkpoint,
    Checkpoints,
    Weights,
    read_finished,
    restore_optimizer,
    write_finished,
)
from fusechat.training.engine import Engine
from fusechat.training.engines import make_engine
from fusechat.training.examples import Example
from fusechat.training.memory_plan import Planned, plan_memory
from fusechat.training.metrics import Line, MetricsLog, refuse_non_finite, step_means
from fusechat.training.models import (
    load_model,
    make_optimizer,
    publish,
    repeatable,
    without_bars,
)
from fusechat.training.ranks import Ranks, find_ranks
from fusechat.training.reference import Known, read_reference, rows_digest
from fusechat.training.reference_pass import make_reference
from fusechat.training.schedule import Schedule
from fusechat.training.sharding import check_sharding, reshard, shard, whole_tensor
from fusechat.training.trial import confirm

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from fusechat.settings import Where
    from fusechat.stages.train_settings import TrainingSettings


class Observer(Protocol):
    """Looks on while a model is trained: trackers, held-out rows, warnings. Changes no weights.

    Every rank calls every method, in the same order.
    """

    def begin(self, engine: Engine, ranks: Ranks, step: int) -> None:
        """Before the first step that this process runs, with `step` steps done."""

    def after(self, line: Line) -> None:
        """After each step, with its line of `metrics.jsonl`."""

    def saved(self, engine: Engine, step: int) -> None:
        """After a checkpoint was written, and after the last step; the weights are those of it."""

    def end(self) -> None:
        """After the model was written, or where training failed."""


@dataclass(frozen=True)
class Job:
    """What to train, on what, where to write and how to report."""

    folder: Path
    """Gets `model/`, `checkpoints/`, `metrics.jsonl` and, for preferences, `reference/`."""
    base: Path
    """Model folder to start from; also the frozen reference."""
    tokenizer: PreTrainedTokenizerBase
    examples: Sequence[Example]
    """At least one."""
    settings: TrainingSettings
    identity: Any
    """JSON value of the settings that decide the result: a checkpoint of other ones is refused."""
    seed: int
    where: Where
    progress: Progress
    sources: Known = field(default_factory=Known)
    """What the sources say of `examples`, where the loss needs it."""
    observers: Sequence[Observer] = ()


def train(job: Job) -> dict[str, Any]:
    """Train, going on from the newest checkpoint; returns `steps`, `epochs` and `final` means.

    Raises `TrainingError` where the model cannot be loaded, a checkpoint or reference is of
    another run, or a loss or gradient is not finite; `MissingExtraError` without transformers.
    """
    ranks = find_ranks(job.where)
    with without_bars(), repeatable(ranks.device, job.where.threads):
        if job.settings.engine == "trl":
            from fusechat.training.trl_engine import train_with_trl

            return train_with_trl(job)
        return _train(job, ranks)


def _train(job: Job, ranks: Ranks) -> dict[str, Any]:
    finished = read_finished(job.folder, _run(job))
    if finished is not None:
        return finished
    check_sharding(job.where.sharding, ranks)
    schedule = Schedule.of(job.settings, len(job.examples))
    checkpoints = Checkpoints(job.folder / "checkpoints", _run(job), job.settings.save_total_limit)
    reference = _read_reference(job, ranks)
    resumable = reference is not None or not job.settings.loss.needs_reference
    begun = checkpoints.newest() if resumable else None
    ranks.agree(_seen(job, reference, begun))
    if ranks.main:
        checkpoints.prune() if begun else checkpoints.clear()
    planned = plan_memory(job, ranks)
    planned.tell(job, ranks)
    model = _load(job, begun, ranks, planned)
    engine = make_engine(job, model, ranks)
    if job.where.sharding != "none":
        shard(engine, ranks, job.settings.dtype == "bfloat16")
    planned.lead(engine)
    if reference is None and not resumable:
        reference = make_reference(job, engine, ranks)
        reshard(engine)
    known = replace(job.sources, reference=reference)
    loop = _Loop(job, ranks, schedule, checkpoints, model, engine, known)
    if begun is None:
        confirm(
            job, ranks, schedule=schedule, model=model, engine=engine, known=known, planned=planned
        )
    try:
        loop.run(begun)
    finally:
        for observer in job.observers:
            observer.end()
    counts = {
        "steps": schedule.total,
        "epochs": job.settings.num_train_epochs,
        **engine.counts(),
        "final": loop.log.last_means(),
    }
    if ranks.main:
        write_finished(job.folder, _run(job), counts)
    ranks.wait()
    return counts


def _run(job: Job) -> Any:
    return {"settings": job.identity, "seed": job.seed, "rows": rows_digest(job.examples)}


def _seen(job: Job, reference: torch.Tensor | None, begun: Checkpoint | None) -> dict[str, int]:
    """What every rank must see alike before they begin."""
    return {
        "the rows and settings": int(digest(_run(job))[:15], 16),
        "the reference": int(reference is not None),
        "the newest checkpoint": begun.step if begun else 0,
    }


def _load(job: Job, begun: Checkpoint | None, ranks: Ranks, planned: Planned) -> Any:
    """The model to train, whole; where ranks will share it on the CPU, since one may not hold it.

    Adapters go over the model that training began with, everything else is in the checkpoint.
    """
    import torch

    lora, sharded = job.settings.lora, job.where.sharding != "none"
    device = torch.device("cpu") if sharded else ranks.device
    folder = begun.folder if begun and lora is None else job.base
    model = load_model(folder, torch.device("cpu") if lora else device, planned.checkpointing)
    if lora is None:
        return model
    adapted = add_adapters(model, lora, job.seed)
    if begun:
        load_adapters(adapted, begun.folder, job.base)
    return adapted.to(device)


def _read_reference(job: Job, ranks: Ranks) -> torch.Tensor | None:
    if not job.settings.loss.needs_reference:
        return None
    return read_reference(job.folder / "reference", job.examples, ranks.device)


@dataclass
class _Loop:
    """The steps of one run, with all that they work on."""

    job: Job
    ranks: Ranks
    schedule: Schedule
    checkpoints: Checkpoints
    model: Any
    """Of transformers, or such a one wrapped by PEFT."""
    engine: Engine
    known: Known
    _order: tuple[int, list[int]] = (-1, [])

    def __post_init__(self) -> None:
        self.log = MetricsLog(self.job.folder / "metrics.jsonl")
        self.optimizer = make_optimizer(self.model, self.job.settings)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]

    def run(self, begun: Checkpoint | None) -> None:
        """All steps after the checkpoint `begun`, then the model."""
        import torch

        torch.manual_seed(self.job.seed)
        if begun:
            restore_optimizer(begun, self.optimizer)
        done = begun.step if begun else 0
        if self.ranks.main:
            self.log.start(done)
        self.job.progress.start(self.schedule.total, "steps", done)
        for observer in self.job.observers:
            observer.begin(self.engine, self.ranks, done)
        for step in range(done + 1, self.schedule.total + 1):
            self._write(step, self._step(step))
            self.job.progress.advance()
        self._save_model()

    def _step(self, step: int) -> Line:
        rows = self._rows(step)
        examples = [self.job.examples[row] for row in rows]
        known = self.known.rows(rows)
        rate = self.schedule.learning_rate(step)
        self.optimizer.zero_grad()
        result = self.engine.backward(examples, known, (step - 1) / self.schedule.total)
        norm = self._clip()
        *sums, norm_value = [*result.sums.tolist(), float(norm)]
        line = step_means(result, len(rows), norm_value, sums)
        refuse_non_finite(
            {"step": step, **line}, result, examples, ranks=self.ranks, folder=self.job.folder
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        reach("train.step")
        epoch = step / self.schedule.steps_per_epoch
        return {"step": step, "epoch": epoch, "learning_rate": rate, **line}

    def _clip(self) -> torch.Tensor:
        """Clip the gradient; its L2 norm over all parameters and ranks, before clipping."""
        import torch

        limit = self.job.settings.max_grad_norm or float("inf")
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = whole_tensor(torch.nn.utils.get_total_norm(gradients))
        torch.nn.utils.clip_grads_with_norm_(self.parameters, limit, norm)
        return norm

    def _rows(self, step: int) -> list[int]:
        epoch, places = self.schedule.place(step)
        if self._order[0] != epoch:
            order = epoch_order(len(self.job.examples), self.job.seed, epoch)
            self._order = (epoch, order)
        return self._order[1][places]

    def _write(self, step: int, line: Line) -> None:
        saves = self.schedule.saves(step)
        if self.ranks.main:
            self.log.append(line)
        if saves:
            weights = self._weights()
            self.checkpoints.save(step, weights, self.job.tokenizer, self.optimizer, self.ranks)
        for observer in self.job.observers:
            observer.after(line)
            if saves or step == self.schedule.total:
                observer.saved(self.engine, step)

    def _weights(self) -> Weights:
        reshard(self.engine)
        sharded = self.job.where.sharding != "none"
        return Weights.of(self.model, self.job.base, self.ranks, sharded)

    def _save_model(self) -> None:
        """Write `model/`, and where adapters were trained also `adapter/`."""
        weights, tokenizer, folder = self._weights(), self.job.tokenizer, self.job.folder
        if self.ranks.main:
            if weights.adapters is not None:
                publish(folder / "adapter", weights.write_adapters, "train.adapter")
            publish(folder / "model", lambda place: weights.write(place, tokenizer), "train.model")
        self.ranks.wait()
