"""Files that are either whole or not there, JSON, and journals of JSON lines; no tables.

A file is written beside its place, fsynced, renamed, and its folder fsynced.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fusechat.errors import DamagedError
from fusechat.faultpoints import reach


def write_atomic(path: Path, data: bytes | memoryview) -> None:
    """Write a file that is either wholly there or not at all, also after power loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    reach("file.written")
    temporary.replace(path)
    sync_folder(path.parent)
    reach("file.renamed")


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON atomically."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomic(path, (text + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON file of a workspace; raises `DamagedError` where it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedError(path, f"it is no JSON ({error})") from error


def append_jsonl(path: Path, *rows: dict[str, Any]) -> None:
    """Append rows as JSON lines, durable when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    with path.open("ab") as handle:
        handle.write(text.encode("utf-8", "surrogatepass"))
        handle.flush()
        os.fsync(handle.fileno())
    reach("journal.appended")


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Read JSON lines; a torn last line (the writer was killed in it) is left out."""
    if not path.exists():
        return
    for line in path.read_bytes().split(b"\n"):
        try:
            row = json.loads(line.decode("utf-8", "surrogatepass"))
        except ValueError:
            continue
        yield row


def mend_torn_line(path: Path) -> None:
    """Cut a torn last line off, so that the next append starts on a line of its own."""
    data = path.read_bytes() if path.exists() else b""
    if data and not data.endswith(b"\n"):
        with path.open("r+b") as handle:
            handle.truncate(data.rfind(b"\n") + 1)
