"""Choosing settings on dev prompts, each method with the same number of trials."""

from __future__ import annotations

import argparse
import datetime
import statistics
from collections.abc import Callable, Mapping
from typing import Any

from miniature_ledger import SHIPPED, Run
from miniature_queue import Queue, say
from miniature_runs import BASE
from miniature_variants import SFT_TRIAL, TRIED_AS, Settings, best_trial, sft_trials, trials

from fusechat.files import read_json, write_json
from fusechat.miniature.world import VERSION

SEEDS = (100, 101)
"""Pipeline seeds of the trials; no run on test prompts has them."""
RULE = (
    "The settings with the highest mean, over the pipeline seeds, of the plain average over the "
    "dev tasks of the model that they train; the first of them in the grid where tied. SFT is "
    "chosen first, by the model after SFT; the preference losses then start from it."
)


def tune(queue: Queue, given: argparse.Namespace) -> int:
    """Try every setting on every seed and write `OUT/tuned.json`; 1 where a method has none."""
    if given.plan:
        rounds = [_runs(queue, SFT_TRIAL, sft_trials())]
        first = _only_sft(sft_trials()[0])  # which one is chosen is not known yet
        rounds += [_runs(queue, name, trials(name, first)) for name in TRIED_AS]
        print(queue.plan([run for runs in rounds for run in runs]))
        return 0
    queue.ledger.supersede(queue.experiment, "dev", retry=given.retry)
    found: dict[str, Any] = {"choice": {}, "trials": []}
    sft = _choose(queue, found, {SFT_TRIAL: sft_trials()})[SFT_TRIAL]
    if sft is not None:
        sft = _only_sft(sft)
        found["choice"]["sft"] = sft
        grids = {name: trials(name, sft) for name in TRIED_AS}
        for name, best in _choose(queue, found, grids).items():
            if best is not None:
                own = {key: value for key, value in best.items() if key not in sft}
                found["choice"][TRIED_AS[name]] = own
    lacking = [name for name in ("sft", *TRIED_AS.values()) if name not in found["choice"]]
    whole = {
        "world": VERSION,
        "rule": RULE,
        "pipeline_seeds": list(SEEDS),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        **found,
    }
    write_json(given.out / "tuned.json", whole)
    for name, choice in found["choice"].items():
        say(f"{name}: {choice}{_at_the_edge(name, choice)}")
    if lacking:
        say(f"no trial of {', '.join(lacking)} has a number for every seed; see {given.out}")
    return 1 if lacking else 0


def accept(given: argparse.Namespace) -> int:
    """With `--accept`, keep what was chosen for the experiment."""
    if given.accept and not given.plan:
        write_json(given.tuned, read_json(given.out / "tuned.json"))
        say(f"kept in {given.tuned}")
    return 0


def _runs(queue: Queue, variant: str, tried: list[Settings]) -> list[Run]:
    run = queue.experiment.run
    return [run(variant, SHIPPED, seed, "dev", own) for seed in SEEDS for own in tried]


def _only_sft(trial: Settings) -> Settings:
    return {key: value for key, value in trial.items() if key != "train.dpo"}


def _choose(
    queue: Queue, found: dict[str, Any], grids: Mapping[str, list[Settings]]
) -> dict[str, Settings | None]:
    """The best trial of each grid; all of them are kept in `found`."""
    queue.do([run for name, tried in grids.items() for run in _runs(queue, name, tried)])
    best: dict[str, Settings | None] = {}
    for name, tried in grids.items():
        averages = []
        for own in tried:
            lines = [queue.ledger[run] for run in _runs(queue, name, [own])]
            averages.append([average(line) for line in lines])
            trial = {"variant": name, "settings": own, "averages": averages[-1]}
            errors = [line["error"] for line in lines if "error" in line]
            found["trials"].append(trial | ({"errors": errors} if errors else {}))
        best[name] = best_trial(tried, averages)
    return best


def average(line: Mapping[str, Any]) -> float | None:
    """The plain mean over the tasks of the model that a trial trained; None where one lacks."""
    for model, tasks in line.get("models", {}).items():
        if model != BASE:
            values = [entry["value"] for entry in tasks.values()]
            return None if None in values else statistics.fmean(values)
    return None


def _at_the_edge(name: str, choice: Settings) -> str:
    """A word of caution where the best value is the first or the last that was tried."""
    variants = {loss: variant for variant, loss in TRIED_AS.items()}
    grid = sft_trials() if name == "sft" else trials(variants[name], {})
    said = []
    for what, value_of in _NUMBERS.items():
        values = [value for own in grid if (value := value_of(own)) is not None]
        if values and value_of(choice) in (min(values), max(values)):
            said.append(what)
    return f"  (at the edge of the grid: {', '.join(said)})" if said else ""


def _rate(own: Settings) -> float | None:
    found: float | None = own.get("train.dpo.learning_rate", own.get("train.sft.learning_rate"))
    return found


def _beta(own: Settings) -> float | None:
    found: float | None = (own.get("train.dpo.loss") or {}).get("beta")
    return found


_NUMBERS: Mapping[str, Callable[[Settings], float | None]] = {"learning rate": _rate, "beta": _beta}
