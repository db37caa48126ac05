"""What is known of a plan's parts: from pilots, else from the plan's own rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fusechat.files import read_json
from fusechat.forecast.held import prompts_of
from fusechat.forecast.measures import (
    Measures,
    RowMeasure,
    YieldMeasure,
    domains_of,
    measure_rows,
    measure_yield,
)
from fusechat.planner import Plan, Unit

FOLDER = "pilots"
"""Of the workspace: one file a pilot."""


def measured_units(planned: Plan) -> Iterator[Unit]:
    """The sources and annotators of the plan."""
    return (unit for unit in planned.units if unit.name.startswith(("sample/", "annotate/")))


def read_pilot(path: Path) -> Measures:
    """What a pilot wrote."""
    tree = read_json(path)
    parts = [RowMeasure.from_json(one) for one in tree["units"]]
    yields = [YieldMeasure(**one) for one in tree["yields"]]
    return Measures({one.part: one for one in parts}, {one.key: one for one in yields})


def pilot_measures(workspace: Path) -> Measures:
    """Of each part its newest pilot.

    Raises `DamagedError` where a pilot's file is no JSON.
    """
    known = Measures({}, {})
    files = (workspace / FOLDER).glob("*.json")
    for path in sorted(files, key=lambda path: float(read_json(path)["made"])):
        known = merged(known, read_pilot(path))
    return known


def known_measures(planned: Plan) -> Measures:
    """Of each part its newest pilot, else the plan's own rows."""
    return merged(_own(planned), pilot_measures(planned.workspace))


def merged(old: Measures, new: Measures) -> Measures:
    """The new ones over the old; seconds that were not measured again are those measured before."""
    parts = {
        part: replace(one, seconds_per_row=old.parts[part].seconds_per_row)
        if one.seconds_per_row is None and part in old.parts
        else one
        for part, one in new.parts.items()
    }
    return Measures({**old.parts, **parts}, {**old.yields, **new.yields})


def _own(planned: Plan) -> Measures:
    """What the plan's units hold by themselves."""
    if not (planned.path(planned["prompts"]) / "manifest.json").exists():
        return Measures({}, {})
    domains = domains_of(list(prompts_of(planned)))
    units = [unit for unit in measured_units(planned) if planned.standing(unit).state != "stale"]
    found = [
        measure_rows(unit, planned.path(unit), domains, "rows of this recipe") for unit in units
    ]
    built = measure_yield(planned, domains, "build of this recipe")
    yields = {built.key: built} if built is not None else {}
    return Measures({one.part: one for one in found if one is not None}, yields)
