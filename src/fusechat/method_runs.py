"""A recipe's methods, each trained with several seeds on the recipe's one pool, side by side.

What methods have in common has the same keys and is made once; everything is safe to call again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fusechat.digests import digest
from fusechat.errors import EmptyError, Fault, RecipeError, TooManyErrorsError, TrainingError
from fusechat.evaluate_checks import evaluated_models
from fusechat.files import read_json, write_atomic, write_json
from fusechat.metrics import method_table
from fusechat.planner import KEY_SHOWN, Plan, plan
from fusechat.recipe import Cluster, Recipe, read_recipe, recipe_text
from fusechat.recipe_file import near
from fusechat.runner import Options, run, run_folder

SEEDS = (1, 2, 3)
FAILURES = (TrainingError, EmptyError, TooManyErrorsError)
"""What may be one method's own trouble: it is kept, and the other methods run."""


@dataclass(frozen=True)
class MethodRun:
    """One method with one training seed."""

    method: str
    seed: int
    recipe: Recipe
    text: str
    """The recipe as run, for the run's folder."""

    @property
    def model(self) -> str:
        """The model that the method ends with."""
        return "train.dpo" if self.recipe.train.dpo is not None else "train.sft"


@dataclass(frozen=True)
class Comparison:
    """What a comparison found; `found` is the content of `compare.json`."""

    folder: Path
    found: Mapping[str, Any] = field(repr=False)

    def __str__(self) -> str:
        return method_table.as_text(self.found)


def compare(
    path: str | Path,
    workspace: str | Path = "workspace",
    *,
    methods: Sequence[str] | None = None,
    seeds: Sequence[int] = SEEDS,
    set: Mapping[str, Any] | None = None,
    cluster: Cluster | None = None,
    options: Options | None = None,
    told: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Run methods of a recipe with each training seed, and compare what they end with.

    `methods`: names, the first is the one that others are held against; all in their order without
    it. `seeds`: of training alone (`train.sft.seed`, `train.dpo.seed`). `set`: as `load_recipe`
    takes it, for every method. Writes `compare.json` and `compare.md` into a folder of the
    workspace's `runs`, anew after each run. Raises `RecipeError` with the faults of all methods
    before anything runs.
    """
    base, runs = method_runs(Path(path), methods, seeds, set or {})
    folder = _folder(runs, Path(workspace), base)
    names = dict.fromkeys(one.method for one in runs)
    state: dict[str, Any] = {
        "recipe": base.name,
        "methods": {name: base.methods[name].model_dump() for name in names},
        "seeds": list(dict.fromkeys(seeds)),
        "others": {},
        "runs": [],
        "failed": [],
    }
    for number, one in enumerate(runs, 1):
        told(f"{one.method}, training seed {one.seed}: {number} of {len(runs)}")
        planned = plan(one.recipe, workspace)
        try:
            if not _done(planned):
                run(one.recipe, workspace, cluster=cluster, options=options, recipe_text=one.text)
        except FAILURES as error:
            told(f"{one.method}, training seed {one.seed}: {error}")
            state["failed"].append({"method": one.method, "seed": one.seed, "why": str(error)})
        else:
            _add(state, one, planned)
        _write(folder, state)
    return Comparison(folder, read_json(folder / "compare.json"))


def method_runs(
    path: Path, methods: Sequence[str] | None, seeds: Sequence[int], settings: Mapping[str, Any]
) -> tuple[Recipe, list[MethodRun]]:
    """The recipe as it stands, and all runs, seed after seed.

    Raises `RecipeError` with every fault of every method.
    """
    base, wrong, _ = read_recipe(path, settings)
    if wrong or base is None:
        raise RecipeError(wrong)
    names = list(dict.fromkeys(methods or base.methods))
    faults = list(_call_faults(path, base, names, seeds))
    recipes: dict[str, Recipe] = {}
    for name in () if faults else names:
        recipe, wrong, _ = read_recipe(path, settings, name)
        faults += [*wrong, *(_faults_of(path, name, recipe) if recipe and not wrong else ())]
        if recipe is not None:
            recipes[name] = recipe
    if faults:
        raise RecipeError(list(dict.fromkeys(faults)))
    return base, [
        _seeded(path, name, recipes[name], seed, settings)
        for seed in dict.fromkeys(seeds)
        for name in names
    ]


def _call_faults(
    path: Path, base: Recipe, names: Sequence[str], seeds: Sequence[int]
) -> Iterator[Fault]:
    if not base.methods:
        message = "the recipe has no section 'methods'. Add one: {mine: {set: {key: value}}}."
        yield Fault(str(path), "methods", message)
        return
    for name in names:
        if name not in base.methods:
            message = f"there is no method '{name}'. {near(name, list(base.methods))}"
            yield Fault("--methods", name, message)
    if not seeds:
        yield Fault("--seeds", "", "give at least one training seed, such as 1,2,3.")


def _faults_of(path: Path, name: str, recipe: Recipe) -> Iterator[Fault]:
    """A method that ends with no model, or with one that is not evaluated."""
    key = f"methods.{name}"
    if recipe.train.sft is None and recipe.train.dpo is None:
        yield Fault(str(path), key, "this method trains nothing. Leave it a stage under train.")
        return
    model = MethodRun(name, 0, recipe, "").model
    if recipe.evaluate is None:
        yield Fault(str(path), key, "there is no evaluation to compare by. Add 'evaluate:'.")
    elif not recipe.evaluate.tasks:
        message = "methods are compared by 'evaluate.tasks', and there are none. Add some."
        yield Fault(str(path), key, message)
    elif model not in evaluated_models(recipe):
        message = f"the model that it ends with, {model}, is not among evaluate.models. Add it."
        yield Fault(str(path), key, message)


def _seeded(
    path: Path, name: str, method: Recipe, seed: int, settings: Mapping[str, Any]
) -> MethodRun:
    stages = [stage for stage in ("sft", "dpo") if getattr(method.train, stage) is not None]
    own = {f"train.{stage}.seed": seed for stage in stages} | {"name": f"{method.name}-s{seed}"}
    recipe, faults, file = read_recipe(path, {**settings, **own}, name)
    if faults or recipe is None:
        raise RecipeError(faults)
    return MethodRun(name, seed, recipe, recipe_text(file))


def _folder(runs: Sequence[MethodRun], workspace: Path, base: Recipe) -> Path:
    what = [[one.method, one.seed, plan(one.recipe, workspace).key()] for one in runs]
    name = f"{base.name}-compare-{digest(what)[:KEY_SHOWN]}"
    return workspace.resolve() / "runs" / name


def _done(planned: Plan) -> bool:
    """Whether nothing is left to run, so that the run's page is written, too."""
    written = (run_folder(planned) / "report.html").exists()
    return written and all(one.state == "done" for one in planned.standings().values())


def _add(state: dict[str, Any], one: MethodRun, planned: Plan) -> None:
    metrics = read_json(planned.path(planned["evaluate/compare"]) / "metrics.json")
    after = "train.sft" in metrics["average"]["models"] and one.model != "train.sft"
    state["runs"].append(
        {
            "method": one.method,
            "seed": one.seed,
            "model": one.model,
            "run": run_folder(planned).name,
            "numbers": method_table.numbers_of(metrics, one.model),
            "sft": method_table.numbers_of(metrics, "train.sft") if after else None,
        }
    )
    if not state["others"]:
        known = {
            "base": "target",
            f"best source ({metrics['best_source']})": metrics["best_source"],
        }
        state["others"] = {
            name: method_table.numbers_of(metrics, model)
            for name, model in known.items()
            if model in metrics["average"]["models"]
        }


def _write(folder: Path, state: Mapping[str, Any]) -> None:
    summary = method_table.summarize(state["runs"], list(state["methods"]))
    found = {**state, "summary": summary}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "compare.json", found)
    write_atomic(folder / "compare.md", method_table.as_markdown(found).encode())
