"""The plan of memory for a job, on the device that it is about to use."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusechat.training.examples import Example
from fusechat.training.memory import Choice, How, choose, room_of
from fusechat.training.memory_shapes import Shape, shape_of

if TYPE_CHECKING:
    import torch

    from fusechat.stages.train_settings import TrainingSettings
    from fusechat.training.loop import Job
    from fusechat.training.ranks import Ranks


@dataclass(frozen=True)
class Planned:
    """What a run begins with; `trial` confirms it."""

    checkpointing: bool
    tokens: int | None
    """Of a micro-batch; None leaves it to the engine."""
    choice: Choice | None = None
    """None where the model's sizes are not known."""
    shape: Shape | None = None

    def lead(self, engine: Any) -> None:
        """Give the packed engine its micro-batch tokens; the padded one counts rows, and keeps
        what it has."""
        if self.tokens is not None and hasattr(engine, "budget"):
            engine.budget = self.tokens

    def tell(self, job: Job, ranks: Ranks) -> None:
        """Note the plan; of a model that fits a CPU's memory there is nothing to say."""
        quiet = ranks.device.type == "cpu" and (self.choice is None or self.choice.fits)
        if not quiet:
            job.progress.note(self.line())

    def line(self) -> str:
        """For the user, before anything is loaded."""
        if self.choice is None:
            return "memory is not planned: the sizes of this model are not known"
        told = f"memory planned: {self.choice.line()}"
        if self.choice.fits:
            return told
        return f"{told}: it may not fit. What would: {'; '.join(self.choice.options)}"


def plan_memory(job: Job, ranks: Ranks) -> Planned:
    """Checkpointing and micro-batch tokens for `job`: what its settings say, else what fits.

    On a CPU the tokens are left to the engine, so that the same recipe gives the same bytes on
    machines with more and with less memory; checkpointing changes none.
    """
    from fusechat.training.engines import BIN_TOKENS

    settings = job.settings
    asked = asked_checkpointing(settings)
    tokens = job.where.micro_batch_tokens
    shape = read_shape(job.base)
    if shape is None:
        return Planned(bool(asked), tokens)
    how = how_of(settings, "cpu" if ranks.device.type == "cpu" else "cuda", _shards(job, ranks))
    room = room_of(device_memory(ranks.device))
    if how.device == "cpu":
        tokens = tokens or BIN_TOKENS["cpu"]
    choice = choose(shape, how, room, longest_row(job.examples), checkpointing=asked, tokens=tokens)
    given = job.where.micro_batch_tokens if how.device == "cpu" else choice.tokens
    return Planned(choice.how.checkpointing, given, choice, shape)


def asked_checkpointing(settings: TrainingSettings) -> bool | None:
    """What the settings say of gradient checkpointing; None: `auto`."""
    value = settings.gradient_checkpointing
    return value if isinstance(value, bool) else None


def how_of(settings: TrainingSettings, device: str, shards: int) -> How:
    """The settings as far as memory goes."""
    return How(
        mixed=settings.dtype == "bfloat16", checkpointing=False,
        lora=None if settings.lora is None else settings.lora.r, shards=shards, device=device,
    )  # fmt: skip


def _shards(job: Job, ranks: Ranks) -> int:
    return ranks.world if job.where.sharding != "none" else 1


def longest_row(examples: Sequence[Example]) -> int:
    """Tokens of the longest row, all its texts, nothing shared."""
    return max(sum(len(text.ids) for text in example.texts) for example in examples)


def read_shape(folder: Path) -> Shape | None:
    """The shape of the model in a folder; None where it has no `config.json` that is counted."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        return None
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    return shape_of(config) if isinstance(config, dict) else None


def device_memory(device: torch.device) -> float:
    """Bytes of a device: of a GPU its own, of a CPU the machine's."""
    if device.type == "cuda":
        import torch

        return float(torch.cuda.get_device_properties(device).total_memory)
    return machine_memory()


def machine_memory() -> float:
    """Bytes of this machine, in use or not."""
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
