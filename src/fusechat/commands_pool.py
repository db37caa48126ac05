"""Commands on pools and finished sets: import, export, push, clean."""

from __future__ import annotations

import argparse
from pathlib import Path

from fusechat.cards.lineage import Lineage
from fusechat.commands import run_folders
from fusechat.errors import Fault, RecipeError
from fusechat.stages.build_rows import BUILDS
from fusechat.unit_folders import check_whole


def import_pool(options: argparse.Namespace) -> int:
    """Turn other tools' files into a pool, and say what was found."""
    from fusechat.pools.importing import import_pool, summary

    found = import_pool(options.layout, options.files, options.out, options.model or "")
    print("\n".join(summary(found, options.out)))
    return 0 if found.prompts else 1


def export(options: argparse.Namespace) -> int:
    """Write the sets, the pool or the model of a run for other tools, with a card."""
    from fusechat.cards.lineage import lineage

    folder, _ = run_folders(options)
    run = lineage(folder, options.workspace)
    if options.sft_only and options.to != "llamafactory":
        raise RecipeError([Fault("", "--sft-only", "goes with --to llamafactory.")])
    {"trl": _trl, "llamafactory": _llamafactory, "pool": _pool, "model": _model}[options.to](
        run, options
    )
    print(f"card: {options.out / 'README.md'}")
    print(f"next: fusechat push {options.out} OWNER/NAME")
    return 0


def _needs(run: Lineage, *units: str) -> None:
    """Raises where a unit is not done, or does not hold what it wrote."""
    faults = [
        Fault("", unit, f"is not done. Run it first: --only {unit}.")
        for unit in units
        if unit not in run.manifests
    ]
    if faults:
        raise RecipeError(faults)
    for unit in units:
        check_whole(run.folders[unit])


def _trl(run: Lineage, options: argparse.Namespace) -> None:
    from fusechat.exports.trl import export_trl, write_trl_card

    _needs(run, "build")
    builds = [run.folders[name] for name in BUILDS if name in run.folders]
    _needs(run, *(name for name in BUILDS if name in run.folders))
    counts = export_trl(builds, options.out)
    write_trl_card(run, options.out, counts)
    for name, count in counts.items():
        print(f"{options.out / name}.parquet and .jsonl: {count} rows")


def _llamafactory(run: Lineage, options: argparse.Namespace) -> None:
    from fusechat.exports.llamafactory import export_llamafactory

    _needs(run, "build")
    _needs(run, *(name for name in BUILDS if name in run.folders))
    for name, count in export_llamafactory(run, options.out, options.sft_only).items():
        print(f"{options.out / name}.jsonl: {count} rows")


def _pool(run: Lineage, options: argparse.Namespace) -> None:
    from fusechat.exports.pool import export_pool

    judged = [name for name in run.manifests if name.split("/")[0] in ("sample", "annotate")]
    samples = [name for name in run.folders if name.startswith("sample/")]
    missing = [name for name in samples if name not in run.manifests]
    _needs(run, "prompts", *judged, *(missing if len(missing) == len(samples) else ()))
    if missing:
        print(f"not in the pool, since not done: {', '.join(missing)}")
    for name, count in export_pool(run, options.out).items():
        print(f"{options.out / name}: {count:,} rows")


def _model(run: Lineage, options: argparse.Namespace) -> None:
    from fusechat.exports.model import export_model

    trained = [name for name in ("train/sft", "train/dpo") if name in run.manifests]
    _needs(run, *trained[-1:])
    unit, names = export_model(run, options.out)
    print(f"{options.out}: the model of {unit}, {len(names)} files")


def push(options: argparse.Namespace) -> int:
    """Push an exported folder to the hub."""
    from fusechat.cards.push import push_folder

    print(push_folder(options.folder, options.repo, options.public))
    return 0


def clean(options: argparse.Namespace) -> int:
    """List the folders that no run refers to; remove them with `--yes`."""
    from fusechat.pools.clean import clean as remove
    from fusechat.pools.clean import listing, unused

    workspace: Path = options.workspace.resolve()
    if not workspace.is_dir():
        raise RecipeError([Fault(str(options.workspace), "", "there is no such workspace.")])
    found = remove(workspace) if options.yes else unused(workspace)
    if not found:
        print("nothing to remove: every unit's folder belongs to a run.")
        return 0
    print("\n".join(listing(found)))
    if options.yes:
        print("removed.")
        return 0
    print("No run refers to these. Runs of other recipes could still take over their rows; remove")
    print("a run's own folder under runs/ first to have its units listed. Remove them: --yes")
    return 0
