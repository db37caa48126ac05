"""What other models say of the rows: the frozen reference's and the sources' log-probabilities.

The reference's are made once, by the policy's own path, before the first step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fusechat.errors import TrainingError
from fusechat.files import read_json, write_json
from fusechat.training.batches import epoch_order
from fusechat.training.examples import Example
from fusechat.training.models import publish

if TYPE_CHECKING:
    import torch

    from fusechat.training.engine import Engine


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


def compute_reference(
    engine: Engine, examples: Sequence[Example], seed: int, batch: int
) -> torch.Tensor:
    """Nats, float64 `[rows, sides]`, by the very batches (of `batch` rows) of the first epoch.

    So the policy's first step meets its reference bit for bit, and its loss is ln 2.
    """
    import torch

    order = epoch_order(len(examples), seed, 0)
    steps = [order[start : start + batch] for start in range(0, len(order), batch)]
    parts = [engine.logps([examples[row] for row in step]) for step in steps]
    made = torch.cat(parts)
    out = torch.empty_like(made)
    out[order] = made
    return out


def write_reference(folder: Path, examples: Sequence[Example], logps: torch.Tensor) -> None:
    """Write `logps` (nats, `[rows, sides]`) into `folder`, wholly or not at all."""
    from safetensors.torch import save_file

    def write(place: Path) -> None:
        save_file({"logps": logps.cpu().contiguous()}, place / "logps.safetensors")
        write_json(place / "rows.json", {"rows": rows_digest(examples)})

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
    found: torch.Tensor = load_file(folder / "logps.safetensors")["logps"]
    return found.to(device)


def rows_digest(examples: Sequence[Example]) -> str:
    """Digest of the prompt ids and token ids of all rows, in their order."""
    found = hashlib.sha256()
    for example in examples:
        found.update(f"{example.prompt_id}\0{len(example.texts)}".encode())
        for text in example.texts:
            found.update(f"\0{len(text.ids)}:{text.start}\0".encode())
            found.update(text.ids.astype("<i4").tobytes())
    return found.hexdigest()
