"""What other models say of the rows: the frozen reference's and the sources' log-probabilities.

The reference's are made once, by the policy's own path, before the first step (`reference_pass`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fusechat.errors import TrainingError
from fusechat.files import read_json, write_json
from fusechat.training.examples import Example
from fusechat.training.models import publish

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Known:
    """What is known of some rows before a step; every tensor is float64, on the device."""

    reference: torch.Tensor | None = None
    """`[rows, sides]`, nats summed over the response: what the model said before training."""
    source_logps: torch.Tensor | None = None
    """`[rows, sides, sources]`, nats summed over the response; nan where a source gave none."""
    source_lengths: torch.Tensor | None = None
    """`[rows, sides, sources]`: tokens in each source's own tokenizer; 0 where it gave none."""

    def rows(self, places: Sequence[int]) -> Known:
        """The same of some rows."""
        wanted = list(places)
        tensors = (self.reference, self.source_logps, self.source_lengths)
        return Known(*(None if tensor is None else tensor[wanted] for tensor in tensors))


@dataclass(frozen=True)
class Marks:
    """By what a row's reference is known again in another unit: the same mark, the same value."""

    model: str
    """Digest of the model that gave the values, and of how it was run."""
    rows: NDArray[np.int64]
    """`[rows]`, of a row's token ids."""
    steps: NDArray[np.int64]
    """`[rows]`, of its token ids and of all that went through the model with them: on a CPU, values
    with the same mark have the same bits."""


def write_reference(
    folder: Path, examples: Sequence[Example], logps: torch.Tensor, marks: Marks | None = None
) -> None:
    """Write `logps` (nats, `[rows, sides]`) into `folder`, wholly or not at all.

    Without `marks` no other unit takes the values over.
    """
    import torch
    from safetensors.torch import save_file

    tensors = {"logps": logps.cpu().contiguous()}
    if marks is not None:
        tensors["rows"] = torch.from_numpy(marks.rows)
        tensors["steps"] = torch.from_numpy(marks.steps)

    def write(place: Path) -> None:
        save_file(tensors, place / "logps.safetensors")
        made = {} if marks is None else {"model": marks.model}
        write_json(place / "rows.json", {"rows": rows_digest(examples), **made})

    publish(folder, write, "train.reference")


def read_reference(
    folder: Path, examples: Sequence[Example], device: torch.device
) -> torch.Tensor | None:
    """The folder's values, nats, float64 `[rows, sides]`; None where there is none.

    Raises `TrainingError` if it was made for other rows.
    """
    from safetensors.torch import load_file

    if not folder.is_dir():
        return None
    if read_json(folder / "rows.json")["rows"] != rows_digest(examples):
        raise TrainingError(
            f"the reference log-probabilities in {folder} are of other rows. Remove that folder."
        )
    journal_of(folder).unlink(missing_ok=True)  # of a run that was killed before it could do so
    found: torch.Tensor = load_file(folder / "logps.safetensors")["logps"]
    return found.to(device)


def journal_of(folder: Path) -> Path:
    """Where the values of a folder are kept while it is not whole yet."""
    return folder.with_name(f"{folder.name}.jsonl")


def rows_digest(examples: Sequence[Example]) -> str:
    """Digest of the prompt ids and token ids of all rows, in their order."""
    found = hashlib.sha256()
    for example in examples:
        found.update(f"{example.prompt_id}\0{len(example.texts)}".encode())
        for text in example.texts:
            found.update(f"\0{len(text.ids)}:{text.start}\0".encode())
            found.update(text.ids.astype("<i4").tobytes())
    return found.hexdigest()
