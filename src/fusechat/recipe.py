"""A recipe: what to fuse, in the order in which it happens.

`load_recipe` reads YAML and reports all faults at once, each with its line and its mend. Only
names that entries give each other are looked at later: when each entry is well formed.
Where and how fast it runs is in a second small file (`Cluster`), which enters no key.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from fusechat.errors import Fault, RecipeError
from fusechat.methods import Method
from fusechat.parts import ModelName, Part, Where
from fusechat.recipe_checks import cross_faults
from fusechat.recipe_file import RecipeFile, faults_of, near
from fusechat.stages.build_settings import BuildSettings, DomainRule
from fusechat.stages.decontaminate import DecontaminateSettings
from fusechat.stages.describe import DescribeSettings
from fusechat.stages.entries import AnnotatorEntry, PromptsEntry, SourceEntry
from fusechat.stages.evaluate import EvaluateSettings
from fusechat.stages.train_settings import DpoSettings, SftSettings


class Target(BaseModel):
    """The compact model that the others are fused into."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: ModelName
    """A model folder relative to the recipe, or a hub name; already instruction-tuned."""


class TrainSettings(BaseModel):
    """The two training stages; either may be left out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sft: SftSettings | None = None
    dpo: DpoSettings | None = None


Name = Annotated[str, Field(pattern=r"^\w[\w.-]*$", max_length=60)]
"""A name that becomes a folder: letters, digits, `_`, `-` and `.` of any script."""


class Recipe(BaseModel):
    """Everything that decides the result, and nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Names the run's folder and its report."""
    seed: int = Field(default=42, ge=0)
    target: Target | None = None
    prompts: dict[Name, PromptsEntry] = {}
    sources: dict[Name, SourceEntry] = {}
    """What is fused; a recipe without both only evaluates."""
    describe: DescribeSettings | None = None
    """What is said of the responses as texts; null: nothing."""
    decontaminate: DecontaminateSettings | None = None
    """Which benchmarks are kept out of the training rows; null: none is looked for."""
    annotators: dict[Name, AnnotatorEntry] = {}
    build: BuildSettings | None = None
    train: TrainSettings = TrainSettings()
    evaluate: EvaluateSettings | None = None
    methods: dict[Name, Method] = {}
    """Other ways to learn from the same pool, by name: `--method NAME`, `fusechat compare`."""
    max_error_share: float = Field(default=0.01, ge=0, le=1)
    """A unit with a larger share of failed rows stops."""
    _text: str = PrivateAttr(default="")

    @model_validator(mode="after")
    def _something_to_do(self) -> Recipe:
        if bool(self.prompts) != bool(self.sources):
            missing = "sources" if self.prompts else "prompts"
            raise ValueError(f"'{missing}' is needed, and is not there, or is empty.")
        if not self.prompts and self.evaluate is None:
            raise ValueError("give 'prompts' and 'sources', or 'evaluate' with models of its own.")
        return self

    @property
    def text(self) -> str:
        """The YAML that it was read from, with what was set; empty where it was not read."""
        return self._text


class RayCluster(BaseModel):
    """The Ray cluster that row-wise units are mapped over."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str = "auto"
    """Of a running cluster (`auto`: the one of this machine), or `local` to start one here."""
    actors: int | None = Field(default=None, ge=1)
    """Actors per unit; without it as many as the cluster's resources hold."""
    max_restarts: int = Field(default=3, ge=0)
    """How often a dead actor is started again before its rows go to the others."""


class Cluster(BaseModel):
    """Where and how fast: defaults for all units, and by unit name (`sample/gemma`, `train`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    executor: Literal["local", "ray"] = "local"
    """What computes row-wise units: processes of this machine, or actors of a Ray cluster."""
    ray: RayCluster = RayCluster()

    default: Where = Where()
    units: dict[str, Where] = {}

    def where(self, unit: str) -> Where:
        """The most specific entry for a unit: its name (without `@source`), `judge` of a judge's
        answers, its stage, or the default."""
        steps = unit.split("/")
        judge = ["judge"] if steps[0] == "evaluate" and "judge" in steps[3:] else []
        for name in (unit, unit.partition("@")[0], *judge, steps[0]):
            if name in self.units:
                return self.units[name]
        return self.default


STAGE_NAMES = ("prompts", "sample", "describe", "decontaminate", "annotate", "build",
               "source_logps", "train", "select", "evaluate", "judge")  # fmt: skip
ENTRIES: dict[str, type[PromptsEntry | SourceEntry | AnnotatorEntry]] = {
    "prompts": PromptsEntry,
    "sources": SourceEntry,
    "annotators": AnnotatorEntry,
}


def load_recipe(
    path: str | Path, set: Mapping[str, Any] | None = None, method: str | None = None
) -> Recipe:
    """Read a recipe; `set` changes single keys (`{"build.chat.dpo.min_margin": 0.02}`).

    `method`: one of the recipe's `methods`, in place of the recipe as it stands. Raises
    `RecipeError` with all faults that can be seen without running anything.
    """
    recipe, faults, _ = read_recipe(Path(path), set, method)
    if faults or recipe is None:
        raise RecipeError(faults)
    return recipe


def read_recipe(
    path: Path, settings: Mapping[str, Any] | None = None, method: str | None = None
) -> tuple[Recipe | None, list[Fault], RecipeFile]:
    """The recipe (None where its form is wrong), all its faults, and the file."""
    file = RecipeFile(path, settings, method=method)
    _name_parts(file.tree)
    faults = [*file.faults, *_form_faults(file)]
    if method is not None:
        file.tree.pop("methods", None)
    if faults:
        found = list(_entry_faults(file))
    else:
        recipe = Recipe.model_validate(file.tree, context={"base": path.resolve().parent})
        recipe._text = recipe_text(file)
        found = [*_entry_faults(file), *_part_faults(recipe), *cross_faults(recipe)]
    told = [file.fault(file.real_path(where), message) for where, message in found]
    known = [fault for fault in (*faults, *told) if fault.key not in file.waiting]
    return None if faults else recipe, _sorted(known), file


def load_cluster(path: str | Path | None, units: Collection[str] | None = None) -> Cluster:
    """Read a cluster file; None is this machine with the defaults.

    `units`: names of the plan's units; an entry for none of them, nor for a stage, is a fault.
    """
    if path is None:
        return Cluster()
    file = RecipeFile(Path(path), what="cluster file")
    try:
        cluster = Cluster.model_validate(file.tree)
    except ValidationError as error:
        raise RecipeError(faults_of(file, error, (), Cluster)) from error
    known = {*(units or ()), *STAGE_NAMES}
    faults = [
        file.fault(("units", name), f"the plan has no unit '{name}'. {near(name, sorted(known))}")
        for name in (cluster.units if units is not None else ())
        if name not in known
    ]
    if faults:
        raise RecipeError(faults)
    return cluster


def recipe_text(file: RecipeFile) -> str:
    """The recipe as run: its own text where nothing was set, else the tree with what was."""
    changed = file.method is not None or any(line == 0 for line in file.lines.values())
    if not changed and "variables" not in file.text:
        return file.text
    return str(yaml.safe_dump(file.tree, sort_keys=False, allow_unicode=True))


def _name_parts(tree: dict[str, Any]) -> None:
    """An entry without `use` uses the part of its own name: `armorm: {}`."""
    for section in ("describe", "decontaminate"):
        if section in tree and tree[section] is None:
            tree[section] = {}  # like `armorm:`, the section alone asks for its defaults
    for section in ENTRIES:
        entries = tree.get(section)
        if not isinstance(entries, dict):
            continue
        for name, entry in entries.items():
            if entry is None:
                entries[name] = {"use": name}
            elif isinstance(entry, dict) and "use" not in entry:
                entries[name] = {"use": name, **entry}


def _form_faults(file: RecipeFile) -> list[Fault]:
    """What is wrong with the form of any section or entry."""
    try:
        Recipe.model_validate(file.tree, context={"base": file.path.resolve().parent})
    except ValidationError as error:
        return faults_of(file, error, (), Recipe)
    return []


def _entry_faults(file: RecipeFile) -> Iterator[tuple[tuple[Any, ...], str]]:
    """What the parts of well-formed entries say against themselves, whatever else is wrong."""
    base = {"base": file.path.resolve().parent}
    for section, kind in ENTRIES.items():
        entries = file.tree.get(section)
        for name, entry in entries.items() if isinstance(entries, dict) else ():
            try:
                part = kind.model_validate(entry, context=base).part
            except ValidationError:
                continue  # told with the form
            for key, message in _own_faults(part):
                yield (section, name, *key), message
    rules = file.tree.get("build")
    for domain, entry in rules.items() if isinstance(rules, dict) else ():
        try:
            strategies = DomainRule.model_validate(entry, context=base).strategies()
        except ValidationError:
            continue  # told with the form
        for table, strategy in strategies.items():
            for key, message in _own_faults(strategy):
                yield ("build", domain, table, *key), message


def _part_faults(recipe: Recipe) -> Iterator[tuple[tuple[Any, ...], str]]:
    """What the parts of test sets, evaluation and training say against themselves."""
    for name, entry in recipe.prompts.items():
        for index, held_out in enumerate(
            entry.decontaminate.against if entry.decontaminate else ()
        ):
            for key, message in _own_faults(held_out.part):
                yield ("prompts", name, "decontaminate", "against", index, *key), message
    if recipe.evaluate is not None:
        for section in ("tasks", "benchmarks"):
            for index, task in enumerate(getattr(recipe.evaluate, section)):
                for key, message in _own_faults(task.task):
                    yield ("evaluate", section, index, *key), message
                for key, message in _own_faults(task.graded_by):
                    yield ("evaluate", section, index, "graded_by", *key), message
        judges: dict[tuple[str, ...], Part | None] = {("judge",): recipe.evaluate.judge}
        judges |= {("judges", name): part for name, part in recipe.evaluate.judges.items()}
        judges |= {("models", name): part for name, part in recipe.evaluate.own_models().items()}
        for where, part in judges.items():
            for key, message in _own_faults(part):
                yield ("evaluate", *where, *key), message
    for stage in ("sft", "dpo"):
        settings = getattr(recipe.train, stage)
        for key, message in _own_faults(settings.loss if settings else None):
            yield ("train", stage, "loss", *key), message


def _own_faults(part: Part | None) -> Iterator[tuple[tuple[str, ...], str]]:
    """A part's faults; one that raises instead of telling is a fault itself."""
    if part is None:
        return
    try:
        for key, message in part.faults():
            yield tuple(key.split(".")), message
    except Exception as error:  # noqa: BLE001 - a part may be anyone's; its error is shown
        reason = f"{type(error).__name__}: {error}"
        yield (), f"the part '{part.part_name()}' failed in faults(): {reason}. Mend the part."


def _sorted(faults: list[Fault]) -> list[Fault]:
    def order(fault: Fault) -> tuple[str, int, str]:
        name, _, line = fault.place.rpartition(":")
        return name, int(line) if line.isdigit() else 0, fault.key

    return sorted(dict.fromkeys(faults), key=order)
