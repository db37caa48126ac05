"""`fusechat batch RECIPE --unit sample/NAME`: provider batch files out and in."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from fusechat.batch_files import BatchReader, BatchWriter, Tally
from fusechat.commands import _load
from fusechat.errors import FusechatError
from fusechat.executors.rows import JobResult, RowExecutor, answers_of
from fusechat.planner import Plan, plan
from fusechat.recipe import Recipe
from fusechat.records import Response
from fusechat.sources._endpoint_wire import body_of, read_one
from fusechat.sources.endpoint import Endpoint
from fusechat.stages.entries import SourceEntry
from fusechat.workers import work


def batch(options: argparse.Namespace) -> int:
    """Write the requests that are open, or take in results; says what comes next."""
    recipe, _ = _load(options)
    planned = plan(recipe, options.workspace)
    part = _endpoint(planned, options.unit)
    if options.out is not None:
        return _out(recipe, part, options)
    return _read(recipe, planned, part, options)


def _endpoint(planned: Plan, name: str) -> Endpoint:
    """The source of a unit; raises where it is none that a provider's files can answer."""
    units = [unit for unit in planned.units if unit.kind == "sample"]
    settings: dict[str, Any] = {unit.name: unit.settings for unit in units}
    able = [
        unit
        for unit, entry in settings.items()
        if isinstance(entry, SourceEntry) and isinstance(entry.part, Endpoint)
    ]
    if name not in able:
        there = f"There are: {', '.join(able)}." if able else "This recipe has none."
        raise FusechatError(f"'{name}' is no unit with a source 'endpoint'. {there}")
    part = settings[name].part
    assert isinstance(part, Endpoint)
    return part


def _work(recipe: Recipe, options: argparse.Namespace, executor: RowExecutor) -> JobResult | None:
    """Hand the open rows of the unit to the executor; None where the unit is done."""
    return work(recipe, options.workspace, options.unit, executor=executor)


def _out(recipe: Recipe, part: Endpoint, options: argparse.Namespace) -> int:
    writer = BatchWriter(options.out, lambda row: body_of(part, row, 1), options.rows)
    result = _work(recipe, options, writer)
    if result is None:
        print(f"{options.unit} is done; there is nothing to ask.")
        return 0
    files = f"{len(writer.files)} file" + ("" if len(writer.files) == 1 else "s")
    print(f"{options.unit}: {writer.written} requests in {files} in {options.out}")
    if held := result.missing - writer.written:
        print(f"{held} open rows are not among them: repeated, or a run works on them now.")
    if writer.written:
        print(
            "Next: give the files to the provider, then: fusechat batch "
            f"{options.recipe} --unit {options.unit} --read FILE ..."
        )
    return 0


def _read(recipe: Recipe, planned: Plan, part: Endpoint, options: argparse.Namespace) -> int:
    reader = BatchReader(options.read, partial(read_one, part))
    try:
        result = _work(recipe, options, reader)
    finally:
        reader.close()
    folder = planned.path(planned[options.unit])
    tally = reader.settle(row.made_from for row in answers_of(folder, Response))  # type: ignore[attr-defined]
    for line in _lines(tally):
        print(line)
    if result is None:
        print(f"{options.unit} was done before; nothing was changed.")
    elif result.missing:
        print(f"{options.unit}: {result.missing} of {result.rows} rows are still open.")
        print("Next: --out again for those, or let a run ask the server for them: fusechat run")
    else:
        print(f"{options.unit} has all its rows. Next: fusechat run {options.recipe}")
    return 0


def _lines(tally: Tally) -> list[str]:
    """The tally in words; counts of nothing are left out."""
    found = {
        "answered": tally.answered,
        "refused by the provider, kept as rows with that error": tally.refused,
        "left open": tally.open.total(),
        "said twice, passed over": tally.twice,
        "known before, passed over": tally.known,
        "no row of this unit": tally.unknown,
        "lines that cannot be read": tally.unreadable,
    }
    lines = [f"{tally.lines} result lines:", *(f"  {n} {what}" for what, n in found.items() if n)]
    return lines + [f"    {n} x {reason}" for reason, n in tally.open.most_common(5)]
