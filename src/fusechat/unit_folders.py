"""The folder of one unit: what it holds, what can be adopted from it, what is set aside."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from fusechat.digests import digest_path
from fusechat.errors import DamagedError
from fusechat.executors.rows import answers_of, failed
from fusechat.records import Record, Response, Score
from fusechat.tables import read_dicts, read_json, shards, table_info, write_atomic

SET_ASIDE = "set-aside"
"""Rows made from other inputs than the present ones wait here to be adopted."""
REFRESHED = "refreshed"
"""A mark: this unit is made again from nothing, and adopts no rows. Gone when it is done."""


def made_tables(folder: Path) -> dict[str, dict[str, Any]]:
    """Rows and digest of all that a unit made: tables, a model, metrics."""
    out: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir() and shards(path):
            info = table_info(path)
            out[path.name] = {"rows": info.rows, "digest": info.digest}
        elif path.name in ("model", "metrics.json", "metrics.jsonl"):
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


def adoptable(workspace: Path, folder: Path, part: str) -> dict[str, Record]:
    """Rows that the part of this digest already made anywhere in the workspace, by `made_from`.

    Failed rows are left out. A unit's own rows count only where they were set aside. Of a row
    that was made twice (`--refresh`), the unit written last has the one that counts.
    """
    out: dict[str, Record] = {}
    if (folder / REFRESHED).exists():
        return out
    for path in sorted(workspace.rglob("unit.json"), key=_newest_first):
        made = read_json(path)
        if made.get("part") != part:
            continue
        row_type = Response if made["kind"] == "sample" else Score
        place = path.parent / SET_ASIDE if path.parent == folder else path.parent
        for row in answers_of(place, row_type):
            if not failed(row):
                out.setdefault(row.made_from, row)  # type: ignore[attr-defined]
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
    for name in ("data", "journal"):
        if not (folder / name).exists():
            continue
        for path in sorted((folder / name).iterdir()):
            (aside / name).mkdir(exist_ok=True)
            number = sum(1 for _ in (aside / name).iterdir())
            path.rename(aside / name / f"{number:05d}{path.suffix}")


def remove_tables(folder: Path) -> None:
    """Remove all that an earlier attempt made; its log stays."""
    for path in folder.iterdir() if folder.exists() else ():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in ("unit.json", "log.txt", REFRESHED):
            path.unlink()
