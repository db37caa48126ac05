"""Build: from judged responses to the SFT and DPO tables, and to the dropped prompts.

Each prompt's responses go through the strategies of its domain; the domain's split rule
then places the prompt. Every prompt ends in exactly one of the tables `sft`, `dpo` and
`dropped` (in the first two, where `allow_overlap` says so). Rows are in prompt-table order.
Two passes: the first decides, without texts; the second fetches the texts of what was placed.

Where a domain's DPO strategy asks for a source that this recipe trains (`on_policy.py`), the split
rule places its DPO prompts in the table `reserved`, and `build_on_policy` makes their rows.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from fusechat.files import write_json
from fusechat.groups import Array
from fusechat.records import Demonstration, Pair, Triple
from fusechat.stages.analysis import ANALYSIS_FILE, Analysis
from fusechat.stages.build_counts import Counts
from fusechat.stages.build_rows import write_rows
from fusechat.stages.build_settings import BuildSettings
from fusechat.stages.context import UnitContext
from fusechat.stages.decisions import Collector, decide_all
from fusechat.stages.dropped import Details, write_dropped
from fusechat.stages.groups import PromptTable, Tables
from fusechat.stages.on_policy import BuildAfter, BuildBefore, reserved_among, write_reserved
from fusechat.stages.windows import (
    check_sense,
    check_spread,
    resolve,
    window_notes,
    windowed,
)


def build(context: UnitContext) -> dict[str, Any]:
    """Write `sft/`, `dpo/`, `dropped/` and `analysis.json`, and count what went where and why.

    Inputs: `prompts`, `sample/<source>` in the recipe's order of sources,
    `annotate/<annotator>`. Settings: `BuildSettings`; or `BuildBefore`, which also writes
    `reserved/`, and `dpo/` only where other domains have pairs. Raises `PartError` where a
    strategy breaks its contract.
    """
    given: BuildSettings | BuildBefore = context.settings
    with _lean_memory():
        if not isinstance(given, BuildBefore):
            return _build(context, given)
        return _build(context, given.rules, reserve=given.reserve)


def build_on_policy(context: UnitContext) -> dict[str, Any]:
    """Write `dpo/`, `dropped/` and `analysis.json` of the prompts that a build reserved.

    Inputs: as of `build`, with `build` itself, the trained sources' `sample/<source>` and
    `annotate/<annotator>@<source>`. Settings: `BuildAfter`.
    """
    given: BuildAfter = context.settings
    with _lean_memory():
        prompts = PromptTable.read(context.inputs["prompts"])
        among = reserved_among(context.inputs["build"], prompts, given.rules.domains)
        return _build(context, given.rules, among=among)


def _build(
    context: UnitContext,
    given: BuildSettings,
    reserve: Sequence[str] = (),
    among: Array | None = None,
) -> dict[str, Any]:
    """`reserve`: domains whose DPO prompts are set apart. `among`: bool `[prompts]`, those that
    are decided; None: all."""
    settings = resolve(context.inputs, given)
    check_spread(context.inputs, settings)
    prompts = PromptTable.read(context.inputs["prompts"])
    tables = Tables.of(context.inputs)
    counts = Counts(settings)
    analysis = Analysis(settings, prompts, tuple(tables.samples))
    context.folder.mkdir(parents=True, exist_ok=True)
    contaminated = tables.contaminated(prompts)
    collector = Collector(prompts, tuple(tables.samples), context.folder, contaminated, among)
    context.progress.start(len(prompts), "prompts")
    with Details(context.folder, len(prompts)) as details:
        for picked in decide_all(context.inputs, settings, context.progress, prompts, among):
            collector.add(picked)
            counts.see(picked)
            analysis.see(picked)
            details.add(picked, settings.domains[picked.domain])
        for domain, strategy in windowed(settings).items():
            check_sense(domain, strategy, analysis.gaps(domain))
        decisions = collector.placed(settings, reserve)
        _give_back()
        write_rows(context.folder, tables, decisions, _row_types(settings, reserve, among))
        write_dropped(context.folder / "dropped", decisions, details)
    _give_back()
    notes = window_notes(given, settings)
    analysed = analysis.report(decisions, context.folder, notes)
    write_json(context.folder / ANALYSIS_FILE, analysed)
    result = counts.report(decisions, analysed, reserve)
    for domain, note in notes.items():
        result["window"].setdefault(domain, {}).update(note)
    if reserve:
        placed = decisions.placed.dpo
        result["reserved"] = write_reserved(context.folder, prompts, placed, reserve)
        context.log.info("%d prompts reserved", result["reserved"])
    context.log.info("%d SFT, %d DPO, %d dropped", *(result[k] for k in ("sft", "dpo", "dropped")))
    return result


def _row_types(
    settings: BuildSettings, reserve: Sequence[str], among: Array | None
) -> dict[str, type[Demonstration] | type[Pair] | type[Triple]]:
    """The tables to write: both, but for those that no rule can fill where a build is in two."""
    kinds = set(settings.row_types("dpo").values())
    out: dict[str, type[Demonstration] | type[Pair] | type[Triple]] = {}
    if among is None:
        out["sft"] = Demonstration
    if kinds or not reserve:
        out["dpo"] = Triple if "Triple" in kinds else Pair
    return out


@contextmanager
def _lean_memory() -> Iterator[None]:
    """Let Arrow give back at once what it frees: it else holds on to more, the longer it runs."""
    before = pa.default_memory_pool()
    if "jemalloc" in pa.supported_memory_backends():
        pa.jemalloc_set_decay_ms(0)
        pa.set_memory_pool(pa.jemalloc_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)


def _give_back() -> None:
    """Let glibc give freed memory back, so that the second pass does not come on top of it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
