"""The budget of a run: its faults, what it begins with, and how it ends."""

from __future__ import annotations

from fusechat.budget import Budget, Demand, Limits
from fusechat.errors import Fault, RecipeError
from fusechat.forecast.held import requests_of, sample_units, tally_of
from fusechat.forecast.known import pilot_measures
from fusechat.forecast.measures import Measures
from fusechat.planner import Plan, Unit
from fusechat.recipe import Cluster


def check_limits(plan: Plan, cluster: Cluster, limits: Limits) -> None:
    """Raises `RecipeError` where a limit is none, or cannot be kept for want of a price."""
    faults = [
        Fault(f"--max-{name}", f"{value:g}", "a limit is a number above 0.")
        for name, value in limits.given().items()
        if not value > 0
    ]
    for unit in sample_units(plan) if limits.cost is not None else ():
        if cluster.where(unit.name).price is None:
            mend = "write {price: {prompt: P, response: R}} per million tokens in the cluster file"
            message = f"--max-cost needs its price: {mend}; both 0 where it costs nothing."
            faults.append(Fault("cluster file", f"units.{unit.name}", message))
    if faults:
        raise RecipeError(faults)


def open_budget(plan: Plan, cluster: Cluster, limits: Limits) -> Budget:
    """The budget of a run whose prompts are there."""
    known = pilot_measures(plan.workspace)
    demands = {unit.name: _demand(unit, plan, cluster, known) for unit in sample_units(plan)}
    return Budget(limits, demands)


def _demand(unit: Unit, plan: Plan, cluster: Cluster, known: Measures) -> Demand:
    measured = known.rows(unit)
    return Demand(
        rows=requests_of(plan, unit).survey()[0],
        price=cluster.where(unit.name).price,
        held=tally_of(plan.path(unit)),
        expected=measured.tokens_of_a_row() if measured else None,
        seconds=measured.seconds_of_a_row() if measured else None,
    )
