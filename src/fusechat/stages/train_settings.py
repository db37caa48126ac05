"""What a training unit is asked to do, in the words of Hugging Face's trainers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from fusechat.losses.length_normalized_dpo import LengthNormalizedDpo
from fusechat.losses.sft import Sft
from fusechat.parts import SPEED, LossPart, RowType
from fusechat.settings import ELSEWHERE
from fusechat.stages.evaluate_settings import EvaluateTask

_LOG = logging.getLogger(__name__)


class LoraSettings(BaseModel):
    """Low-rank adapters in place of full fine-tuning, in the words of PEFT's `LoraConfig`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    r: int = Field(default=16, ge=1)
    lora_alpha: float = Field(default=32, gt=0)
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: str | tuple[str, ...] = "all-linear"


class WatchSettings(BaseModel):
    """What is looked at beside the training rows, at each checkpoint; it changes no weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompts: int = Field(default=16, ge=0)
    """Held-out prompts that the model answers, for the length of its answers and for how far it has
    moved (KL); as many answers to each as a row has sides. 0: none."""
    max_new_tokens: int = Field(default=512, ge=1)
    """Tokens at which such a response is cut."""
    steps: int | None = Field(default=None, ge=1)
    """Steps between two looks; null: `save_steps`."""


class SelectTask(EvaluateTask):
    """A task that candidates are compared by; its prompts are never those that are reported."""

    split: str = "dev"


class SelectSettings(BaseModel):
    """Which of the last checkpoints is taken as the trained model (FuseChat-3.0: the best of the
    last two; by what is not stated)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: Literal["held_out", "task", "last"] = "held_out"
    """The share of held-out pairs that it ranks right, then their loss; its mean value at `task`;
    or no choice: the state after the last step."""
    checkpoints: int = Field(default=2, ge=1)
    """So many of the newest states are compared."""
    final_state: Literal["auto", "always", "never"] = "auto"
    """Whether the state after the last step takes part where it is no checkpoint; `auto`: where
    fewer checkpoints than `checkpoints` are there, or at least half of `save_steps` lie after the
    last. Of 501 steps, saved every 100, it does not: (400, 500) are compared."""
    beyond_chance: bool = True
    """An earlier state is taken only where it is better beyond chance (at 95%), else the later
    one; false: wherever its number is better."""
    task: tuple[SelectTask, ...] = ()
    """What `by: task` compares on: one task or several, each with the same weight; sampled as
    `evaluate` says."""

    @model_validator(mode="before")
    @classmethod
    def _one_task(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and isinstance(data.get("task"), str | Mapping):
            return {**data, "task": (data["task"],)}
        return data

    @model_validator(mode="after")
    def _task_said(self) -> Self:
        if self.by == "task" and not self.task:
            raise ValueError("by: task needs one: 'task: {use: gsm8k, split: train, take: 100}'.")
        if self.task and self.by != "task":
            raise ValueError(f"'task' is only read with 'by: task', not with 'by: {self.by}'.")
        names = [task.name for task in self.task]
        if twice := sorted(name for name in names if names.count(name) > 1):
            raise ValueError(f"the task '{twice[0]}' is there twice. Give each its own 'name:'.")
        return self


def _as_names(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class TrainingSettings(BaseModel):
    """Full fine-tuning with AdamW. Defaults are FuseChat-3.0's where it states a value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    consumes: ClassVar[tuple[RowType, ...]]
    """Row types that the table which is trained on can have."""

    loss: LossPart
    learning_rate: float = Field(gt=0)
    """At the end of the warm-up, the highest there is."""
    num_train_epochs: float = Field(default=1.0, gt=0)
    """Passes over the rows; a fraction ends within one, at the next whole step."""
    global_batch_size: int = Field(default=128, ge=1)
    """Rows of one optimizer step over all ranks; so the number of GPUs changes no result."""
    max_length: int = Field(default=2048, ge=2)
    """Tokens of prompt and response together, for each response of a row."""
    max_prompt_length: int | None = Field(default=None, ge=1)
    """Rows whose prompt alone has more tokens are dropped and counted; null: no such limit."""
    over_length: Literal["drop", "truncate"] = "drop"
    """Longer rows are dropped and counted; or the end of a longer response is cut off, its
    end-of-turn token with it, and the row counted. A prompt that leaves no room is dropped."""
    lr_scheduler_type: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_steps: float = Field(default=0.1, ge=0)
    """Steps of linear warm-up; below 1 it is a share of all steps. `warmup_ratio` is read too."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled; not on biases and norms."""
    adam_beta1: float = Field(default=0.9, ge=0, lt=1)
    adam_beta2: float = Field(default=0.999, ge=0, lt=1)
    adam_epsilon: float = Field(default=1e-8, gt=0)
    max_grad_norm: float = Field(default=1.0, ge=0)
    """The gradient's norm is clipped to this; 0 does not clip."""
    save_steps: int = Field(default=100, ge=1)
    """Steps between two checkpoints."""
    save_total_limit: int = Field(default=2, ge=1)
    """Checkpoints kept, the newest ones."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """`bfloat16`: mixed precision over float32 weights; the head stays in float32."""
    engine: Literal["packed", "padded", "trl"] = "packed"
    """`packed`: rows without padding, each prompt once; `padded`: the plain path; `trl`: TRL's
    trainers on the same token ids, for the losses that it has."""
    share_prompts: Annotated[Literal["auto", "always", "never"], SPEED] = "auto"
    """Whether the responses of a row share one copy of their prompt; `auto`: where that pays."""
    gradient_checkpointing: Annotated[bool | Literal["auto"], SPEED] = "auto"
    """Computes activations again instead of keeping them: slower, with far less memory; `auto`:
    where the model would not fit the device without (docs/training.md)."""
    lora: LoraSettings | None = None
    """Adapters instead of full fine-tuning; they are merged into the model in the end."""
    seed: int | None = Field(default=None, ge=0)
    """Of the order of rows; null: the recipe's."""
    held_out: float = Field(default=0.0, ge=0, lt=1)
    """Share of the rows, by prompt, that are not trained on but looked at."""
    report_to: Annotated[tuple[str, ...], BeforeValidator(_as_names), SPEED] = ()
    """Trackers, as Hugging Face names them (`tensorboard`, `wandb`, ...), one or several; none by
    default."""
    watch: Annotated[WatchSettings, SPEED] = WatchSettings()

    @model_validator(mode="before")
    @classmethod
    def _read_warmup_ratio(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or "warmup_ratio" not in data:
            return data
        rest = dict(data)
        ratio = rest.pop("warmup_ratio")
        if "warmup_steps" in rest:
            raise ValueError("warmup_ratio and warmup_steps say the same thing; give warmup_steps.")
        if not isinstance(ratio, (int, float)) or not 0 <= ratio < 1:
            raise ValueError(f"warmup_ratio is a share from 0 to below 1, not {ratio}.")
        _LOG.warning("warmup_ratio is read as warmup_steps: %s (a share of all steps)", ratio)
        return {**rest, "warmup_steps": ratio}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.warmup_steps >= 1 and not float(self.warmup_steps).is_integer():
            raise ValueError(
                "warmup_steps is a share below 1 or a whole number of steps, "
                f"not {self.warmup_steps}."
            )
        if self.loss.consumes not in self.consumes:
            raise ValueError(
                f"the loss '{self.loss.part_name()}' learns from {self.loss.consumes} rows, and "
                f"this stage has {' or '.join(self.consumes)} rows. Choose a loss for those."
            )
        return self


class SftSettings(TrainingSettings):
    """Supervised fine-tuning. Defaults: FuseChat-3.0's for Llama-3.1-8B-Instruct."""

    consumes: ClassVar[tuple[RowType, ...]] = ("Demonstration",)

    loss: LossPart = Sft()
    learning_rate: float = Field(default=5e-6, gt=0)
    num_train_epochs: float = Field(default=3.0, gt=0)


class DpoSettings(TrainingSettings):
    """Preference optimization. Defaults: FuseChat-3.0's for Llama-3.1-8B-Instruct."""

    consumes: ClassVar[tuple[RowType, ...]] = ("Pair", "Triple")

    loss: LossPart = LengthNormalizedDpo()
    learning_rate: float = Field(default=8e-7, gt=0)
    num_train_epochs: float = Field(default=1.0, gt=0)
    held_out: float = Field(default=0.02, ge=0, lt=1)
    select: Annotated[SelectSettings, ELSEWHERE] = SelectSettings()
    """Of the unit `select/dpo`: what `train.dpo` means."""
