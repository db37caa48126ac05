"""Where the files of each benchmark are: names in a user's folder, hub, package, licence, size.

Nothing of any benchmark is kept in this package. A file is looked for in the folder that the user
names (`data_dir`), then in an installed package, then in the local hub cache; nothing is fetched
here (`fusechat data --fetch` does that).
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class DataFile:
    """One file (or folder of files) that a benchmark needs."""

    role: str
    """What it is for, such as `items`, `judge_prompts`; its key in `Benchmark.found()`."""
    names: tuple[str, ...]
    """Its paths below `data_dir`, the likeliest first; `*` stands for any characters of a name. A
    path is looked for at the top of `data_dir` and at any depth below it."""
    licence: str
    home: str
    """Where to get it, in words that a user can follow."""
    hub: tuple[str, str] | None = None
    """Data set id and file in it, of a set that the hub has as files."""
    revision: str | None = None
    """Commit of the hub's data set."""
    package: tuple[str, str] | None = None
    """Installed package and file in it."""
    sha256: Mapping[str, str] = field(default_factory=dict)
    """Known digests (64 hex digits) -> which version of the file that is."""
    items: int | None = None
    """Items that are evaluated of it, where that is fixed."""
    optional: bool = False
    """Whether the row can be had, perhaps in part, without it."""

    def find(self, data_dir: str | None) -> Path | None:
        """The file, or None where it is nowhere on this machine."""
        if data_dir is not None and (found := _below(Path(data_dir), self.names)):
            return found
        return _in_package(self.package) or _in_cache(self.hub, self.revision)

    def missing(self, data_dir: str | None) -> str:
        """Why it is not there and how to get it."""
        looked = f"in {data_dir}" if data_dir else "anywhere: no --data-dir was given"
        return (
            f"{self.names[0]} is not {looked}. Get it: {self.home} (licence: {self.licence}), and "
            "put it below the folder of --data-dir."
        )


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits; of a folder, of its files' names and digests."""
    if path.is_dir():
        inner = sorted(p for p in path.rglob("*") if p.is_file())
        told = "".join(f"{p.relative_to(path).as_posix()} {sha256_of(p)}\n" for p in inner)
        return hashlib.sha256(told.encode()).hexdigest()
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _below(folder: Path, names: tuple[str, ...]) -> Path | None:
    for name in names:
        for pattern in (name, f"**/{name}"):
            found = sorted(path for path in folder.glob(pattern) if not _hidden(path, folder))
            if found:
                return found[0]
    return None


def _hidden(path: Path, folder: Path) -> bool:
    """Whether it is in a hidden folder: of a version control, or of a fetch under way."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _in_package(place: tuple[str, str] | None) -> Path | None:
    spec = importlib.util.find_spec(place[0]) if place else None
    if place is None or spec is None or not spec.submodule_search_locations:
        return None
    path = Path(next(iter(spec.submodule_search_locations))) / place[1]
    return path if path.exists() else None


def _in_cache(place: tuple[str, str] | None, revision: str | None) -> Path | None:
    if place is None or revision is None:
        return None
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    name = f"datasets--{place[0].replace('/', '--')}"
    path = cache / name / "snapshots" / revision / place[1]
    return path if path.exists() else None
