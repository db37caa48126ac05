"""This process among those that train together, and the device it trains on.

Alone it is rank 0 of 1, and torch.distributed is not touched. Where several processes were started
(`where.ranks`, torchrun, `accelerate launch`) each takes its share of a step's rows. What they
compute is summed, not averaged: losses are divided by the whole step's rows or tokens already.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from fusechat.errors import TrainingError

if TYPE_CHECKING:
    import torch

    from fusechat.settings import Where

BUCKET_BYTES = 32 * 2**20
"""Gradients that are summed over ranks in one call."""
PATIENCE = timedelta(hours=3)
"""How long a rank waits for others, which may be writing a large checkpoint. A rank that dies is
noticed at once by whoever started it."""
RENDEZVOUS = "FUSECHAT_RENDEZVOUS"
"""Environment variable with the file where ranks of one machine meet; else `MASTER_ADDR`."""


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
        """Sum every gradient over all ranks; a rank without rows counts as zero.

        Gradients of sharded parameters are left alone: their backward pass has summed them.
        """
        import torch

        if self.world == 1:
            return
        for bucket in _buckets(_gradients(parameters)):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            self.sum_(flat)
            parts = torch.split(flat, [gradient.numel() for gradient in bucket])
            for gradient, part in zip(bucket, parts, strict=True):
                gradient.copy_(part.view_as(gradient))

    def wait(self) -> None:
        """Return when every rank is here."""
        import torch

        if self.world > 1:
            torch.distributed.barrier()

    def agree(self, what: Mapping[str, int]) -> None:
        """Raise `TrainingError` on all ranks where one of these numbers is another elsewhere."""
        import torch

        if self.world == 1:
            return
        own = torch.tensor(list(what.values()), dtype=torch.int64, device=self.device)
        both = torch.cat([own, -own])
        torch.distributed.all_reduce(both, torch.distributed.ReduceOp.MAX)
        most, least = both[: len(own)], -both[len(own) :]
        other = [
            name for name, same in zip(what, (most == least).tolist(), strict=True) if not same
        ]
        if other:
            raise TrainingError(
                f"the ranks do not agree on {', '.join(other)} (rank {self.rank}: "
                f"{', '.join(f'{name} {what[name]}' for name in other)}). Start all of them with "
                "the same recipe, and let the workspace be one folder that all machines see."
            )


def _gradients(parameters: Iterable[torch.nn.Parameter]) -> Iterator[torch.Tensor]:
    import torch
    from torch.distributed.tensor import DTensor

    for parameter in parameters:
        if not parameter.requires_grad or isinstance(parameter, DTensor):
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        yield parameter.grad


def _buckets(gradients: Iterable[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Consecutive gradients of one type, up to `BUCKET_BYTES` where it is more than one."""
    bucket: list[torch.Tensor] = []
    size = 0
    for gradient in gradients:
        full = size + gradient.nbytes > BUCKET_BYTES
        if bucket and (full or gradient.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(gradient)
        size += gradient.nbytes
    if bucket:
        yield bucket


def launched() -> bool:
    """Whether this process is one of several that a launcher started together."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def find_ranks(where: Where) -> Ranks:
    """The ranks that a launcher started, or this process alone; joins the others once.

    Raises `TrainingError` where there are more ranks than GPUs, or no GPU was left for each.
    """
    if not launched():
        return Ranks(_device(where.device))
    import torch

    device = _device_of_rank(where.device)
    if not torch.distributed.is_initialized():
        _join(device)
    return Ranks(device, torch.distributed.get_rank(), torch.distributed.get_world_size())


def leave_ranks() -> None:
    """End what `find_ranks` joined; does nothing alone."""
    if "torch" not in sys.modules:
        return
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _join(device: torch.device) -> None:
    import torch

    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    meeting = os.environ.get(RENDEZVOUS)
    torch.distributed.init_process_group(
        backend="cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
        init_method=f"file://{meeting}" if meeting else "env://",
        rank=rank, world_size=world, timeout=PATIENCE,
    )  # fmt: skip


def _device_of_rank(name: str) -> torch.device:
    import torch

    found = _device(name)
    if found.type == "cpu":
        return found
    if ":" in name:
        raise TrainingError(
            f"the cluster file names one device ('{name}') for several ranks. Write device: "
            f"{found.type} or auto: each rank takes one."
        )
    local = int(os.environ.get("LOCAL_RANK", os.environ["RANK"]))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
    visible = torch.accelerator.device_count()
    if here > visible:
        raise TrainingError(
            f"{here} ranks on a machine where {visible} GPUs are to be seen. Set ranks to at most "
            f"{visible} in the cluster file (torchrun: --nproc-per-node), or look at "
            "CUDA_VISIBLE_DEVICES."
        )
    device = torch.device(found.type, local)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def _device(name: str) -> torch.device:
    import torch

    if name != "auto":
        return torch.device(name)
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    # Apple's accelerator has no float64, in which log-probabilities are summed.
    return found if found is not None and found.type != "mps" else torch.device("cpu")
