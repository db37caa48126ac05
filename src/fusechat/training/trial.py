"""Two steps before the first: whether the plan of memory and time holds on this machine.

The step with the most tokens and one of the middle go forward and backward; nothing is updated,
gradients are cleared and random states put back, so that a run with a trial writes the weights of
one without. What was measured stands in `trial.json` beside the run, and `fusechat plan` takes the
rate from there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from fusechat.errors import TrainingError
from fusechat.files import write_json
from fusechat.training.batches import epoch_order
from fusechat.training.examples import Example
from fusechat.training.flops import Load, load_of, step_flops, total_load
from fusechat.training.memory import RESERVE, gigabytes, room_of
from fusechat.training.memory_plan import device_memory

if TYPE_CHECKING:
    import torch

    from fusechat.training.engine import Engine
    from fusechat.training.loop import Job
    from fusechat.training.memory_plan import Planned
    from fusechat.training.ranks import Ranks
    from fusechat.training.reference import Known
    from fusechat.training.schedule import Schedule

FEW_STEPS = 50
"""On an accelerator, a run of fewer steps is shorter than what a trial tells is worth."""
FEW_ON_CPU = 500
"""On a CPU memory hardly ever runs out, so that two steps must cost next to nothing."""


@dataclass(frozen=True)
class Trial:
    """What two steps took."""

    device: str
    seconds: float
    """Of the step of the middle."""
    longest_seconds: float
    """Of the step with the most tokens."""
    flops: float
    """Operations of the step of the middle that were run, over all ranks; 0 where not known."""
    ranks: int
    steps: int
    """Of the run."""
    peak: float | None
    """Bytes of one rank at the most, with the optimizer's moments; None on a CPU."""
    predicted: float | None
    room: float
    """Bytes of the device."""
    micro_batch: int | None
    """Tokens (packed) or rows (padded) of a micro-batch with which the run goes on."""

    @property
    def rate(self) -> float | None:
        """Operations a second of one rank."""
        return self.flops / self.seconds / self.ranks if self.flops and self.seconds else None

    def line(self) -> str:
        """For the user."""
        told = f"two trial steps: {self.seconds:.3g} s a step, about {self._time()} for the run"
        if self.peak is None:
            return told
        planned = "" if self.predicted is None else f" ({gigabytes(self.predicted)} planned)"
        return f"{told}; {gigabytes(self.peak)} of {gigabytes(self.room)}{planned}"

    def _time(self) -> str:
        hours = self.seconds * self.steps / 3600
        return f"{hours:.2g} h" if hours >= 1 else f"{hours * 60:.2g} min"


def wanted(ranks: Ranks, schedule: Schedule) -> bool:
    """Whether a trial tells more than it costs."""
    return schedule.total >= (FEW_ON_CPU if ranks.device.type == "cpu" else FEW_STEPS)


def confirm(
    job: Job,
    ranks: Ranks,
    *,
    schedule: Schedule,
    model: torch.nn.Module,
    engine: Engine,
    known: Known,
    planned: Planned,
) -> Trial | None:
    """Run the trial before the first step of a run; None where it is not `wanted`.

    Lowers the engine's micro-batch where the step with the most tokens does not leave room for the
    optimizer's moments, which are made after it. Raises `TrainingError` where even one row at a
    time does not fit, with what would.
    """
    if not wanted(ranks, schedule):
        return None
    longest, middle = trial_steps(job.examples, schedule, job.seed)
    measure = partial(_measure, job, ranks, model=model, engine=engine, known=known)
    room = device_memory(ranks.device)
    with _untouched(ranks.device):
        peak, longest_seconds = measure(rows=longest)
        moments = 0.0 if planned.choice is None else planned.choice.needs.moments
        while peak is not None and peak + moments > room_of(room):
            _lower(job, engine, planned, peak + moments)
            peak, longest_seconds = measure(rows=longest)
        _, seconds = measure(rows=middle)
    found = Trial(
        device=_name(ranks.device), seconds=seconds, longest_seconds=longest_seconds,
        flops=_flops(job, engine, planned, middle), ranks=ranks.world, steps=schedule.total,
        peak=None if peak is None else peak + moments,
        predicted=None if planned.choice is None else planned.choice.needs.total,
        room=room, micro_batch=_micro_batch(engine),
    )  # fmt: skip
    job.progress.note(found.line())
    if ranks.main:
        write_json(job.folder / "trial.json", {**asdict(found), "rate": found.rate})
    return found


def trial_steps(
    examples: Sequence[Example], schedule: Schedule, seed: int
) -> tuple[list[int], list[int]]:
    """The rows of the whole step with the most tokens, and of the one in the middle."""
    steps: list[tuple[int, list[int]]] = []
    orders: dict[int, list[int]] = {}
    for step in range(1, schedule.total + 1):
        epoch, places = schedule.place(step)
        if epoch not in orders:
            orders = {epoch: epoch_order(len(examples), seed, epoch)}
        rows = orders[epoch][places]
        steps.append((sum(_tokens(examples[row]) for row in rows), rows))
    steps.sort(key=lambda one: one[0])
    return steps[-1][1], steps[len(steps) // 2][1]


def _tokens(example: Example) -> int:
    return sum(len(text.ids) for text in example.texts)


@contextmanager
def _untouched(device: torch.device) -> Iterator[None]:
    """Inside, random numbers may be drawn: outside they go on as if none had been."""
    import torch

    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        yield


def _measure(
    job: Job,
    ranks: Ranks,
    *,
    model: torch.nn.Module,
    engine: Engine,
    known: Known,
    rows: list[int],
) -> tuple[float | None, float]:
    """Peak bytes (None on a CPU) and seconds of one step without its update, of the worst rank."""
    import torch

    on_gpu = ranks.device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize(ranks.device)
        torch.cuda.reset_peak_memory_stats(ranks.device)
    began = time.perf_counter()
    result = engine.backward([job.examples[row] for row in rows], known.rows(rows), 0.0)
    float(result.sums[0])  # waits until the device has done it
    seconds = time.perf_counter() - began
    for parameter in model.parameters():
        parameter.grad = None
    if not on_gpu:
        return None, _largest(ranks, seconds)
    peak = torch.cuda.max_memory_allocated(ranks.device) + RESERVE
    return _largest(ranks, float(peak)), _largest(ranks, seconds)


def _largest(ranks: Ranks, value: float) -> float:
    """Over all ranks, so that all of them decide the same."""
    import torch

    if ranks.world == 1:
        return value
    found = torch.tensor([value], dtype=torch.float64, device=ranks.device)
    torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
    return float(found)


def _lower(job: Job, engine: Any, planned: Planned, found: float) -> None:
    """Halve the micro-batch; every rank does the same, since all saw the same peak."""
    name = "budget" if hasattr(engine, "budget") else "micro_batch_size"
    now = getattr(engine, name)
    least = 1 if name == "micro_batch_size" else 256
    if now is None or now // 2 < least:
        options = () if planned.choice is None else planned.choice.options
        raise TrainingError(
            f"a step takes {gigabytes(found)} with the optimizer, more than there is, even in the "
            f"smallest micro-batches. {'; '.join(options) or 'Take lora, or sharding: fsdp2'}."
        )
    setattr(engine, name, now // 2)
    job.progress.note(f"too little room for the optimizer: micro-batches of {now // 2} from here")


def _micro_batch(engine: Any) -> int | None:
    value = getattr(engine, "budget", None) or getattr(engine, "micro_batch_size", None)
    return None if value is None else int(value)


def _flops(job: Job, engine: Any, planned: Planned, rows: list[int]) -> float:
    if planned.shape is None:
        return 0.0
    share = bool(getattr(engine, "share", False))
    load = total_load(row_load(job.examples[row], share) for row in rows)
    lora = job.settings.lora is not None
    return step_flops(planned.shape, load, planned.checkpointing, lora)


def row_load(example: Example, share: bool) -> Load:
    """What one row costs, with one copy of its prompt or with one a response."""
    lengths = [(text.start, text.length) for text in example.texts]
    return load_of(lengths, example.shared if share else 0)


def _name(device: torch.device) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
