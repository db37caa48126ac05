"""The pieces of `engine: trl` that TRL's trainers are given: rows, order, log lines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from fusechat.errors import TrainingError
from fusechat.faultpoints import reach
from fusechat.training.batches import epoch_order
from fusechat.training.engine import PaddedEngine
from fusechat.training.examples import Example
from fusechat.training.metrics import Line, MetricsLog
from fusechat.training.models import mixed_precision

if TYPE_CHECKING:
    import torch

    from fusechat.training.loop import Job
    from fusechat.training.ranks import Ranks
    from fusechat.training.schedule import Schedule

SAME = {"logps/chosen": "logps_chosen", "logps/rejected": "logps_rejected"}
"""TRL's numbers that mean what ours of the other name do, for every loss."""
SAME_OF_DPO = {
    "rewards/chosen": "rewards_chosen", "rewards/rejected": "rewards_rejected",
    "rewards/margins": "margins", "rewards/accuracies": "accuracies",
}  # fmt: skip
"""And for `dpo` alone: for other losses TRL's rewards are not those that the loss is of."""


def dataset_of(examples: Sequence[Example], reference: torch.Tensor | None = None) -> Any:
    """The rows as TRL's trainers take tokenised ones: `input_ids` and `labels`, or the ids of
    prompt, chosen and rejected, with the reference's log-probabilities where they are known."""
    from datasets import Dataset

    if len(examples[0].texts) == 1:
        texts = [example.texts[0] for example in examples]
        labels = [[-100] * t.start + t.ids[t.start :].tolist() for t in texts]
        return Dataset.from_dict({"input_ids": [t.ids.tolist() for t in texts], "labels": labels})
    columns: dict[str, Any] = {"prompt_ids": [], "chosen_ids": [], "rejected_ids": []}
    for example in examples:
        chosen, rejected = example.texts
        if not chosen.start == rejected.start == example.shared:
            raise TrainingError(
                f"the prompt of {example.prompt_id} has other tokens before its two responses, "
                "which TRL cannot be told. Take engine: packed."
            )
        columns["prompt_ids"].append(chosen.ids[: chosen.start].tolist())
        columns["chosen_ids"].append(chosen.ids[chosen.start :].tolist())
        columns["rejected_ids"].append(rejected.ids[rejected.start :].tolist())
    if reference is not None:
        columns["ref_chosen_logps"], columns["ref_rejected_logps"] = reference.T.tolist()
    return Dataset.from_dict(columns)


class _Order:
    """Our order of rows as a sampler; the epoch follows from the trainer's step."""

    def __init__(self, trainer: Any, rows: int, seed: int, batch: int) -> None:
        self.trainer, self.rows, self.seed, self.batch = trainer, rows, seed, batch

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[int]:
        epoch = self.trainer.state.global_step // math.ceil(self.rows / self.batch)
        return iter(epoch_order(self.rows, self.seed, epoch))


def make_trainer(base: Any, job: Job) -> Any:
    """A class below TRL's `base` that takes rows in our order and reference values as they are."""

    class _OurRows:
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return _Order(self, len(job.examples), job.seed, job.settings.global_batch_size)

        def _prepare_dataset(self, dataset: Any, *args: Any, **named: Any) -> Any:
            if "prompt_ids" in dataset.column_names:
                return dataset
            return super()._prepare_dataset(dataset, *args, **named)  # type: ignore[misc]

        def _precompute_ref_logps(self, dataset: Any, *args: Any, **named: Any) -> Any:
            if "ref_chosen_logps" in dataset.column_names:
                return dataset
            return super()._precompute_ref_logps(dataset, *args, **named)  # type: ignore[misc]

        def create_model_card(self, *args: Any, **named: Any) -> None:
            """None: fusechat writes its own cards."""

    return type(f"Fusechat{base.__name__}", (_OurRows, base), {})


def make_recorder(job: Job, ranks: Ranks, schedule: Schedule, trainer: Any) -> Any:
    """A callback that writes TRL's log lines to `metrics.jsonl`, in our names where they mean
    the same, tells the observers, and stops at a loss that is not finite."""
    from transformers import TrainerCallback

    class _Recorder(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.log = MetricsLog(job.folder / "metrics.jsonl")
            self.engine = PaddedEngine(
                trainer.model, job.settings.loss, ranks, job.where.micro_batch_size,
                mixed_precision(job.settings, ranks.device),
            )  # fmt: skip

        def begin(self, done: int) -> None:
            job.progress.start(schedule.total, "steps", done)
            for observer in job.observers:
                observer.begin(self.engine, ranks, done)

        def end(self) -> None:
            for observer in job.observers:
                observer.end()

        def on_log(
            self, args: Any, state: Any, control: Any, logs: Any = None, **rest: Any
        ) -> None:
            if "loss" not in logs:
                return
            line = line_of(job, schedule, state.global_step, logs)
            _refuse_non_finite(job, schedule, line)
            if ranks.main:
                self.log.append(line)
            for observer in job.observers:
                observer.after(line)

        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            reach("train.step")
            job.progress.advance()
            # Trainers of transformers save after the last step, too, and would drop an older one.
            control.should_save = schedule.saves(state.global_step)

        def on_save(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            reach("train.checkpoint")
            self._saved(state.global_step)

        def on_train_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            if not schedule.saves(state.global_step):
                self._saved(state.global_step)

        def _saved(self, step: int) -> None:
            trainer.model.eval()
            for observer in job.observers:
                observer.saved(self.engine, step)
            trainer.model.train()

    return _Recorder()


def line_of(job: Job, schedule: Schedule, step: int, logs: dict[str, float]) -> Line:
    """A line of `metrics.jsonl` from what TRL logged of a step."""
    rows = rows_of(job, schedule, step)
    line: Line = {
        "step": step, "epoch": step / schedule.steps_per_epoch,
        "learning_rate": logs["learning_rate"], "rows": len(rows), "loss": logs["loss"],
    }  # fmt: skip
    if "grad_norm" in logs:
        line["grad_norm"] = logs["grad_norm"]
    names = SAME | (SAME_OF_DPO if job.settings.loss.part_name() == "dpo" else {})
    for name, value in logs.items():
        if name not in (*line, "epoch", "num_tokens"):  # TRL counts tokens from 0 when it resumes
            line[names.get(name, name)] = value
    for place, side in enumerate(job.settings.loss.sides):
        lengths = [job.examples[row].texts[place].length for row in rows]
        line[f"lengths_{side}"] = float(np.mean(lengths))
    return line


def rows_of(job: Job, schedule: Schedule, step: int) -> list[int]:
    """The rows of a step, as places in the job's examples."""
    epoch, places = schedule.place(step)
    return _order(len(job.examples), job.seed, epoch)[places]


@lru_cache(maxsize=1)
def _order(rows: int, seed: int, epoch: int) -> list[int]:
    return epoch_order(rows, seed, epoch)


def _refuse_non_finite(job: Job, schedule: Schedule, line: Line) -> None:
    if all(math.isfinite(line.get(name, 0.0)) for name in ("loss", "grad_norm")):
        return
    rows = [job.examples[row].prompt_id for row in rows_of(job, schedule, line["step"])]
    more = f" and {len(rows) - 8} more" if len(rows) > 8 else ""
    raise TrainingError(
        f"the loss or gradient of step {line['step']} is not finite; its rows (prompt ids): "
        f"{', '.join(rows[:8])}{more}. Look at them, lower learning_rate, or train in float32. "
        "Nothing was saved after it."
    )
