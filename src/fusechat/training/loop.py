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

from fusechat.faultpoints import reach
from fusechat.progress import Progress
from fusechat.training.batches import epoch_order
from fusechat.training.checkpoints import Checkpoint, Checkpoints, restore_optimizer, save_model
from fusechat.training.engine import Engine, PaddedEngine
from fusechat.training.examples import Example
from fusechat.training.metrics import Line, MetricsLog, refuse_non_finite, step_means
from fusechat.training.models import (
    load_model,
    make_optimizer,
    mixed_precision,
    publish,
    repeatable,
    without_bars,
)
from fusechat.training.ranks import Ranks, find_ranks
from fusechat.training.reference import (
    Known,
    compute_reference,
    read_reference,
    rows_digest,
    write_reference,
)
from fusechat.training.schedule import Schedule

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

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
        return _train(job, ranks)


def _train(job: Job, ranks: Ranks) -> dict[str, Any]:
    schedule = Schedule.of(job.settings, len(job.examples))
    checkpoints = Checkpoints(job.folder / "checkpoints", _run(job), job.settings.save_total_limit)
    reference = _read_reference(job, ranks)
    resumable = reference is not None or not job.settings.loss.needs_reference
    begun = checkpoints.newest() if resumable else None
    if ranks.main:
        checkpoints.prune() if begun else checkpoints.clear()
    model = _load(job, begun.folder if begun else job.base, ranks)
    engine = _engine(job, model, ranks)
    if reference is None and not resumable:
        reference = _make_reference(job, engine, ranks)
    known = replace(job.sources, reference=reference)
    loop = _Loop(job, ranks, schedule, checkpoints, model, engine, known)
    try:
        loop.run(begun)
    finally:
        for observer in job.observers:
            observer.end()
    return {
        "steps": schedule.total,
        "epochs": job.settings.num_train_epochs,
        "final": loop.log.last_means(),
    }


def _run(job: Job) -> Any:
    return {"settings": job.identity, "seed": job.seed, "rows": rows_digest(job.examples)}


def _load(job: Job, folder: Path, ranks: Ranks) -> PreTrainedModel:
    return load_model(folder, ranks.device, job.settings.gradient_checkpointing)


def _engine(job: Job, model: PreTrainedModel, ranks: Ranks) -> Engine:
    autocast = mixed_precision(job.settings, ranks.device)
    return PaddedEngine(model, job.settings.loss, ranks, job.where.micro_batch_size, autocast)


def _read_reference(job: Job, ranks: Ranks) -> torch.Tensor | None:
    if not job.settings.loss.needs_reference:
        return None
    return read_reference(job.folder / "reference", job.examples, ranks.device)


def _make_reference(job: Job, engine: Engine, ranks: Ranks) -> torch.Tensor:
    job.progress.note("reference log-probabilities")
    made = compute_reference(engine, job.examples, job.seed, job.settings.global_batch_size)
    if ranks.main:
        write_reference(job.folder / "reference", job.examples, made)
    ranks.wait()
    return made


@dataclass
class _Loop:
    """The steps of one run, with all that they work on."""

    job: Job
    ranks: Ranks
    schedule: Schedule
    checkpoints: Checkpoints
    model: PreTrainedModel
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
        if self.ranks.main:
            publish(self.job.folder / "model", self._save_model, "train.model")
        self.ranks.wait()

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
        refuse_non_finite(line, step, result, examples)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        reach("train.step")
        epoch = step / self.schedule.steps_per_epoch
        return {"step": step, "epoch": epoch, "learning_rate": rate, **line}

    def _clip(self) -> torch.Tensor:
        import torch

        limit = self.job.settings.max_grad_norm or float("inf")
        return torch.nn.utils.clip_grad_norm_(self.parameters, limit)

    def _rows(self, step: int) -> list[int]:
        epoch, places = self.schedule.place(step)
        if self._order[0] != epoch:
            order = epoch_order(len(self.job.examples), self.job.seed, epoch)
            self._order = (epoch, order)
        return self._order[1][places]

    def _write(self, step: int, line: Line) -> None:
        if self.ranks.main:
            self.log.append(line)
            if self.schedule.saves(step):
                self.checkpoints.save(step, self.model, self.job.tokenizer, self.optimizer)
        if self.schedule.saves(step):
            self.ranks.wait()
        for observer in self.job.observers:
            observer.after(line)
            if self.schedule.saves(step) or step == self.schedule.total:
                observer.saved(self.engine, step)

    def _save_model(self, folder: Path) -> None:
        save_model(folder, self.model, self.job.tokenizer)
