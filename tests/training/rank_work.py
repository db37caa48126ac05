"""What ranks do in the tests of several ranks; imported by those processes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from fusechat.errors import TrainingError
from fusechat.progress import Progress, quiet

STEPS = {"global_batch_size": 6, "num_train_epochs": 2, "save_steps": 2, "learning_rate": 3e-3}


class Stopped(Exception):
    """Training ends here, as by a kill, on all ranks."""


class StopAfter(Progress):
    """Stops after some steps."""

    def __init__(self, steps: int) -> None:
        super().__init__("")
        self.left = steps

    def start(self, total: int, what: str, done: int = 0) -> None:
        self.counts = what == "steps"

    def advance(self, count: int = 1) -> None:
        self.left -= count if self.counts else 0
        if self.counts and not self.left:
            raise Stopped


def train_unit(
    folder: Path, unit: str, stop: int | None = None, where: Any = None, **settings: Any
) -> dict[str, Any]:
    """Train `folder/unit`; rows per forward pass are few, so that ranks get unlike numbers."""
    from dataclasses import replace

    from training_tiny import context_of

    from fusechat.stages.train import train_dpo
    from fusechat.stages.train_settings import DpoSettings

    given = DpoSettings.model_validate({**STEPS, "held_out": 0, **settings})
    context = context_of(
        folder / unit, folder / "base", folder / "build", given,
        micro_batch_size=2, micro_batch_tokens=60, **(where or {}),
    )  # fmt: skip
    progress = quiet() if stop is None else StopAfter(stop)
    try:
        return train_dpo(replace(context, progress=progress))
    except Stopped:
        return {}


def all_units(folder: str, progress: Progress) -> dict[str, Any]:
    """Everything that needs two ranks and torch, in one go."""
    import torch

    torch.set_num_threads(1)
    place, sharded = Path(folder), {"where": {"sharding": "fsdp2"}}
    train_unit(place, "none")
    train_unit(place, "fsdp2", **sharded, gradient_checkpointing=True)
    train_unit(place, "padded", **sharded, engine="padded")
    train_unit(place, "lora", **sharded, lora={"r": 4})
    for unit in ("broken", "moved"):
        train_unit(place, unit, 3, **sharded, gradient_checkpointing=True)
    train_unit(place, "broken", **sharded, gradient_checkpointing=True)
    return {"disagreed": _disagree(), "bits": _bits(place)}


def _disagree() -> str:
    from fusechat.parts import Where
    from fusechat.training.ranks import find_ranks

    ranks = find_ranks(Where(device="cpu"))
    ranks.agree({"rows": 3})
    try:
        ranks.agree({"rows": 3, "the newest checkpoint": ranks.rank})
    except TrainingError as error:
        return str(error)
    return ""


def _bits(place: Path) -> list[bool]:
    """A sum over buckets is that of every gradient alone, whoever has one and whoever has none."""
    import torch

    from fusechat.parts import Where
    from fusechat.training import ranks as module

    ranks = module.find_ranks(Where(device="cpu"))
    module.BUCKET_BYTES = 40
    shapes = ((3, 2), (5,), (2,), (20,), (1,))
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in shapes]
    for number, parameter in enumerate(parameters[1 if ranks.main else 0 :]):
        parameter.grad = torch.full_like(parameter, 2.0**number)
    ranks.sum_gradients_(parameters)
    # Rank 1 has 1, 2, 4, 8, 16; rank 0 nothing, then 1, 2, 4, 8.
    return [
        bool((p.grad == value).all())
        for p, value in zip(parameters, (1, 3, 6, 12, 24), strict=True)
        if p.grad is not None
    ]


def echo(arguments: Any, progress: Progress) -> Any:
    """Reports, and returns what it got and who it is."""
    progress.start(2, "steps")
    progress.advance()
    progress.note(f"rank {os.environ['RANK']}")
    return arguments, os.environ["RANK"], os.environ["WORLD_SIZE"]


def die_as_rank_1(how: str, progress: Progress) -> None:
    """Rank 1 ends in some way while rank 0 goes on, or loses its connection a little earlier."""
    if os.environ["RANK"] == "1":
        time.sleep(0.3 if how == "late" else 0)
        print("about to fall", flush=True)
        if how == "error":
            raise TrainingError("nothing to train on.")
        if how == "trace":
            raise ZeroDivisionError("of a bug")
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "late":
        raise RuntimeError("connection closed by peer")
    time.sleep(60)


def sleep(arguments: Any, progress: Progress) -> None:
    """Says its process id and waits."""
    progress.note(str(os.getpid()))
    time.sleep(60)
