"""Fetching the benchmarks' files from the hub at their commits, one file at a time.

A file is downloaded beside its place, held against the digest that the hub has of it, and then
put there at once; a folder is put there when all its files are. What has a digest of its own in
the catalogue and is another file is kept, and says so: it is what the hub has at that commit.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from fusechat.errors import MissingExtraError
from fusechat.tasks._catalogue import DataFile, sha256_of
from fusechat.tasks._data_files import benchmark_tasks, fetch_target, is_private

UNDER_WAY = ".fetching"
"""Folder below the data's for what is not whole yet."""
_DATA = (".arrow", ".parquet", ".json", ".jsonl", ".csv", ".gz", ".txt", ".yaml", ".yml")


@dataclass(frozen=True)
class HubFile:
    """A file of a data set at a commit: its path, and its digest by one of two ways."""

    path: str
    sha256: str | None
    """Of the content, where the hub keeps it as a large file."""
    git: str
    """Git's digest of the content (SHA-1 of `blob SIZE\\0CONTENT`), else."""


class Hub(Protocol):
    """What is asked of the hub."""

    def files(self, repo: str, revision: str) -> Sequence[HubFile]:
        """All files of a data set."""
        ...

    def fetch(self, repo: str, revision: str, path: str, folder: Path) -> Path:
        """Download one file into `folder`; where it is then."""
        ...


@dataclass(frozen=True)
class Fetched:
    """What came of one file; `fault` is empty where it is there."""

    benchmark: str
    role: str
    path: str
    fault: str = ""


def open_hub() -> Hub:
    """The hub by `huggingface_hub`; raises `MissingExtraError` without it."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingExtraError("fusechat data --fetch", "huggingface_hub", "hub") from error
    return _FaceHub(huggingface_hub)


@dataclass(frozen=True)
class _FaceHub:
    client: Any

    def files(self, repo: str, revision: str) -> Sequence[HubFile]:
        tree = self.client.HfApi().list_repo_tree(
            repo, recursive=True, revision=revision, repo_type="dataset"
        )
        return [
            HubFile(one.path, one.lfs.sha256 if one.lfs else None, one.blob_id)
            for one in tree
            if hasattr(one, "blob_id")
        ]

    def fetch(self, repo: str, revision: str, path: str, folder: Path) -> Path:
        return Path(
            self.client.hf_hub_download(
                repo, path, repo_type="dataset", revision=revision, local_dir=folder
            )
        )


def fetch_missing(
    tasks: Sequence[str], folder: Path, hub: Hub, tell: Callable[[str], None]
) -> list[Fetched]:
    """Fetch what is missing below `folder` and the hub has; what fails stops no other file."""
    known, done = benchmark_tasks(), []
    for name in tasks:
        for file in known[name].data:
            target = fetch_target(file)
            if target is None or is_private(known[name]) or file.find(str(folder)) is not None:
                continue
            tell(f"{name}: {file.hub[0] if file.hub else ''} -> {folder / target}")
            fault = _fault(file, folder, target, hub)
            done.append(Fetched(name, file.role, str(folder / target), fault))
    shutil.rmtree(folder / UNDER_WAY, ignore_errors=True)
    return done


class _FetchError(Exception):
    """A file that could not be fetched; the text says why, and the way by hand."""


def _fault(file: DataFile, folder: Path, target: PurePosixPath, hub: Hub) -> str:
    """Fetch one entry of the catalogue; why it failed, or nothing."""
    try:
        _try(file, folder, target, hub)
    except _FetchError as error:
        return str(error)
    return ""


def _try(file: DataFile, folder: Path, target: PurePosixPath, hub: Hub) -> None:
    try:
        _fetch(file, folder, target, hub)
    except Exception as error:  # the hub's client raises errors of several libraries
        told = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else ""
        raise _FetchError(
            f"{target} was not fetched: {told or type(error).__name__}. By hand: {file.home} "
            f"(licence: {file.licence}), and put it at {folder / target}."
        ) from error


def _fetch(file: DataFile, folder: Path, target: PurePosixPath, hub: Hub) -> None:
    assert file.hub is not None
    assert file.revision is not None
    repo, inner = file.hub
    listed = {one.path: one for one in hub.files(repo, file.revision)}
    wanted = [one for one in listed.values() if _data(one.path)] if inner == "." else []
    if inner != ".":
        if inner not in listed:
            raise FileNotFoundError(f"{repo} has no {inner} at {file.revision[:7]}")
        wanted = [listed[inner]]
    if not wanted:
        raise FileNotFoundError(f"{repo} has no files of data at {file.revision[:7]}")
    beside = folder / UNDER_WAY / repo.replace("/", "--")
    beside.mkdir(parents=True, exist_ok=True)
    got = {one.path: _checked(one, repo, file.revision, beside, hub) for one in wanted}
    place = folder / target
    place.parent.mkdir(parents=True, exist_ok=True)
    if inner == ".":
        whole = beside.with_name(beside.name + ".whole")
        for path, at in got.items():
            (whole / path).parent.mkdir(parents=True, exist_ok=True)
            os.replace(at, whole / path)
        os.replace(whole, place)
    else:
        os.replace(got[inner], place)


def _checked(one: HubFile, repo: str, revision: str, beside: Path, hub: Hub) -> Path:
    """Download one file; raises `ValueError` where it is not what the hub says that it is."""
    path = hub.fetch(repo, revision, one.path, beside)
    same = sha256_of(path) == one.sha256 if one.sha256 else git_digest(path) == one.git
    if not same:
        path.unlink()
        raise ValueError(f"{one.path} came damaged: its digest is not the hub's")
    return path


def git_digest(path: Path) -> str:
    """Git's digest of a file as a blob, 40 hex digits."""
    found = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def _data(path: str) -> bool:
    return path.endswith(_DATA) and not PurePosixPath(path).name.startswith(".")
