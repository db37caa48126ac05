"""`engine: trl`: the same rows, order and hyperparameters, trained by TRL's own trainers.

TRL (1.16 and later) gets the token ids that our engines get, in the order of `epoch_order`, with
its own padded batches, head, optimizer loop and checkpoints. It is the oracle of our steps (loss
curves agree to rounding) and their peer in benchmarks. Differences that stay, all TRL's: a
micro-batch is averaged before the step is, so that rows of a last, smaller one count for more;
rewards of `sigmoid_norm` are logged per response, not per token.
"""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusechat.digests import digest
from fusechat.errors import MissingExtraError, TrainingError
from fusechat.files import read_json, write_json
from fusechat.training._trl_parts import dataset_of, make_recorder, make_trainer
from fusechat.training.batches import PADDED_TOKENS
from fusechat.training.checkpoints import read_finished, save_model, write_finished
from fusechat.training.memory_plan import plan_memory
from fusechat.training.metrics import MetricsLog
from fusechat.training.models import load_model, publish
from fusechat.training.ranks import Ranks, find_ranks
from fusechat.training.reference import read_reference, rows_digest, write_reference
from fusechat.training.schedule import Schedule

if TYPE_CHECKING:
    import torch

    from fusechat.stages.train_settings import TrainingSettings
    from fusechat.training.loop import Job

TRL_LOSSES = {
    "sft": "nll", "dpo": "sigmoid", "length_normalized_dpo": "sigmoid_norm", "ipo": "ipo",
}  # fmt: skip
"""Our losses that TRL has, and the names that it gives them."""


def trl_faults(settings: TrainingSettings) -> Iterator[tuple[str, str]]:
    """Settings that TRL cannot follow, as (key below the stage, message with the mend)."""
    loss = settings.loss
    if loss.part_name() not in TRL_LOSSES:
        yield (
            "loss",
            (
                f"TRL has no loss '{loss.part_name()}'. With engine: trl take one of "
                f"{', '.join(TRL_LOSSES)}; or engine: packed, which has them all."
            ),
        )
        return
    for name, field in getattr(type(loss), "model_fields", {}).items():
        if name != "beta" and getattr(loss, name) != field.get_default(call_default_factory=True):
            yield f"loss.{name}", f"TRL does not know '{name}'. Leave it out, or engine: packed."


def train_with_trl(job: Job) -> dict[str, Any]:
    """Train `job` by TRL, going on from its newest whole checkpoint; returns what `train` does.

    Raises `TrainingError` where TRL cannot do what is asked, a checkpoint is of another run, or
    a loss is not finite; `MissingExtraError` without trl.
    """
    finished = read_finished(job.folder, _run(job))
    if finished is not None:
        return finished
    ranks = find_ranks(job.where)
    _refuse(job, ranks)
    schedule = Schedule.of(job.settings, len(job.examples))
    begun = _newest(job, ranks)
    trainer = trl_trainer(job, reference=_known_reference(job, ranks))
    _keep_reference(job, trainer, ranks)
    recorder = make_recorder(job, ranks, schedule, trainer)
    trainer.add_callback(recorder)
    if ranks.main:
        recorder.log.start(begun[1] if begun else 0)
    recorder.begin(begun[1] if begun else 0)
    try:
        trainer.train(resume_from_checkpoint=str(begun[0]) if begun else None)
        _publish_model(job, trainer, ranks)
        _name_like_ours(job.folder / "checkpoints", ranks)
    finally:
        recorder.end()
    final = MetricsLog(job.folder / "metrics.jsonl").last_means()
    epochs = job.settings.num_train_epochs
    counts: dict[str, Any] = {"steps": schedule.total, "epochs": epochs, "final": final}
    if ranks.main:
        write_finished(job.folder, _run(job), counts)
    ranks.wait()
    return counts


def _run(job: Job) -> Any:
    """What a checkpoint must be of, as in `loop`."""
    return {"settings": job.identity, "seed": job.seed, "rows": rows_digest(job.examples)}


def trl_trainer(
    job: Job, *, reference: torch.Tensor | None = None, model: Any = None, **arguments: Any
) -> Any:
    """TRL's trainer for `job`: an `SFTTrainer` or a `DPOTrainer` over the job's token ids.

    `reference`: nats `[rows, sides]`, where known; without it TRL makes them before training.
    `model`: in place of the one in `job.base`. `arguments`: over those that the job's settings
    give, in TRL's names (`per_device_train_batch_size=8`, `gradient_checkpointing=True`); those of
    a micro-batch and of accumulation are to multiply to the job's `global_batch_size`.
    """
    trl = _import_trl()
    ranks = find_ranks(job.where)
    preference = len(job.examples[0].texts) == 2
    model = load_model(job.base, ranks.device) if model is None else model
    _without_dropout(model)
    config = trl.DPOConfig if preference else trl.SFTConfig
    given = {**_arguments(job, ranks), **arguments}
    if preference:
        beta = getattr(job.settings.loss, "beta", 0.1)
        kind = TRL_LOSSES[job.settings.loss.part_name()]
        given = {"loss_type": [kind], "beta": beta, "precompute_ref_log_probs": True, **given}
    args = config(**given)
    args._n_gpu = min(args.n_gpu, 1)  # one process, one device: no DataParallel
    made = make_trainer(trl.DPOTrainer if preference else trl.SFTTrainer, job)
    with _without_bars(), _rows(job, ranks, reference) as rows:
        trainer = made(
            model=model, args=args, processing_class=copy.deepcopy(job.tokenizer),
            train_dataset=rows, peft_config=_peft(job),
        )  # fmt: skip
    from transformers import PrinterCallback, ProgressCallback

    for shown in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(shown)
    return trainer


@contextmanager
def _rows(job: Job, ranks: Ranks, reference: torch.Tensor | None) -> Iterator[Any]:
    """The rows; of several ranks in a folder of theirs while TRL makes the reference's values,
    which its first rank hands to the others as a file beside them."""
    rows = dataset_of(job.examples, reference)
    if ranks.world == 1:
        yield rows
        return
    from datasets import load_from_disk

    folder = job.folder / "trl_rows"
    if ranks.main:
        rows.save_to_disk(str(folder))
    ranks.wait()
    try:
        yield load_from_disk(str(folder), keep_in_memory=False)
        ranks.wait()
    finally:
        if ranks.main:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _without_bars() -> Iterator[None]:
    """Inside, TRL draws no bar over its pass of the reference."""
    before = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TQDM_DISABLE"]
        else:
            os.environ["TQDM_DISABLE"] = before


def _import_trl() -> Any:
    try:
        import datasets
        import trl
    except ImportError as error:
        raise MissingExtraError("engine: trl", "trl", "trl") from error
    datasets.disable_progress_bars()
    return trl


def _refuse(job: Job, ranks: Ranks) -> None:
    faults = [message for _, message in trl_faults(job.settings)]
    if job.settings.global_batch_size % ranks.world:
        faults.append(
            f"global_batch_size {job.settings.global_batch_size} is no multiple of {ranks.world} "
            "ranks. Change one of them."
        )
    if job.where.sharding != "none":
        faults.append("TRL is not given a sharded model here. Take engine: packed, or no sharding.")
    if any(example.weight != 1 for example in job.examples):
        faults.append("TRL has no weights of rows, and some rows have one. Take engine: packed.")
    if faults:
        raise TrainingError(f"engine: trl cannot train this. {' '.join(faults)}")


def _arguments(job: Job, ranks: Ranks) -> dict[str, Any]:
    """The job's settings in the names of TRL's configurations."""
    settings, schedule = job.settings, Schedule.of(job.settings, len(job.examples))
    rows = settings.global_batch_size // ranks.world
    micro = micro_batch_rows(job, rows)
    kind = settings.lr_scheduler_type
    return {
        "output_dir": str(job.folder / "checkpoints"), "seed": job.seed % 2**32,
        "per_device_train_batch_size": micro, "gradient_accumulation_steps": rows // micro,
        "max_steps": schedule.total, "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "constant_with_warmup" if kind == "constant" else kind,
        "warmup_steps": schedule.warmup, "weight_decay": settings.weight_decay,
        "adam_beta1": settings.adam_beta1, "adam_beta2": settings.adam_beta2,
        "adam_epsilon": settings.adam_epsilon, "max_grad_norm": settings.max_grad_norm,
        "optim": "adamw_torch_fused", "max_length": None,
        "save_strategy": "steps", "save_steps": settings.save_steps,
        # It saves after the last step, too, and that must not take an older one's place.
        "save_total_limit": settings.save_total_limit + (schedule.total % settings.save_steps > 0),
        "bf16": settings.dtype == "bfloat16", "use_cpu": ranks.device.type == "cpu",
        "gradient_checkpointing": plan_memory(job, ranks).checkpointing,
        "logging_steps": 1, "logging_nan_inf_filter": False, "disable_tqdm": True,
        "report_to": "none",
    }  # fmt: skip


def micro_batch_rows(job: Job, rows: int) -> int:
    """Rows of a micro-batch, a divisor of this rank's `rows` of a step.

    The cluster file's `micro_batch_size`, else what fits into `PADDED_TOKENS`, padding included.
    """
    widest = max(example.longest for example in job.examples) * len(job.examples[0].texts)
    most = min(rows, job.where.micro_batch_size or max(1, PADDED_TOKENS // widest))
    return next(size for size in range(most, 0, -1) if rows % size == 0)


def _without_dropout(model: Any) -> None:
    """Our engines train without dropout; TRL only turns it off for preferences, and not all."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0


def _peft(job: Job) -> Any:
    lora = job.settings.lora
    if lora is None:
        return None
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise MissingExtraError("lora", "peft", "train") from error
    modules = lora.target_modules
    return LoraConfig(
        r=lora.r, lora_alpha=lora.lora_alpha,  # type: ignore[arg-type]
        lora_dropout=lora.lora_dropout,
        target_modules=modules if isinstance(modules, str) else list(modules),
        task_type="CAUSAL_LM",
    )  # fmt: skip


def _newest(job: Job, ranks: Ranks) -> tuple[Path, int] | None:
    """The newest whole checkpoint and its step; what a kill left half written is removed."""
    folder = job.folder / "checkpoints"
    mark = folder / "run.json"
    run = digest(_run(job))
    if mark.exists() and read_json(mark)["run"] != run:
        raise TrainingError(
            f"the checkpoints in {folder} are of a run with other rows or settings. "
            f"Remove {folder} to train from the start."
        )
    found = sorted((step_of(path), path) for path in checkpoint_folders(folder))
    if ranks.main:
        for path in folder.glob("checkpoint-*"):
            if path not in [whole for _, whole in found]:
                shutil.rmtree(path)
        if not mark.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            write_json(mark, {"run": run})
    ranks.wait()
    return (found[-1][1], found[-1][0]) if found and mark.exists() else None


def checkpoint_folders(folder: Path) -> list[Path]:
    """TRL's whole checkpoints below `folder`: those whose state, written last, can be read."""
    whole = []
    for path in folder.glob("*[0-9]"):
        state = path / "trainer_state.json"
        if state.is_file() and state.read_bytes().rstrip().endswith(b"}"):
            whole.append(path)
    return whole


def step_of(checkpoint: Path) -> int:
    """The step after which it was written: TRL calls it `checkpoint-100`, we `100`."""
    return int(checkpoint.name.rpartition("-")[2])


def _name_like_ours(folder: Path, ranks: Ranks) -> None:
    """Of a run that is over: a selection finds checkpoints by their steps."""
    if ranks.main:
        for path in checkpoint_folders(folder):
            path.rename(folder / str(step_of(path)))
    ranks.wait()


def _known_reference(job: Job, ranks: Ranks) -> torch.Tensor | None:
    if not job.settings.loss.needs_reference:
        return None
    return read_reference(job.folder / "reference", job.examples, ranks.device)


def _keep_reference(job: Job, trainer: Any, ranks: Ranks) -> None:
    """Keep what TRL made, so that a resumed run does not make it again."""
    import torch

    if not job.settings.loss.needs_reference or (job.folder / "reference").is_dir():
        return
    columns = [trainer.train_dataset[f"ref_{side}_logps"] for side in job.settings.loss.sides]
    made = torch.stack([torch.tensor(list(column), dtype=torch.float64) for column in columns], 1)
    if ranks.main:
        write_reference(job.folder / "reference", job.examples, made)
    ranks.wait()


def _publish_model(job: Job, trainer: Any, ranks: Ranks) -> None:
    if ranks.main:
        model = trainer.accelerator.unwrap_model(trainer.model)
        if hasattr(model, "merge_and_unload"):
            model = model.merge_and_unload()
        publish(
            job.folder / "model",
            lambda folder: save_model(folder, model, job.tokenizer),
            "train.model",
        )
    ranks.wait()
