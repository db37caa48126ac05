"""What a training unit would take, before it runs: memory of a GPU, steps, hours.

Pure but for the reading of small files (a model's `config.json`, the trials of earlier runs). Rows
come from whoever counts them (`forecast.training`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusechat.files import read_json
from fusechat.local_models import is_local, model_name
from fusechat.settings import Where, hub_snapshot, package_fault
from fusechat.stages.train_settings import TrainingSettings
from fusechat.training.engines import BIN_TOKENS, SHARING_WASTE, share_prompts
from fusechat.training.flops import Load, assumed_rate, total_load, unit_flops
from fusechat.training.memory import DEVICES, Choice, choose, device_bytes, gigabytes, room_of
from fusechat.training.memory_plan import (
    asked_checkpointing,
    how_of,
    machine_memory,
    read_shape,
)
from fusechat.training.memory_shapes import PUBLISHED, Shape
from fusechat.training.packing import Totals
from fusechat.training.schedule import Schedule
from fusechat.training.trial import row_load
from fusechat.training.trl_engine import trl_faults


@dataclass(frozen=True)
class RowCosts:
    """How many rows a unit trains on, and what they cost; told by rows that are there, or by a
    pilot's lengths."""

    rows: float
    apart: Load
    """Of all rows, each response with a prompt of its own."""
    shared: Load
    """Of all rows, with one copy of the prompt for each."""
    longest: int
    """Tokens of the longest row, all its texts."""
    origin: str

    @property
    def sharing(self) -> Totals:
        """What sharing saves, as the engine asks for it."""
        return Totals(max(1, round(self.apart.computed)), max(1, round(self.shared.computed)))


@dataclass(frozen=True)
class Rate:
    """Operations a second of one GPU (or of this machine's CPU), and where that comes from."""

    value: float
    origin: str


@dataclass(frozen=True)
class TrainingPlan:
    """What one training unit would take; None is not known."""

    unit: str
    gpu: str
    """The GPU that was asked for; empty: this machine."""
    ranks: int
    rows: float | None
    epochs: float
    steps: int | None
    choice: Choice | None
    hours: float | None
    rate: Rate | None
    notes: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """False where it is known that it does not."""
        return self.choice is None or self.choice.fits

    def fault(self) -> str | None:
        """Why it cannot be trained there, with what would; None where it can, or is not known."""
        if self.fits:
            return None
        assert self.choice is not None
        return (
            f"{self.unit} takes {gigabytes(self.choice.needs.total)} with the shortest "
            f"micro-batches, and {self.where} has {gigabytes(self.choice.room)} for it. What "
            f"would fit: {'; '.join(self.choice.options)}."
        )

    @property
    def where(self) -> str:
        """`one h100`, `each of 8 h100`, `this machine`."""
        if not self.gpu:
            return "this machine"
        known = self.gpu.lower() in DEVICES
        if self.ranks == 1:
            return f"one {self.gpu}" if known else f"a GPU of {self.gpu}"
        return f"each of {self.ranks} {self.gpu if known else f'GPUs of {self.gpu}'}"

    def lines(self) -> Iterator[str]:
        """For the terminal."""
        rows = "rows not known" if self.rows is None else f"{self.rows:,.0f} rows"
        steps = "" if self.steps is None else f", {self.steps:,} steps"
        yield f"{self.unit}: {rows} x {self.epochs:g} epochs{steps}, on {self.where}"
        if self.choice is not None:
            yield f"  memory: {self.choice.line()}{'' if self.fits else ': does NOT fit'}"
            yield from (f"    would fit: {option}" for option in self.choice.options)
        if self.hours is not None and self.rate is not None:
            yield f"  time: {_time(self.hours)} at {_rate(self.rate)}"
        yield from (f"  {note}" for note in self.notes)

    def as_json(self) -> dict[str, Any]:
        """For a program to read; bytes, hours, operations a second."""
        choice = self.choice
        memory = None if choice is None else {
            "fits": choice.fits, "needed": choice.needs.total, "room": choice.room,
            "parts": dict(vars(choice.needs)), "micro_batch_tokens": choice.tokens,
            "gradient_checkpointing": choice.how.checkpointing, "options": list(choice.options),
        }  # fmt: skip
        rate = None if self.rate is None else {"value": self.rate.value, "from": self.rate.origin}
        return {
            "unit": self.unit, "gpu": self.gpu or None, "ranks": self.ranks, "rows": self.rows,
            "epochs": self.epochs, "steps": self.steps, "memory": memory, "hours": self.hours,
            "rate": rate, "notes": list(self.notes),
        }  # fmt: skip


def _time(hours: float) -> str:
    return f"about {hours:.2g} h" if hours >= 1 else f"about {hours * 60:.2g} min"


def _rate(rate: Rate) -> str:
    return f"{rate.value / 1e12:,.3g} TFLOP/s a GPU ({rate.origin})"


def plan_training(
    unit: str,
    settings: TrainingSettings,
    model: str,
    where: Where,
    costs: RowCosts | None,
    *,
    trials: Sequence[dict[str, Any]] = (),
) -> TrainingPlan:
    """The plan of a training unit. `model`: folder or hub name that it begins with. `trials`: what
    earlier runs measured (`trial.json`), the newest last."""
    gpu = where.gpu or ""
    shape = shape_of_model(model)
    notes = [] if shape is not None else [_unknown(model)]
    choice = None if shape is None else _choice(settings, where, shape, costs)
    if choice is not None:
        notes += choice.notes
    rate = rate_of(where, settings, trials)
    hours = steps = rows = None
    if costs is not None:
        rows = costs.rows * (1 - settings.held_out)
        steps = Schedule.of(settings, max(1, round(rows))).total
        notes.append(f"rows and lengths: {costs.origin}")
    if costs is not None and shape is not None and choice is not None and rate is not None:
        operations = _operations(settings, shape, costs, choice.how.checkpointing)
        hours = operations / rate.value / where.ranks / 3600
    if costs is None:
        notes.append("no steps, no hours: rows are not known before a build or a pilot")
    elif rate is None:
        notes.append(
            "no hours: the rate is not known. Name the GPU in the cluster file (gpu: h100), or let "
            "a run measure it"
        )
    return TrainingPlan(
        unit, gpu, where.ranks, rows, settings.num_train_epochs, steps, choice, hours, rate,
        tuple(notes),
    )  # fmt: skip


def _choice(
    settings: TrainingSettings, where: Where, shape: Shape, costs: RowCosts | None
) -> Choice | None:
    """None where it is not known on what it runs."""
    total = memory_of(where)
    if total is None:
        return None
    longest = settings.max_length * len(settings.loss.sides)
    if costs is not None:
        longest = min(longest, costs.longest)
    on_cpu = where.gpu is None and not where.on_accelerator()
    how = how_of(
        settings, "cpu" if on_cpu else "cuda", where.ranks if where.sharding != "none" else 1
    )
    asked = asked_checkpointing(settings)
    tokens = where.micro_batch_tokens or (BIN_TOKENS["cpu"] if on_cpu else None)
    return choose(shape, how, room_of(total), longest, checkpointing=asked, tokens=tokens)


def memory_of(where: Where) -> float | None:
    """Bytes of the device of a training unit: the GPU that the cluster file names, else what is
    here; None for an accelerator that is here, of a size that only its driver knows."""
    if where.gpu is not None:
        return device_bytes(where.gpu)
    if where.on_accelerator():
        name = _gpu_here()
        return None if name is None else device_bytes(name)
    return machine_memory()


def _gpu_here() -> str | None:
    """The name of the first GPU of this machine as `memory.DEVICES` has it, from the driver's
    files."""
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        told = path.read_text(encoding="utf-8", errors="replace").lower()
        names = [name for name in DEVICES if name.replace("-", " ") in told or name in told]
        if names:
            return max(names, key=len)
    return None


def shape_of_model(model: str) -> Shape | None:
    """The shape of a model folder, of a hub name in the local cache, or of a published one."""
    folder = Path(model) if is_local(model) else hub_snapshot(model)
    found = None if folder is None else read_shape(folder)
    return found or PUBLISHED.get(model_name(model)) or PUBLISHED.get(model)


def _unknown(model: str) -> str:
    return f"memory is not planned: the config.json of {model} is not here, or not of a decoder"


def rate_of(
    where: Where, settings: TrainingSettings, trials: Iterable[dict[str, Any]] = ()
) -> Rate | None:
    """What a trial on such a device measured, else a share of its peak; None where neither is."""
    here = where.gpu or _gpu_here() if where.gpu or where.on_accelerator() else "cpu"
    if here is None:
        return None
    measured = None
    for trial in trials:
        if trial.get("rate") and here.lower().replace("-", " ") in str(trial["device"]).lower():
            measured = Rate(float(trial["rate"]), f"measured by a run on {trial['device']}")
    if measured is not None:
        return measured
    assumed = assumed_rate(here, settings.dtype == "bfloat16")
    return None if assumed is None else Rate(assumed, "assumed: 32% of its peak")


def _operations(
    settings: TrainingSettings,
    shape: Shape,
    costs: RowCosts,
    checkpointing: bool,
) -> float:
    """Operations of the whole unit."""
    backend = "flex" if shape.capped else "varlen"
    share = share_prompts(settings.share_prompts, costs.sharing, SHARING_WASTE[backend])
    load = (costs.shared if share else costs.apart).times(1 - settings.held_out)
    return unit_flops(
        shape, load, settings.num_train_epochs, checkpointing,
        reference=settings.loss.needs_reference, lora=settings.lora is not None,
    )  # fmt: skip


def costs_of_examples(examples: Sequence[Any], rows: int, origin: str) -> RowCosts:
    """From some encoded rows (`training.examples.Example`), at least one, to `rows` of them."""
    times = rows / len(examples)
    return RowCosts(
        rows=rows,
        apart=total_load(row_load(example, False) for example in examples).times(times),
        shared=total_load(row_load(example, True) for example in examples).times(times),
        longest=max(sum(len(text.ids) for text in example.texts) for example in examples),
        origin=origin,
    )


def read_trials(workspace: Path) -> list[dict[str, Any]]:
    """What the runs of a workspace measured in their first steps, the newest last."""
    paths = sorted(workspace.glob("**/trial.json"), key=lambda path: path.stat().st_mtime)
    return [read_json(path) for path in paths]


def engine_faults(settings: TrainingSettings) -> Iterator[tuple[str, str]]:
    """What `engine:` or `lora:` cannot do here, as (key below the stage, message)."""
    if settings.engine == "trl":
        yield from trl_faults(settings)
        for package in ("trl", "datasets"):
            if fault := package_fault(package, "trl"):
                yield "engine", fault
    if settings.lora and (fault := package_fault("peft", "train")):
        yield "lora", fault
