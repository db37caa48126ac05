"""What the first look keeps of a model for the later ones: no second model is held for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusechat.training.examples import Example, Text
from fusechat.training.models import publish

if TYPE_CHECKING:
    import torch

FOLDER = "watch"
_FILE = "start.safetensors"


@dataclass(frozen=True)
class Start:
    """Of the model before training."""

    logps: torch.Tensor
    """Of the held-out rows, nats, float64 `[rows, sides]`."""
    answers: list[Example]
    """What it answered to held-out prompts, as rows that the engine takes; may be empty."""
    answer_logps: torch.Tensor
    """Of those, nats, float64 `[rows, sides]`."""

    @property
    def texts(self) -> list[Text]:
        """The answers, each with its prompt."""
        return [text for row in self.answers for text in row.texts]

    @property
    def prompts(self) -> list[list[int]]:
        """The prompt of each answer."""
        return [text.ids[: text.start].tolist() for text in self.texts]

    @property
    def responses(self) -> list[list[int]]:
        """The ids of each answer."""
        return [text.ids[text.start :].tolist() for text in self.texts]

    def to(self, device: torch.device) -> Start:
        """The same on `device`."""
        return replace(self, logps=self.logps.to(device), answer_logps=self.answer_logps.to(device))


def as_rows(
    prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], sides: int
) -> list[Example]:
    """Responses as rows of `sides` texts each; those of a row have one prompt.

    Rows with an empty response are left out: it has no log-probability.
    """
    texts = [
        Text(np.asarray([*prompt, *response], dtype=np.int32), len(prompt))
        for prompt, response in zip(prompts, responses, strict=True)
    ]
    rows = _rows(texts, sides)
    return [row for row in rows if all(text.length for text in row.texts)]


def _rows(texts: Sequence[Text], sides: int) -> list[Example]:
    runs = (tuple(texts[at : at + sides]) for at in range(0, len(texts), sides))
    return [Example("", run, 1.0) for run in runs]


def write_start(folder: Path, made_of: str, start: Start) -> None:
    """Keep `start` below the unit's `folder`; `made_of` says of which rows and prompts it is."""

    def write(place: Path) -> None:
        import torch
        from safetensors.torch import save_file

        lists = {
            "ids": [token for text in start.texts for token in text.ids.tolist()],
            "sizes": [len(text.ids) for text in start.texts],
            "starts": [text.start for text in start.texts],
        }
        tensors = {name: torch.tensor(found, dtype=torch.int64) for name, found in lists.items()}
        tensors |= {"logps": start.logps.cpu(), "answer_logps": start.answer_logps.cpu()}
        whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_file(whole, place / _FILE, metadata={"made_of": made_of})

    publish(folder / FOLDER, write, "train.watch_start")


def read_start(folder: Path, made_of: str, sides: int) -> Start | None:
    """What was kept below the unit's `folder`; None where nothing is, or not of `made_of`."""
    from safetensors import safe_open

    path = folder / FOLDER / _FILE
    if not path.is_file():
        return None
    with safe_open(str(path), "pt") as kept:
        if (kept.metadata() or {}).get("made_of") != made_of:
            return None
        names: list[str] = list(kept.keys())
        found: dict[str, Any] = {name: kept.get_tensor(name) for name in names}
    pieces = np.split(found["ids"].numpy().astype(np.int32), np.cumsum(found["sizes"].numpy()))
    texts = [Text(ids, start) for ids, start in zip(pieces, found["starts"].tolist(), strict=False)]
    return Start(found["logps"], _rows(texts, sides), found["answer_logps"])
