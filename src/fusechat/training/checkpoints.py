"""Checkpoints: all that the next step depends on, in folders that are whole or not there.

`checkpoints/<step>/` is a model folder that transformers loads (weights, configuration,
tokenizer), with `optimizer.safetensors` (moments and random states) and `state.json` (the
step, and what the run is); where adapters are trained also with `adapter/`, and the weights are
the merged ones. The learning rate and the place in the data follow from the step. No file depends
on how many ranks there are, so that a run can go on with more or fewer of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from fusechat.digests import digest
from fusechat.errors import TrainingError
from fusechat.files import read_json, write_json
from fusechat.training.adapters import (
    ADAPTER,
    adapter_weights,
    is_adapted,
    merged_weights,
    save_adapters,
)
from fusechat.training.models import publish
from fusechat.training.ranks import Ranks
from fusechat.training.sharding import gather, like

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FINISHED = "finished.json"
"""Of a unit that was trained by ranks of their own: the next run takes its counts and closes it."""
Tensors = dict[str, "torch.Tensor"]


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
        weights: Weights,
        tokenizer: PreTrainedTokenizerBase,
        optimizer: torch.optim.Optimizer,
        ranks: Ranks,
    ) -> None:
        """Write the state after step `step`, then remove all but the newest `keep`.

        Every rank must call this; rank 0 writes, and the others wait for it.
        """
        state = _optimizer_state(optimizer, ranks)

        def write(folder: Path) -> None:
            weights.write(folder, tokenizer)
            if weights.adapters is not None:
                (folder / ADAPTER).mkdir()
                weights.write_adapters(folder / ADAPTER)
            _save_state(folder, state)
            write_json(folder / "state.json", {"step": step, "run": digest(self.run)})

        if ranks.main:
            publish(self.folder / str(step), write, "train.checkpoint")
            self.prune()
        ranks.wait()

    def prune(self) -> None:
        """Remove all but the newest `keep`; a run killed after a save may have left one more."""
        for old in self._steps()[: -self.keep]:
            shutil.rmtree(self.folder / str(old))

    def _steps(self) -> list[int]:
        names = (path.name for path in self.folder.glob("[0-9]*"))
        return sorted(int(name) for name in names if name.isdigit())


@dataclass(frozen=True)
class Weights:
    """The weights of a model as rank 0 writes them: whole, and merged where there are adapters."""

    model: Any
    base: Path
    """The model folder that training began with."""
    whole: Tensors | None
    """None: as they are in `model`."""
    adapters: Tensors | None

    @classmethod
    def of(cls, model: Any, base: Path, ranks: Ranks, sharded: bool) -> Self:
        """Gather them; every rank must call this."""
        if is_adapted(model):
            whole = merged_weights(model, ranks)
            return cls(model, base, whole, adapter_weights(model, ranks))
        if sharded:
            return cls(model, base, gather(model.state_dict(keep_vars=True), ranks), None)
        return cls(model, base, None, None)

    def write(self, folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
        """Put a model that transformers loads into `folder`."""
        plain = self.model if self.adapters is None else self.model.get_base_model()
        save_model(folder, plain, tokenizer, self.whole)

    def write_adapters(self, folder: Path) -> None:
        """Put adapters that PEFT loads into `folder`; there must be some."""
        assert self.adapters is not None
        save_adapters(folder, self.model, self.adapters, self.base)


def save_model(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    weights: Tensors | None = None,
) -> None:
    """Write weights (safetensors, float32), configuration, tokenizer and chat template.

    `weights`: in place of the model's own.
    """
    model.save_pretrained(str(folder), state_dict=weights)
    tokenizer.save_pretrained(str(folder))


def _optimizer_state(optimizer: torch.optim.Optimizer, ranks: Ranks) -> Tensors:
    """Moments by number and name, whole, on rank 0, with its random states."""
    import torch

    state = optimizer.state_dict()["state"]
    tensors = gather(
        {
            f"{number}.{name}": tensor
            for number, entry in state.items()
            for name, tensor in entry.items()
        },
        ranks,
    )
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    return tensors


def _save_state(folder: Path, tensors: Tensors) -> None:
    from safetensors.torch import save_file

    save_file(tensors, folder / "optimizer.safetensors")


def restore_optimizer(checkpoint: Checkpoint, optimizer: torch.optim.Optimizer) -> None:
    """Put the moments into `optimizer` and the random states into torch, as they were saved.

    Where parameters are shared among ranks, each rank takes its share of the moments.
    """
    import torch
    from safetensors.torch import load_file

    tensors = load_file(checkpoint.folder / "optimizer.safetensors")
    torch.set_rng_state(tensors.pop("random.cpu"))
    cuda = tensors.pop("random.cuda", None)
    if cuda is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(cuda)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, entry = name.partition(".")
        state.setdefault(int(number), {})[entry] = like(parameters[int(number)], tensor)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def write_finished(folder: Path, run: Any, counts: Mapping[str, Any]) -> None:
    """Say in `finished.json` that the run whose model is in `folder` came to its end."""
    write_json(folder / FINISHED, {"run": digest(run), "counts": dict(counts)})


def read_finished(folder: Path, run: Any) -> dict[str, Any] | None:
    """What `write_finished` was told, if it was of this run and its model is there."""
    path = folder / FINISHED
    if not (path.exists() and (folder / "model").is_dir()):
        return None
    said = read_json(path)
    counts: dict[str, Any] = said["counts"]
    return counts if said["run"] == digest(run) else None
