"""This process among those that train together, and the device it trains on.

Alone, as in `fusechat run`, it is rank 0 of 1 and nothing of `accelerate` is touched. Where a
launcher with several processes calls `training.loop.train` (`accelerate launch`), every rank
holds the whole model and takes its share of each step's rows; gradients are summed, not
averaged, because losses are divided by the whole step's rows or tokens already.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusechat.errors import MissingExtraError

if TYPE_CHECKING:
    import torch

    from fusechat.settings import Where


@dataclass(frozen=True)
class Ranks:
    """One process of a training run."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def main(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def sum_(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum over all ranks, in place; returns `tensor`."""
        import torch

        if self.world > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def sum_gradients_(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Sum every gradient over all ranks; a rank without rows counts as zero."""
        import torch

        if self.world == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            self.sum_(parameter.grad)

    def wait(self) -> None:
        """Return when every rank is here."""
        import torch

        if self.world > 1:
            torch.distributed.barrier()


def find_ranks(where: Where) -> Ranks:
    """The ranks that `accelerate launch` (or torchrun) started, or this process alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Ranks(_device(where.device))
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise MissingExtraError("training on several devices", "accelerate", "train") from error
    state = PartialState(cpu=where.device == "cpu")
    return Ranks(state.device, state.process_index, state.num_processes)


def _device(name: str) -> torch.device:
    import torch

    if name != "auto":
        return torch.device(name)
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    # Apple's accelerator has no float64, in which log-probabilities are summed.
    return found if found is not None and found.type != "mps" else torch.device("cpu")
