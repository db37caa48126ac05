"""Checkpoints: all that the next step depends on, in folders that are whole or not there.

`checkpoints/<step>/` is a model folder that transformers loads (weights, configuration,
tokenizer), with `optimizer.safetensors` (moments and random states) and `state.json` (the
step, and what the run is). The learning rate and the place in the data follow from the step.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusechat.digests import digest
from fusechat.errors import TrainingError
from fusechat.files import read_json, write_json
from fusechat.training.models import publish

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk: the state after step `step`."""

    folder: Path
    step: int


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run."""

    folder: Path
    """Holds one folder a checkpoint, named by its step."""
    run: Any
    """What they must belong to: any JSON value."""
    keep: int
    """How many stay, the newest ones; at least 1."""

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint; raises `TrainingError` if it is of another run."""
        steps = self._steps()
        if not steps:
            return None
        found = Checkpoint(self.folder / str(steps[-1]), steps[-1])
        if read_json(found.folder / "state.json")["run"] != digest(self.run):
            raise TrainingError(
                f"the checkpoint {found.folder} is of a run with other rows or settings. "
                f"Remove {self.folder} to train from the start."
            )
        return found

    def clear(self) -> None:
        """Remove all, for a run that begins again."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def save(
        self,
        step: int,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Write the state after step `step`, then remove all but the newest `keep`."""

        def write(folder: Path) -> None:
            save_model(folder, model, tokenizer)
            _save_optimizer(folder, optimizer)
            write_json(folder / "state.json", {"step": step, "run": digest(self.run)})

        publish(self.folder / str(step), write, "train.checkpoint")
        self.prune()

    def prune(self) -> None:
        """Remove all but the newest `keep`; a run killed after a save may have left one more."""
        for old in self._steps()[: -self.keep]:
            shutil.rmtree(self.folder / str(old))

    def _steps(self) -> list[int]:
        names = (path.name for path in self.folder.glob("[0-9]*"))
        return sorted(int(name) for name in names if name.isdigit())


def save_model(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write weights (safetensors, float32), configuration, tokenizer and chat template."""
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))


def _save_optimizer(folder: Path, optimizer: torch.optim.Optimizer) -> None:
    import torch
    from safetensors.torch import save_file

    state = optimizer.state_dict()["state"]
    tensors = {
        f"{number}.{name}": tensor
        for number, entry in state.items()
        for name, tensor in entry.items()
    }
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    save_file(tensors, folder / "optimizer.safetensors")


def restore_optimizer(checkpoint: Checkpoint, optimizer: torch.optim.Optimizer) -> None:
    """Put the moments into `optimizer` and the random states into torch, as they were saved."""
    import torch
    from safetensors.torch import load_file

    tensors = load_file(checkpoint.folder / "optimizer.safetensors")
    torch.set_rng_state(tensors.pop("random.cpu"))
    cuda = tensors.pop("random.cuda", None)
    if cuda is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(cuda)
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, entry = name.partition(".")
        state.setdefault(int(number), {})[entry] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
