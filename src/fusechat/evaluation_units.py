"""The units of an evaluation: tasks with one grader, and published benchmarks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusechat.digests import digest
from fusechat.evaluate_checks import evaluated_models
from fusechat.files import read_json
from fusechat.parts import Source, load_part, part_class
from fusechat.settings import settings_key
from fusechat.stages.benchmark_units import AGAIN, JUDGE, TURN_2
from fusechat.stages.entries import AnnotatorEntry, PromptsEntry, SourceEntry
from fusechat.stages.evaluate_settings import EvaluateSettings, EvaluateTask
from fusechat.tasks._benchmark import Benchmark, Family, JudgedBenchmark
from fusechat.training_units import unit_of

if TYPE_CHECKING:
    from fusechat.planner import Entry
    from fusechat.recipe import Recipe

COMPARE = "evaluate/compare"
_PLACE = ("model", "dtype")
"""Settings of a source that are not how it samples."""


def evaluation_entries(recipe: Recipe) -> Iterator[Entry]:
    """All units of `evaluate`, in an order in which they can run."""
    evaluation = recipe.evaluate
    assert evaluation is not None
    gathered: list[str] = []
    for task in evaluation.tasks:
        for entry in _task_entries(recipe, task):
            gathered.append(entry[0])
            yield entry
    settings: dict[str, Any] = {"models": evaluated_models(recipe)}
    if win_rates := {t.name: found for t in evaluation.tasks if (found := t.compared())}:
        settings["win_rates"] = win_rates
    rows: dict[str, Any] = {}
    for asked in evaluation.benchmarks:
        row = _Row.of(recipe, asked)
        rows[asked.name] = row.said()
        for entry in row.entries() if row.skipped is None else ():
            gathered.append(entry[0])
            yield entry
    if rows:
        settings |= {"benchmarks": rows, "profile": evaluation.profile}
    yield COMPARE, "compare", settings, tuple(gathered)


def test_sets(evaluation: EvaluateSettings) -> tuple[EvaluateTask, ...]:
    """The tasks whose items are here."""
    there = [t for t in evaluation.benchmarks if t.task.missing() is None]  # type: ignore[attr-defined]
    return (*evaluation.tasks, *there)


def _task_entries(recipe: Recipe, task: EvaluateTask) -> Iterator[Entry]:
    """A task with one grader."""
    assert recipe.evaluate is not None
    top = f"evaluate/{task.name}"
    prompts = PromptsEntry(part=task.task, split=task.split, take=task.take, domain=task.domain)
    yield f"{top}/prompts", "prompts", {task.name: prompts}, ()
    annotator = AnnotatorEntry(part=task.grader())
    for model in evaluated_models(recipe):
        part = answering(recipe, model, recipe.evaluate.sampling(task))
        needed = _needed(f"{top}/prompts", model)
        yield f"{top}/{model}/sample", "sample", SourceEntry(part=part, samples=1), needed
        inputs = (f"{top}/prompts", f"{top}/{model}/sample")
        yield f"{top}/{model}/annotate", "annotate", annotator, inputs


def _needed(prompts: str, model: str) -> tuple[str, ...]:
    trained = unit_of(model)
    return (prompts, trained) if trained else (prompts,)


def answering(recipe: Recipe, model: str, sampling: Mapping[str, Any]) -> Source:
    """The source part with which a model answers: its own, sampled as `sampling` says.

    What it has no setting for is left out.
    """
    evaluation = recipe.evaluate
    assert evaluation is not None
    part = evaluation.own_models().get(model)
    if part is None and model in recipe.sources:
        part = recipe.sources[model].part
    if part is not None:
        known = {name: v for name, v in sampling.items() if name in type(part).model_fields}
        return part.model_copy(update=known)
    name = recipe.target.model if model == "target" and recipe.target else model
    here = {"use": "hf", "dtype": evaluation.dtype, "context": evaluation.context}
    settings: dict[str, Any] = {**(evaluation.serve_with or here), "model": name}
    fields = part_class("sources", settings["use"]).model_fields
    known = {name: value for name, value in sampling.items() if name in fields}
    found = load_part("sources", settings | known)
    assert isinstance(found, Source)
    return found


def family_of(recipe: Recipe) -> Family | None:
    """Whose prompts and decoding are used: as the recipe says, else by the first model's config;
    None where that does not tell."""
    evaluation = recipe.evaluate
    assert evaluation is not None
    if evaluation.family is not None:
        return evaluation.family
    first = next(iter(evaluated_models(recipe)))
    named = evaluation.own_models().get(first)
    if named is None and first in recipe.sources:
        named = recipe.sources[first].part
    model = getattr(named, "model", None) or (recipe.target.model if recipe.target else "")
    path = Path(str(model)) / "config.json"
    kind = str(read_json(path).get("model_type", "")) if path.is_file() else str(model)
    found: list[Family] = [one for one in ("llama", "qwen", "gemma") if one in kind.lower()]
    return found[0] if found else None


@dataclass(frozen=True)
class _Row:
    """One benchmark of the evaluation, with what is wanted of it settled."""

    recipe: Recipe
    asked: EvaluateTask
    task: Benchmark
    judge: Source | None
    skipped: str | None
    unlike: tuple[str, ...]
    """How the models are asked otherwise than the paper has it."""

    @classmethod
    def of(cls, recipe: Recipe, asked: EvaluateTask) -> _Row:
        evaluation = recipe.evaluate
        assert evaluation is not None
        assert isinstance(asked.task, Benchmark)
        family = family_of(recipe)
        task = asked.task.model_copy(update={"family": family or "llama"})
        judge = evaluation.judge_of(asked) if isinstance(task, JudgedBenchmark) else None
        skipped = task.missing()
        if skipped is None and isinstance(task, JudgedBenchmark) and judge is None:
            skipped = "no judge is given. Add 'judge: {use: endpoint, model: ..., base_url: ...}'."
        sources = {model: answering(recipe, model, {}) for model in evaluated_models(recipe)}
        unlike: list[str] = []
        if family is None:
            unlike.append("the family of the models is not known (set evaluate.family: llama here)")
        if "prefill" in type(task).model_fields:
            without = [model for model, part in sources.items() if not part.prefills()]
            if without:
                task = task.model_copy(update={"prefill": False})
                unlike.append(f"no answer is begun: {', '.join(without)} cannot go on with one")
        row = cls(recipe, asked, task, judge, skipped, ())
        unlike += [] if skipped else row._unlike(sources)
        return replace(row, unlike=tuple(unlike))

    def said(self) -> dict[str, Any]:
        """What evaluate/compare gets to know."""
        judged = isinstance(self.task, JudgedBenchmark)
        return {
            "part": self.task,
            "take": self.asked.take,
            "skipped": self.skipped,
            "judge": self.judge.served_model() if self.judge and judged else None,
            "notes": [] if self.skipped else self.task.notes(),
            "unlike": list(self.unlike),
            "settings": {} if self.skipped else self._hashes(),
        }

    def entries(self) -> Iterator[Entry]:
        """Its units, for all models."""
        top = f"evaluate/{self.asked.name}"
        prompts = PromptsEntry(part=self.task, split=self.task.splits[0], take=self.asked.take)
        yield f"{top}/prompts", "prompts", {self.asked.name: prompts}, ()
        for model in evaluated_models(self.recipe):
            yield from self._of_model(f"{top}/prompts", f"{top}/{model}", model)

    def _of_model(self, prompts: str, top: str, model: str) -> Iterator[Entry]:
        samples = dict(self._samples(model))
        for suffix, entry in samples.items():
            yield f"{top}/sample{suffix}", "sample", entry, _needed(prompts, model)
        answered = (prompts, *(f"{top}/sample{suffix}" for suffix in samples))
        if self.task.turns > 1:
            second = f"{top}/{TURN_2}/prompts"
            yield second, "next_turn", self.task.turns, answered
            for suffix, entry in samples.items():
                yield f"{top}/{TURN_2}/sample{suffix}", "sample", entry, _needed(second, model)
            answered += (second, *(f"{top}/{TURN_2}/sample{suffix}" for suffix in samples))
        if isinstance(self.task, JudgedBenchmark):
            yield from self._judged(top, answered)
            return
        graders = self.task.graders()
        names = {"": graders.get("robust") or graders["paper"]}
        if len(graders) > 1:
            names["@paper"] = graders["paper"]
        for suffix, settings in names.items():
            grader = AnnotatorEntry.model_validate(settings)
            yield f"{top}/annotate{suffix}", "annotate", grader, answered

    def _judged(self, top: str, answered: tuple[str, ...]) -> Iterator[Entry]:
        assert isinstance(self.task, JudgedBenchmark)
        assert self.judge is not None
        fields = type(self.judge).model_fields
        decoding = {n: v for n, v in self.task.judge_decoding().items() if n in fields}
        judge = SourceEntry(part=self.judge.model_copy(update=decoding), samples=1)
        read = answered
        for name, kind in ((JUDGE, "judge_prompts"), (AGAIN, "judge_again")):
            unit = f"{top}/{name}"
            yield f"{unit}/prompts", kind, self.task, read  # type: ignore[misc]
            yield f"{unit}/sample", "sample", judge, (f"{unit}/prompts",)
            read += (f"{unit}/prompts", f"{unit}/sample")
        yield f"{top}/annotate", "verdicts", self.task, read

    def _samples(self, model: str) -> Iterator[tuple[str, SourceEntry]]:
        """What stands behind `sample` in the name of each sampling unit -> its entry."""
        assert self.recipe.evaluate is not None
        sampling = self.recipe.evaluate.sampling(self._settled())
        count = self.task.samples()
        by_temperature: dict[float, list[str]] = {}
        if self.asked.temperature is None:
            for domain, temperature in self.task.temperatures().items():
                by_temperature.setdefault(temperature, []).append(domain)
        if not by_temperature:
            part = answering(self.recipe, model, sampling)
            yield "", SourceEntry(part=part, samples=count)
        for temperature, domains in sorted(by_temperature.items()):
            part = answering(self.recipe, model, sampling | {"temperature": temperature})
            wanted = dict.fromkeys(domains, count)
            yield f"@{temperature:g}", SourceEntry(part=part, samples=wanted)

    def _settled(self) -> EvaluateTask:
        return self.asked.model_copy(update={"task": self.task})

    def _hashes(self) -> dict[str, str]:
        """Model -> digest of all that decides its row beside the model itself."""
        judge = self.judge.digest() if self.judge else None
        graders = {
            name: load_part("annotators", one).digest() for name, one in self.task.graders().items()
        }
        common = [self.task.key(), graders, judge, self.asked.take]
        found = {}
        for model in evaluated_models(self.recipe):
            how = [
                [name, entry.part.part_name() == "given", _how(entry.part), entry.samples]
                for name, entry in self._samples(model)
            ]
            found[model] = digest([common, how])
        return found

    def _unlike(self, sources: Mapping[str, Source]) -> Iterator[str]:
        """Settings that are not the paper's, and those that a source does not have."""
        assert self.recipe.evaluate is not None
        paper = self.task.decoding()
        asked = self.recipe.evaluate.sampling(self._settled())
        by_category = self.asked.temperature is not None and self.task.temperatures()
        if by_category:
            told = self.asked.temperature
            yield f"temperature is {told} throughout, and by category in the paper"
        for name, value in asked.items():
            if value != paper.get(name) and not (by_category and name == "temperature"):
                yield f"{name} is {value}, and {paper.get(name)} in the paper"
        for model, part in sources.items():
            if missing := [name for name in asked if name not in type(part).model_fields]:
                yield f"{model} has no setting for {', '.join(missing)}"


def _how(part: Source) -> Any:
    known = settings_key(part)
    return {name: value for name, value in known.items() if name not in _PLACE}
