"""What a recipe says under `evaluate`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fusechat.local_models import Dtype
from fusechat.parts import Annotator, AnnotatorPart, TaskPart, load_part


class WinRate(BaseModel):
    """How a task's scores become win rates against one model's answers to the same prompts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    against: str = "target"
    """A model of the evaluation: `target`, `train.sft`, `train.dpo` or a source's name."""
    scale: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """The difference of scores that gives odds of e to 1; null: the higher score wins."""


class EvaluateTask(BaseModel):
    """One entry of `evaluate.tasks`: a task part's own settings beside the keys below."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^\w[\w.-]*$")
    """How the task is called in units and tables; the part's name where not given."""
    task: TaskPart
    split: str = "test"
    take: int | None = Field(default=None, ge=1)
    """At most so many prompts, drawn with the recipe's seed; all where not given."""
    domain: str | None = None
    graded_by: AnnotatorPart | None = None
    """The annotator; the task's own where not given."""
    temperature: float | None = Field(default=None, ge=0.0)
    """That of the whole evaluation where not given."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """That of the whole evaluation where not given."""
    win_rate: WinRate | None = None
    """Compare responses with another model's, on any scale of scores; null: the scores are
    shares in [0, 1], and the task has an accuracy. As the task says where not given."""

    def compared(self) -> WinRate | None:
        """The comparison that is wanted, by the recipe or else by the task.

        Raises `ValidationError` where the task's own is none.
        """
        if "win_rate" in self.model_fields_set:
            return self.win_rate
        said = self.task.compared()
        return None if said is None else WinRate.model_validate(said)

    def grader(self) -> Annotator:
        """What judges the responses: as the recipe says, or else the task."""
        if self.graded_by is not None:
            return self.graded_by
        found = load_part("annotators", self.task.graded_by() or {})
        assert isinstance(found, Annotator)
        return found

    @model_validator(mode="before")
    @classmethod
    def _from_recipe(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"use": value}
        if not isinstance(value, Mapping) or "use" not in value:
            return value
        keys = set(cls.model_fields) - {"task"}
        own = {k: v for k, v in value.items() if k in keys}
        part = {k: v for k, v in value.items() if k not in keys}
        return {"name": str(value["use"]).rpartition(":")[2], **own, "task": part}


class EvaluateSettings(BaseModel):
    """The recipe's `evaluate`: which models answer which tasks, and how they are sampled."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: tuple[EvaluateTask, ...] = Field(min_length=1)
    models: tuple[str, ...] | None = None
    """`target`, `train.sft`, `train.dpo` or names of sources; all that the recipe has where not
    given."""
    max_new_tokens: int = Field(default=2048, ge=1)
    """A response is cut here, and a cut response counts as not solved in the strict reading."""
    temperature: float = Field(default=0.0, ge=0.0)
    dtype: Dtype = "auto"
    """Number format of the target, before and after training; a source answers in its own."""

    def sampling(self, task: EvaluateTask) -> dict[str, Any]:
        """How a task's prompts are answered: `temperature` and `max_new_tokens`."""
        return {
            name: getattr(self if getattr(task, name) is None else task, name)
            for name in ("temperature", "max_new_tokens")
        }

    @model_validator(mode="after")
    def _names_differ(self) -> EvaluateSettings:
        for what, names in (("task", [t.name for t in self.tasks]), ("model", self.models or ())):
            twice = sorted(name for name, n in Counter(names).items() if n > 1)
            if twice:
                raise ValueError(
                    f"the {what} '{twice[0]}' is there twice. Give each its own 'name:'."
                    if what == "task"
                    else f"the model '{twice[0]}' is there twice. Name each model once."
                )
        return self
