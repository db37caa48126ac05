"""What a recipe says under `evaluate`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic.functional_validators import BeforeValidator

from fusechat.local_models import Dtype
from fusechat.parts import SPEED, Annotator, AnnotatorPart, Source, SourcePart, TaskPart, load_part
from fusechat.settings import resolve_path
from fusechat.tasks._benchmark import Benchmark, Family, Profile

FOURTEEN = (
    "alpaca_eval_2", "arena_hard", "mt_bench", "align_bench", "gsm8k", "math", "amc23",
    "live_bench", "mmlu_pro", "mmlu_redux", "gpqa_diamond", "humaneval", "mbpp", "live_code_bench",
)  # fmt: skip
"""The benchmarks of FuseChat-3.0, in the order of its table."""


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


def _by_form(value: Any) -> str:
    return "named" if isinstance(value, Mapping) else "listed"


def _sources(models: Any, common: Mapping[str, Any]) -> Any:
    """A model alone is one that runs here, as the evaluation says."""
    if not isinstance(models, Mapping):
        return models
    here = {name: common[name] for name in ("dtype", "context") if common.get(name) is not None}
    return {
        name: {"use": "hf", "model": one, **here} if isinstance(one, str) else one
        for name, one in models.items()
    }


Models = Annotated[
    Annotated[tuple[str, ...], Tag("listed")] | Annotated[dict[str, SourcePart], Tag("named")],
    Discriminator(_by_form),
]


class EvaluateSettings(BaseModel):
    """The recipe's `evaluate`: which models answer which tasks, and how they are sampled."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: tuple[EvaluateTask, ...] = ()
    benchmarks: tuple[EvaluateTask, ...] = ()
    """Published benchmarks: `all` (those of FuseChat-3.0), or names and entries as under `tasks`.
    Prompts, decoding and grading are the paper's; one whose data are not there is skipped, with
    the reason."""
    models: Models | None = None
    """`target`, `train.sft`, `train.dpo` or names of sources; all that the recipe has where not
    given. Or any models by names of their own: `{base: org/name, ours: {use: endpoint, ...}}`."""
    max_new_tokens: int = Field(default=2048, ge=1)
    """A response is cut here, and a cut response counts as not solved in the strict reading.
    Benchmarks have bounds of their own; a lower one that is given here holds for them, too."""
    temperature: float = Field(default=0.0, ge=0.0)
    dtype: Dtype = "auto"
    """Number format of the target, before and after training; a source answers in its own."""
    context: int | None = Field(default=None, ge=1)
    """Most tokens of prompt and answer together, of the same models, in the place of what their
    configs say."""
    serve_with: dict[str, Any] | None = None
    """Settings of the source that runs the target before and after training, such as `{use: vllm,
    dtype: bfloat16}`; without them it is `hf`, in this process."""
    data_dir: Annotated[str | None, BeforeValidator(resolve_path), SPEED] = None
    """Folder of the benchmarks' files (docs/benchmarks-14.md)."""
    take: int | None = Field(default=None, ge=1)
    """At most so many prompts of each benchmark; its rows are then no whole benchmarks."""
    judge: SourcePart | None = None
    """What judges, such as `{use: endpoint, model: gpt-4-1106-preview, base_url: ...}`; without one
    the judged benchmarks are skipped."""
    judges: dict[str, SourcePart] = {}
    """Judges of single benchmarks, by name, in the place of `judge`."""
    profile: Profile = "paper"
    """Whose grading heads the table: FuseChat-3.0's, or the robust one. The other stands beside."""
    family: Family | None = None
    """Whose prompts and decoding are used; without it the family of the first model."""

    def sampling(self, task: EvaluateTask) -> dict[str, Any]:
        """How a task's prompts are answered: `temperature`, `max_new_tokens`, and what else a
        benchmark's paper says."""
        own = {
            name: value
            for name in ("temperature", "max_new_tokens")
            if (value := getattr(task, name)) is not None
        }
        if isinstance(task.task, Benchmark):
            asked = task.task.decoding()
            if "max_new_tokens" in self.model_fields_set:
                asked["max_new_tokens"] = min(self.max_new_tokens, asked["max_new_tokens"])
            return asked | own
        return {"temperature": self.temperature, "max_new_tokens": self.max_new_tokens} | own

    def everything(self) -> tuple[EvaluateTask, ...]:
        """All tasks, the benchmarks last."""
        return (*self.tasks, *self.benchmarks)

    def judge_of(self, task: EvaluateTask) -> Source | None:
        """What judges a task's responses; None where nothing is given."""
        return self.judges.get(task.name, self.judge)

    def model_names(self) -> tuple[str, ...] | None:
        """The models that are named; None where all are meant."""
        return None if self.models is None else tuple(self.models)

    def own_models(self) -> Mapping[str, Source]:
        """The models that stand here, and nowhere else in the recipe."""
        return self.models if isinstance(self.models, Mapping) else {}

    @model_validator(mode="before")
    @classmethod
    def _spelt_out(cls, value: Any) -> Any:
        """Names become entries, and what is said for all of them is said of each."""
        if not isinstance(value, Mapping):
            return value
        value = {**value, "models": _sources(value.get("models"), value)}
        asked = value.get("benchmarks")
        if asked == "all":
            asked = list(FOURTEEN)
        if not isinstance(asked, (list, tuple)):
            return value
        common = {name: value[name] for name in ("data_dir", "take") if value.get(name) is not None}
        entries = [{"use": one} if isinstance(one, str) else one for one in asked]
        found = [{**common, **one} if isinstance(one, Mapping) else one for one in entries]
        return {**value, "benchmarks": found}

    @model_validator(mode="after")
    def _names_differ(self) -> EvaluateSettings:
        if not self.everything():
            raise ValueError("name at least one task, or 'benchmarks: all'.")
        models = self.model_names() or ()
        for what, names in (("task", [t.name for t in self.everything()]), ("model", models)):
            twice = sorted(name for name, n in Counter(names).items() if n > 1)
            if twice:
                raise ValueError(
                    f"the {what} '{twice[0]}' is there twice. Give each its own 'name:'."
                    if what == "task"
                    else f"the model '{twice[0]}' is there twice. Name each model once."
                )
        for task in self.benchmarks:
            if not isinstance(task.task, Benchmark):
                raise ValueError(f"'{task.name}' is no published benchmark. Put it under 'tasks'.")
        return self
