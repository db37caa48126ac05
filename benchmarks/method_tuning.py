"""Settings of each method of recipes/mini-methods.yaml, chosen on dev prompts; safe to call again.

    python benchmarks/method_tuning.py --workspace build/methods           # tries, writes the table
    python benchmarks/method_tuning.py --workspace build/methods --methods simpo

Every method has as many trials: three learning rates by two settings of its own loss, each with the
same two training seeds, which no reported run has. A trial is the recipe with changed keys, judged
on the dev split: the plain average over the tasks of the model that the method ends with. The
highest mean over the seeds is chosen, the first of the grid where tied. What was chosen stands in
the recipe; `benchmarks/methods_tuned.json` has every trial.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

from fusechat.errors import RecipeError, TrainingError
from fusechat.files import read_json, write_json
from fusechat.metrics.method_table import numbers_of
from fusechat.planner import plan
from fusechat.recipe import read_recipe
from fusechat.runner import Options, run

HERE = Path(__file__).resolve().parent
RATES = (2.5e-5, 5e-5, 1e-4)
SEEDS = (101, 102)
LOSSES: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "fusechat3": (
        {"use": "length_normalized_dpo", "beta": 3.0},
        {"use": "length_normalized_dpo", "beta": 10.0},
    ),
    "wrpo": ({"use": "wrpo", "beta": 0.03}, {"use": "wrpo", "beta": 0.1}),
    "fuserl": (
        {"use": "fusepo", "base": "dpo", "beta": 0.03},
        {"use": "fusepo", "base": "dpo", "beta": 0.1},
    ),
    "infifpo": ({"use": "infifpo", "beta": 2.5}, {"use": "infifpo", "beta": 10.0}),
    "simpo": ({"use": "simpo", "beta": 2.0}, {"use": "simpo", "beta": 10.0}),
}
"""Method -> its two losses; `gamma_beta_ratio` of SimPO and `alpha` of WRPO are the papers'."""


def grid(method: str) -> list[dict[str, Any]]:
    """The trials of a method, as changed keys."""
    return [
        {"train.dpo.loss": dict(loss), "train.dpo.learning_rate": rate}
        for loss, rate in product(LOSSES[method], RATES)
    ]


def dev(recipe: Path) -> dict[str, Any]:
    """The keys that point the evaluation at dev prompts, and at the models that decide."""
    base, faults, _ = read_recipe(recipe)
    if faults or base is None or base.evaluate is None:
        raise RecipeError(faults)
    tasks = range(len(base.evaluate.tasks))
    models = ["target", "train.dpo"]
    return {f"evaluate.tasks.{n}.split": "dev" for n in tasks} | {"evaluate.models": models}


def trial(given: argparse.Namespace, method: str, own: Mapping[str, Any], seed: int) -> Any:
    """The numbers of one trial with one seed; a text where training failed."""
    seeds = {"train.sft.seed": seed, "train.dpo.seed": seed}
    settings = {**dev(given.recipe), **own, **seeds, "name": f"tuning-{method}"}
    recipe, faults, _ = read_recipe(given.recipe, settings, method)
    if faults or recipe is None:
        raise RecipeError(faults)
    planned = plan(recipe, given.workspace)
    stream = sys.stderr if given.loud else None
    try:
        if any(one.state != "done" for one in planned.standings().values()):
            run(recipe, given.workspace, options=Options(stream=stream))
    except TrainingError as error:
        return str(error)
    metrics = read_json(planned.path(planned["evaluate/compare"]) / "metrics.json")
    return numbers_of(metrics, "train.dpo")


def main() -> int:
    """Try everything that is missing, keep it, and say what is best."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", type=Path, default=HERE.parent / "recipes/mini-methods.yaml")
    parser.add_argument("--workspace", type=Path, default=Path("build/methods"))
    parser.add_argument("--methods", default=",".join(LOSSES))
    parser.add_argument("--out", type=Path, default=HERE / "methods_tuned.json")
    parser.add_argument("--loud", action="store_true", help="show the units' progress")
    given = parser.parse_args()
    found: dict[str, Any] = read_json(given.out) if given.out.exists() else {}
    for method in given.methods.split(","):
        trials = []
        for own in grid(method):
            numbers = [trial(given, method, own, seed) for seed in SEEDS]
            averages = [one["average"] if isinstance(one, dict) else None for one in numbers]
            known = [value for value in averages if value is not None]
            mean = statistics.fmean(known) if len(known) == len(SEEDS) else None
            trials.append({"set": own, "mean": mean, "numbers": numbers})
            print(method, own, averages, mean, flush=True)
        best = max(trials, key=lambda one: -1.0 if one["mean"] is None else one["mean"])
        found[method] = {"choice": best["set"], "trials": trials, "seeds": list(SEEDS)}
        write_json(given.out, found)
        print(f"{method}: {best['set']} ({best['mean']})", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
