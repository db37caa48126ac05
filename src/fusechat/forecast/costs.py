"""The forecast of a plan: rows to do times what a row took, unit by unit and in total."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fusechat.budget import price_of
from fusechat.forecast.estimate import Estimate, Stratum, across, total, wilson
from fusechat.forecast.evaluation import EvaluationLine, evaluation_lines
from fusechat.forecast.held import prompts_of, sample_units
from fusechat.forecast.known import known_measures, measured_units
from fusechat.forecast.measures import RowMeasure, YieldMeasure, domains_of
from fusechat.forecast.todo import Rows, responses_to_do, scores_to_do
from fusechat.forecast.training import training_plans
from fusechat.planner import Plan, Unit
from fusechat.recipe import Cluster
from fusechat.settings import Where
from fusechat.stages.train_plan import TrainingPlan


@dataclass(frozen=True)
class Line:
    """What one unit would take; None is not measured (or, of tokens and cost, not told)."""

    unit: str
    rows: int
    there: int
    """Rows that are done or can be adopted."""
    to_do: int
    origin: str = ""
    """Where it was measured; empty where it was not."""
    prompt_tokens: Estimate | None = None
    response_tokens: Estimate | None = None
    hours: Estimate | None = None
    gpu_hours: Estimate | None = None
    cost: Estimate | None = None
    disk: Estimate | None = None
    """Bytes."""
    failed: float | None = None
    """Share of rows that failed."""
    cut: float | None = None
    """Share of responses that ended at the limit; of an annotator, of rows that it cannot judge."""
    priced: bool = False
    """Whether the cluster file has its price."""
    on_gpus: bool = False
    """Whether the cluster file says how many GPUs it holds."""
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For a program to read."""
        plain = {name: getattr(self, name) for name in ("unit", "rows", "there", "to_do")}
        estimates = {name: getattr(self, name) for name in AMOUNTS}
        told = {name: one.as_json() if one else None for name, one in estimates.items()}
        rest = {"failed_share": self.failed, "cut_share": self.cut, "measured": self.origin}
        return plain | told | rest | {"notes": list(self.notes)}


AMOUNTS = ("prompt_tokens", "response_tokens", "hours", "gpu_hours", "cost", "disk")


@dataclass(frozen=True)
class Forecast:
    """What a run would take and give."""

    lines: tuple[Line, ...]
    yields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Domain -> prompts, and expected `sft` and `dpo` prompts with their intervals."""
    yields_from: str = ""
    evaluation: tuple[EvaluationLine, ...] = ()
    training: tuple[TrainingPlan, ...] = ()
    """Memory and time of the training units, beside the table: they are computed, not measured."""
    left_out: tuple[str, ...] = ()
    """Units that are not forecast."""

    def totals(self) -> dict[str, Estimate | None]:
        """Sums over the units that have rows to do; None where one of those is not measured."""
        out: dict[str, Estimate | None] = {}
        for name in AMOUNTS:
            asked = [line for line in self.lines if line.to_do and _counts(line, name)]
            found = [getattr(line, name) for line in asked]
            known = [one for one in found if one is not None]
            out[name] = total(known) if len(known) == len(found) else None
        return out

    def as_json(self) -> dict[str, Any]:
        """For a program to read."""
        totals = {n: one.as_json() if one else None for n, one in self.totals().items()}
        return {
            "units": [line.as_json() for line in self.lines],
            "total": totals,
            "yield": {"measured": self.yields_from, "domains": self.yields},
            "evaluation": [one.as_json() for one in self.evaluation],
            "training": [one.as_json() for one in self.training],
            "not_forecast": list(self.left_out),
            "interval": "95%, over prompts",
        }


def _counts(line: Line, name: str) -> bool:
    """Whether a unit is in a sum: only sources have tokens, only some units a price or GPUs."""
    if name in ("prompt_tokens", "response_tokens"):
        return line.unit.startswith("sample/")
    return {"cost": line.priced, "gpu_hours": line.on_gpus}.get(name, True)


def forecast(plan: Plan, cluster: Cluster) -> Forecast:
    """What is still to do, and what that takes. The plan's prompts must be done."""
    evaluation = evaluation_lines(plan, cluster)
    if not plan.recipe.prompts:
        return Forecast((), evaluation=evaluation)
    known = known_measures(plan)
    rows: dict[str, Rows] = {unit.name: responses_to_do(plan, unit) for unit in sample_units(plan)}
    for unit in plan.units:
        if unit.name.startswith("annotate/"):
            rows[unit.name] = scores_to_do(plan, unit, rows)
    lines = [
        line_of(unit, rows[unit.name], known.rows(unit), cluster.where(unit.name))
        for unit in measured_units(plan)
    ]
    built = known.built(plan)
    domains = domains_of(list(prompts_of(plan)))
    if plan.recipe.build is not None:
        lines.append(_build_line(plan, len(domains), built))
    yields = _yields(domains, built) if built is not None else {}
    training = training_plans(plan, cluster, yields)
    counted = {line.unit for line in lines} | {one.unit for one in training} | {"prompts"}
    benchmarks = [f"evaluate/{line.what}/" for line in evaluation]
    return Forecast(
        tuple(lines),
        yields,
        built.origin if built is not None else "",
        evaluation,
        training,
        tuple(
            unit.name
            for unit in plan.units
            if unit.name not in counted and not unit.name.startswith(tuple(benchmarks))
        ),
    )


def line_of(unit: Unit, rows: Rows, measured: RowMeasure | None, where: Where) -> Line:
    """What a source or annotator would take."""
    left = rows.to_do()
    to_do = sum(left.values())
    known: dict[str, Any] = {
        "rows": sum(rows.wanted.values()),
        "there": sum(rows.there.values()),
        "to_do": to_do,
        "priced": where.price is not None and unit.kind == "sample",
        "on_gpus": where.gpus is not None,
    }
    if measured is None:
        return Line(unit.name, **known)
    notes: list[str] = []
    unseen = [name for name in left if left[name] and name not in measured.response_tokens]
    if unit.kind == "sample" and unseen:
        notes.append(f"{', '.join(unseen)}: not in the pilot, taken like the others")
    if measured.guessed_rows:
        notes.append("tokens estimated from the texts: the source tells none")
    response = _tokens(measured.response_tokens, left)
    prompt = _tokens(measured.prompt_tokens, left)
    hours = _hours(measured, to_do, response)
    return Line(
        unit.name, **known, origin=measured.origin,
        prompt_tokens=prompt, response_tokens=response, hours=hours,
        gpu_hours=hours.times(where.gpus) if hours and where.gpus is not None else None,
        cost=_cost(where, prompt, response),
        disk=Estimate(measured.bytes_per_row * to_do),
        failed=measured.failed / measured.rows, cut=measured.cut / measured.rows,
        notes=tuple(notes),
    )  # fmt: skip


def _tokens(strata: Mapping[str, Stratum], left: Mapping[str, int]) -> Estimate | None:
    if not strata:
        return None
    prompts = sum(one.prompts for one in strata.values())
    mean = sum(one.prompts * one.mean for one in strata.values()) / prompts
    spreads = [one.spread for one in strata.values()]
    widest = max((s for s in spreads if s is not None), default=None)
    other = Stratum(prompts, mean, widest)
    return across([(strata.get(name, other), count) for name, count in left.items()])


def _hours(measured: RowMeasure, to_do: int, response: Estimate | None) -> Estimate | None:
    """Linear in rows; of a source as uncertain as the lengths of its responses."""
    if measured.seconds_per_row is None:
        return Estimate(0.0, 0.0) if not to_do else None
    hours = measured.seconds_per_row * to_do / 3600
    if response is None or response.half is None or not response.value:
        return Estimate(hours)
    return Estimate(hours, hours * response.half / response.value)


def _cost(where: Where, prompt: Estimate | None, response: Estimate | None) -> Estimate | None:
    if where.price is None or response is None:
        return None
    asked = prompt or Estimate(0.0, 0.0)
    parts = [
        asked.times(price_of(where.price, 1.0, 0.0)),
        response.times(price_of(where.price, 0.0, 1.0)),
    ]
    return total(parts)


def _build_line(plan: Plan, prompts: int, built: YieldMeasure | None) -> Line:
    done = plan.standings()["build"].state == "done"
    to_do = 0 if done else prompts
    there = prompts - to_do
    if built is None:
        return Line("build", prompts, there, to_do)
    seconds = Estimate(built.seconds / built.prompts * to_do / 3600) if built.seconds else None
    disk = Estimate(built.bytes / built.prompts * to_do)
    return Line("build", prompts, there, to_do, built.origin, hours=seconds, disk=disk)


def _yields(domains: Mapping[str, str], built: YieldMeasure) -> dict[str, dict[str, Any]]:
    out: dict[str, dict[str, Any]] = {}
    for domain in dict.fromkeys(domains.values()):
        count = sum(one == domain for one in domains.values())
        found = built.domains.get(domain)
        out[domain] = {"prompts": count, "pilot": found["prompts"] if found else 0}
        for table in ("sft", "dpo"):
            share = wilson(found[table], found["prompts"]) if found else None
            out[domain][table] = share.over(count) if share else None
    return out
