"""The folder of one unit: what it holds, what can be adopted from it, what is set aside."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusechat.digests import digest_path
from fusechat.errors import DamagedError
from fusechat.executors.adopted import Adopted
from fusechat.files import read_json, write_atomic
from fusechat.planner import ROWWISE, Unit
from fusechat.tables import read_dicts, shards, table_info

SET_ASIDE = "set-aside"
"""Rows made from other inputs than the present ones wait here to be adopted."""
REFRESHED = "refreshed"
"""A mark: this unit is made again from nothing, and adopts no rows. Gone when it is done."""


CUT = "by prompt"
"""How shards of row-wise units are cut. Rows in shards that were cut otherwise are set aside."""


def unit_said(unit: Unit, part: str | None, digests: Mapping[str, str]) -> dict[str, Any]:
    """What `unit.json` says; `digests`: of the unit's inputs, `part`: of a row-wise unit's part."""
    said = {
        "unit": unit.name,
        "key": unit.key,
        "kind": unit.kind,
        "part": part,
        "inputs": dict(digests),
        "made_from": unit.made_from,
    }
    return said | ({"shards": CUT} if unit.rowwise else {})


def same_rows(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether what two `unit.json` say lets the rows of one stand in the place of the other's."""
    return all(one.get(name) == other.get(name) for name in ("inputs", "shards"))


def made_tables(folder: Path) -> dict[str, dict[str, Any]]:
    """Rows and digest of all that a unit made: tables, a model, metrics."""
    out: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.iterdir()):
        if path.name == "journal":  # a kill may have left the draft of a shard there
            continue
        if path.is_dir() and shards(path):
            info = table_info(path)
            out[path.name] = {"rows": info.rows, "digest": info.digest}
        elif path.name in ("model", "metrics.json", "metrics.jsonl", "benchmarks.json"):
            out[path.name] = {"digest": digest_path(path)}
    return out


def check_whole(folder: Path) -> None:
    """Raises `DamagedError` where a finished unit does not hold what its manifest says."""
    manifest = folder / "manifest.json"
    for name, said in read_json(manifest)["tables"].items():
        path = folder / name
        if not path.exists():
            raise DamagedError(path, "it is not there", f"Remove {manifest}")
        if "rows" not in said:
            if digest_path(path) != said["digest"]:
                raise DamagedError(path, "its bytes are not those that the run wrote")
            continue
        found = table_info(path)
        if found.rows < said["rows"]:
            missing = f"it holds {found.rows} of {said['rows']} rows"
            raise DamagedError(path, missing, f"Remove {manifest}")
        if found.digest != said["digest"]:
            for _ in read_dicts(path):  # names the shard where one cannot be read
                pass
            raise DamagedError(path, "its bytes are not those that the run wrote")


def adoptable(workspace: Path, folder: Path, part: str) -> Adopted:
    """A look-up of rows that the part of this digest already made anywhere in the workspace.

    Failed rows are left out. A unit's own rows count only where they were set aside. Of a row
    that was made twice (`--refresh`), the unit written last has the one that counts. Close it.
    """
    out = Adopted(folder)
    if (folder / REFRESHED).exists():
        return out
    for path in sorted(workspace.rglob("unit.json"), key=_newest_first):
        made = read_json(path)
        if made.get("part") != part:
            continue
        place = path.parent / SET_ASIDE if path.parent == folder else path.parent
        out.add(place, ROWWISE[made["kind"]])
    return out


def _newest_first(path: Path) -> tuple[int, str]:
    return -path.stat().st_mtime_ns, str(path)


def begin_again(folder: Path) -> None:
    """Remove all that a unit made, and mark it; a kill in between is made good by the next run."""
    write_atomic(folder / REFRESHED, b"removing")
    finish_removal(folder)


def finish_removal(folder: Path) -> None:
    """Go on removing where `begin_again` was killed; does nothing elsewhere."""
    mark = folder / REFRESHED
    if mark.exists() and mark.read_bytes() == b"removing":
        (folder / "manifest.json").unlink(missing_ok=True)
        remove_tables(folder)
        write_atomic(mark, b"removed")


def set_aside(folder: Path) -> None:
    """Keep a unit's rows for adoption, out of the way of those made from other inputs."""
    aside = folder / SET_ASIDE
    aside.mkdir(exist_ok=True)
    for name, kept in (("data", "*.parquet"), ("journal", "*.jsonl")):
        number = sum(1 for _ in (aside / name).glob("*"))
        for path in sorted((folder / name).glob(kept)):
            (aside / name).mkdir(exist_ok=True)
            path.rename(aside / name / f"{number:05d}{path.suffix}")
            number += 1
    shutil.rmtree(folder / "journal", ignore_errors=True)


def remove_tables(folder: Path) -> None:
    """Remove all that an earlier attempt made; its log stays."""
    for path in folder.iterdir() if folder.exists() else ():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in ("unit.json", "log.txt", REFRESHED):
            path.unlink()
