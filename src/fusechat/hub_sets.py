"""Published data sets: from the hub at a commit, from a folder of their files, or from one file.

Used by the tasks of published prompt sets and by stored responses. Needs `datasets` (extra `hub`)
for everything but a single file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fusechat.columns import FileReadError, read_rows
from fusechat.errors import MissingExtraError
from fusechat.settings import HUB_NAME


def is_file(path: str) -> bool:
    """Whether a resolved `HubSetName` is a single file."""
    return Path(path).is_file()


def is_hub_id(path: str) -> bool:
    """Whether a resolved `HubSetName` is a data set's id on the hub, not a path."""
    return not Path(path).is_absolute() and HUB_NAME.fullmatch(path) is not None


def load_split(path: str, split: str, revision: str | None = None, name: str | None = None) -> Any:
    """One split of a hub set or of a folder, as a `datasets.Dataset` (memory-mapped, by index).

    `name`: the configuration, where the set has several. Raises `MissingExtraError` without
    `datasets`, and `FileReadError` where the set or the split cannot be had, with the mend.
    """
    try:
        from datasets import load_dataset
        from datasets.exceptions import DatasetsError
    except ImportError as error:
        raise MissingExtraError(f"the data set {path}", "datasets", "hub") from error
    try:
        return load_dataset(path, name, split=split, revision=revision)
    except (OSError, ValueError, DatasetsError) as error:
        told = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else repr(error)
        mend = f"Look at the files of {path}."
        if is_hub_id(path):
            at = f" --revision {revision}" if revision else ""
            mend = (
                f"Without a network fetch it first: hf download --repo-type dataset {path}{at}; or "
                "give the folder of its files as 'path'."
            )
        raise FileReadError(
            f"the split '{split}' of {path} cannot be read: {told}. {mend}"
        ) from error


def rows_of_set(
    path: str, split: str, revision: str | None = None, name: str | None = None
) -> Iterator[tuple[str, Any]]:
    """Rows with their places (`openbmb/UltraFeedback:train[7]`), in the set's order.

    A single file (JSON lines, JSON, Parquet) is the split that is asked for, whichever that is;
    a line of it that is no JSON comes as the error.
    """
    if is_file(path):
        yield from read_rows(Path(path))
        return
    for number, row in enumerate(load_split(path, split, revision, name)):
        yield f"{path}:{split}[{number}]", row
