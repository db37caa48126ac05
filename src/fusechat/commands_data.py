"""The command `fusechat data`: which files of the benchmarks are there, and fetching the others."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from difflib import get_close_matches
from itertools import groupby
from pathlib import Path

from fusechat.errors import Fault, RecipeError
from fusechat.stages.evaluate_settings import FOURTEEN
from fusechat.tasks._data_fetch import Fetched, fetch_missing, open_hub
from fusechat.tasks._data_files import FileState, as_json, benchmark_tasks, file_states


def data(options: argparse.Namespace) -> int:
    """Say what is there and what is not, after fetching what is asked for.

    Exit code 1 where a file could not be fetched, 2 for a wrong call; missing files are no fault.
    """
    names = named_benchmarks(options.benchmarks)
    folder = None if options.data_dir is None else Path(options.data_dir).absolute()
    _check(folder, options.fetch)
    done: list[Fetched] = []
    if options.fetch and folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        done = fetch_missing(names, folder, open_hub(), _tell)
    states = list(file_states(names, _text(folder)))
    if options.json:
        told = {
            "data_dir": _text(folder),
            "benchmarks": as_json(states, _text(folder)),
            "fetched": [asdict(one) for one in done if not one.fault],
            "failed": [asdict(one) for one in done if one.fault],
        }
        print(json.dumps(told, ensure_ascii=False, indent=2))
    else:
        print("\n".join([*_lines(states), "", *_summary(states, folder)]))
    for one in done:
        if one.fault:
            print(f"{one.benchmark}: {one.fault}", file=sys.stderr)
    return 1 if any(one.fault for one in done) else 0


def named_benchmarks(asked: str | None) -> list[str]:
    """The benchmarks that are meant, those of the table first, in its order."""
    known = benchmark_tasks()
    every = [name for name in FOURTEEN if name in known]
    every += [name for name in known if name not in every]
    if asked is None:
        return every
    wanted = [name.strip() for name in asked.split(",") if name.strip()]
    faults = []
    for name in wanted:
        if name not in known:
            near = get_close_matches(name, every, 1)
            hint = f"Did you mean '{near[0]}'?" if near else f"There are: {', '.join(every)}."
            faults.append(Fault("", "--benchmarks", f"there is no benchmark '{name}'. {hint}"))
    if faults or not wanted:
        raise RecipeError(faults or [Fault("", "--benchmarks", "name at least one.")])
    return wanted


def _check(folder: Path | None, fetch: bool) -> None:
    if fetch and folder is None:
        raise RecipeError([Fault("", "--fetch", "goes with --data-dir DIR, where files are put.")])
    if folder is not None and not folder.is_dir() and (folder.exists() or not fetch):
        raise RecipeError([Fault("", "--data-dir", f"there is no folder {folder}.")])


def _text(folder: Path | None) -> str | None:
    return None if folder is None else str(folder)


def _tell(line: str) -> None:
    print(line, file=sys.stderr)


def _lines(states: Sequence[FileState]) -> list[str]:
    lines = []
    for name, files in groupby(states, key=lambda one: one.benchmark):
        group = list(files)
        licences = "; ".join(dict.fromkeys(one.licence for one in group))
        lines.append(f"{group[0].title} ({name}), licence: {licences}")
        lines += [f"  {_of(one)}" for one in group]
        homes = [one.home for one in group if one.path is None and not one.fetch]
        lines += [f"  get it: {home}" for home in dict.fromkeys(homes)]
    return lines


def _of(state: FileState) -> str:
    count = f", {state.items:,} items" if state.items is not None else ""
    need = " (optional)" if state.optional else ""
    if state.path is None:
        way = ", can be fetched" if state.fetch else ""
        return f"missing  {state.role}{need}{count}: {state.name}{way}"
    told = {
        "known": f"hash known ({state.version})",
        "changed": f"HASH CHANGED: {state.sha256}",
        "unknown": "hash unknown",
    }[state.hash or "unknown"]
    return f"found    {state.role}{need}{count}: {state.path}, {told}"


def _summary(states: Sequence[FileState], folder: Path | None) -> list[str]:
    entries = as_json(states, _text(folder))
    ready = [entry for entry in entries if not entry["skipped"]]
    lines = [f"{len(ready)} of {len(entries)} benchmarks have the files that they need."]
    lines += [f"{entry['title']}: {' '.join(entry['lacks'])}" for entry in ready if entry["lacks"]]
    changed = sum(one.hash == "changed" for one in states)
    if changed:
        lines.append(f"Files that are not the known ones: {changed}; their rows say so.")
    gets = sum(one.path is None and bool(one.fetch) for one in states)
    if gets:
        where = folder if folder is not None else "DIR"
        lines.append(f"Can be fetched: {gets}, by fusechat data --fetch --data-dir {where}")
    if folder is None:
        lines.append(
            "Looked in installed packages and the hub's cache; --data-dir DIR: in DIR, too."
        )
    return lines
