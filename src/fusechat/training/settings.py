"""What a training unit is asked to do, in the words of Hugging Face's trainers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fusechat.losses.length_normalized_dpo import LengthNormalizedDpo
from fusechat.losses.sft import Sft
from fusechat.parts import SPEED, LossPart

_LOG = logging.getLogger(__name__)


class TrainingSettings(BaseModel):
    """Full fine-tuning with AdamW. Defaults are FuseChat-3.0's where it states a value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    consumes: ClassVar[Literal["Demonstration", "Pair"]]
    """Row type of the table that is trained on."""

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
    gradient_checkpointing: Annotated[bool, SPEED] = False
    """Computes activations again instead of keeping them: slower, with far less memory."""

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
        if self.loss.consumes != self.consumes:
            raise ValueError(
                f"the loss '{self.loss.part_name()}' learns from {self.loss.consumes} rows, and "
                f"this stage has {self.consumes} rows. Choose a loss for those."
            )
        return self


class SftSettings(TrainingSettings):
    """Supervised fine-tuning. Defaults: FuseChat-3.0's for Llama-3.1-8B-Instruct."""

    consumes: ClassVar[Literal["Demonstration", "Pair"]] = "Demonstration"

    loss: LossPart = Sft()
    learning_rate: float = Field(default=5e-6, gt=0)
    num_train_epochs: float = Field(default=3.0, gt=0)


class DpoSettings(TrainingSettings):
    """Preference optimization. Defaults: FuseChat-3.0's for Llama-3.1-8B-Instruct."""

    consumes: ClassVar[Literal["Demonstration", "Pair"]] = "Pair"

    loss: LossPart = LengthNormalizedDpo()
    learning_rate: float = Field(default=8e-7, gt=0)
    num_train_epochs: float = Field(default=1.0, gt=0)
