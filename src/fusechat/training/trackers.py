"""Trackers (`report_to`): a run's numbers to TensorBoard, Weights & Biases and the like.

They are accelerate's own (`accelerate.tracking`), under Hugging Face's names; there is no client
of ours. None is used unless it is asked for. What a tracker does wrong never ends a run: it is
noted, and the run goes on without it; the numbers are in `metrics.jsonl` and `watch.jsonl` anyway.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusechat.files import read_json, write_json

if TYPE_CHECKING:
    from fusechat.training.engine import Engine
    from fusechat.training.ranks import Ranks

Line = Mapping[str, Any]


PROJECT = "fusechat"
FOLDER, KEPT = "tracking", "tracking.json"


@dataclass(frozen=True)
class _Kind:
    """A tracker that accelerate has."""

    packages: tuple[str, ...]
    """Modules of which one must be there."""
    pip: str
    arguments: Callable[[_Run], Mapping[str, Any]] = lambda run: {}
    """What its class is made with, beside project and folder: so that a run that goes on is the
    same run in the tracker."""
    given_id: Callable[[Any], str] | None = None
    """The id that the service itself gives to a run, where it does."""


@dataclass(frozen=True)
class _Run:
    """The run as a tracker knows it."""

    name: str
    identity: str
    """Ours, made when the run began."""
    service_id: str | None
    """The service's own, once it has given one."""
    step: int
    """Steps done when this process began."""
    folder: Path


KINDS: dict[str, _Kind] = {
    "tensorboard": _Kind(
        ("tensorboard", "tensorboardX"), "tensorboard",
        lambda run: {"purge_step": run.step + 1, "filename_suffix": f".{run.step}"},
    ),
    "wandb": _Kind(
        ("wandb",), "wandb",
        lambda run: {"id": run.identity, "name": run.name, "resume": "allow",
                     "dir": str(run.folder)},
    ),
    "trackio": _Kind(
        ("trackio",), "trackio",
        lambda run: {"name": f"{run.name}-{run.identity}", "resume": "allow"},
    ),
    "swanlab": _Kind(
        ("swanlab",), "swanlab",
        lambda run: {"experiment_name": run.name, "id": run.identity, "resume": "allow",
                     "logdir": str(run.folder / "swanlab")},
    ),
    "mlflow": _Kind(
        ("mlflow",), "mlflow", lambda run: {"run_id": run.service_id, "run_name": run.name},
        lambda active: str(active.info.run_id),
    ),
    "comet_ml": _Kind(
        ("comet_ml",), "comet-ml",
        lambda run: {"experiment_key": run.service_id} if run.service_id else {},
        lambda experiment: str(experiment.get_key()),
    ),
    "aim": _Kind(
        ("aim",), "aim", lambda run: {"run_hash": run.service_id} if run.service_id else {},
        lambda writer: str(writer.hash),
    ),
    "clearml": _Kind(
        ("clearml",), "clearml",
        lambda run: {"task_name": run.name, "continue_last_task": run.service_id or False},
        lambda task: str(task.id),
    ),
    "dvclive": _Kind(
        ("dvclive",), "dvclive",
        lambda run: {"dir": str(run.folder / "dvclive"), "resume": bool(run.step)},
    ),
}  # fmt: skip


def tracker_faults(report_to: Sequence[str]) -> Iterator[str]:
    """What is wrong with the trackers that a recipe asks for, each with its mend."""
    for name in report_to:
        if name == "none":
            continue
        if ":" in name:
            module = name.partition(":")[0]
            if importlib.util.find_spec(module.partition(".")[0]) is None:
                yield f"'{name}' cannot be imported: there is no module '{module}' here."
            continue
        kind = KINDS.get(name)
        if kind is None:
            near = difflib.get_close_matches(name, KINDS, 1)
            hint = f"Did you mean '{near[0]}'?" if near else f"There are: {', '.join(KINDS)}."
            yield (
                f"there is no tracker '{name}'. {hint} Your own (a GeneralTracker of accelerate): "
                "package.module:Class"
            )
        elif not any(importlib.util.find_spec(package) for package in kind.packages):
            yield f"'{name}' is not installed. Install it with: pip install {kind.pip}"


@dataclass
class Trackers:
    """The observer that hands a run's numbers on; see `training.loop.Observer`."""

    names: Sequence[str]
    """As in `report_to`."""
    folder: Path
    """The unit's; the run is called by its last two parts."""
    settings: Mapping[str, Any]
    """Shown as the run's configuration."""
    note: Callable[[str], None]
    _open: dict[str, Any] = field(default_factory=dict)

    def begin(self, engine: Engine, ranks: Ranks, step: int) -> None:
        """Open the trackers on the first rank; a run that goes on is the same run there."""
        if not ranks.main:
            return
        _let_accelerate_log(ranks)
        kept = self._kept(step)
        for name in dict.fromkeys(name for name in self.names if name != "none"):
            service_id = kept["services"].get(name)
            run = _Run(self._name, kept["id"], service_id, step, self.folder / FOLDER)
            self._try(name, "open", partial(self._start, name, run, kept))
        write_json(self.folder / KEPT, kept)

    def after(self, line: Line) -> None:
        """A step's line of `metrics.jsonl`."""
        self._log(line["step"], {f"train/{name}": value for name, value in _numbers(line)})

    def looked(self, line: Line) -> None:
        """A line of `watch.jsonl`."""
        prefix = "held_out_"
        named = {
            f"held_out/{name.removeprefix(prefix)}" if name.startswith(prefix) else f"watch/{name}":
            value
            for name, value in _numbers(line)
        }  # fmt: skip
        self._log(line["step"], named)

    def saved(self, engine: Engine, step: int) -> None:
        """Nothing: weights are handed to nobody."""

    def end(self) -> None:
        """Close them."""
        for name in list(self._open):
            self._try(name, "be closed", self._open[name].finish)
        self._open.clear()

    @property
    def _name(self) -> str:
        return f"{self.folder.parent.name}-{self.folder.name}"

    def _kept(self, step: int) -> dict[str, Any]:
        """The ids of this run; a run that begins anew is a new one."""
        path = self.folder / KEPT
        if step and path.is_file():
            found: dict[str, Any] = read_json(path)
            return found
        return {"id": uuid.uuid4().hex[:16], "services": {}}

    def _start(self, name: str, run: _Run, kept: dict[str, Any]) -> None:
        tracker_class, kind = _tracker_class(name), KINDS.get(name)
        run.folder.mkdir(parents=True, exist_ok=True)
        place = (str(run.folder),) if tracker_class.requires_logging_directory else ()
        arguments = kind.arguments(run) if kind else {}
        tracker = tracker_class(PROJECT, *place, **arguments)
        tracker.start()
        if run.step == 0 and name != "tensorboard":  # there it would be a run beside the run
            tracker.store_init_configuration(dict(self.settings))
        if kind and kind.given_id:
            kept["services"][name] = kind.given_id(tracker.tracker)
        self._open[name] = tracker

    def _log(self, step: int, numbers: Mapping[str, float]) -> None:
        for name in list(self._open):
            self._try(name, "take numbers", partial(self._open[name].log, numbers, step))

    def _try(self, name: str, what: str, call: Callable[[], object]) -> None:
        """Do something with a tracker; where it fails, go on without it."""
        try:
            call()
        except Exception as error:  # noqa: BLE001 - a tracker may fail in any way; it is told
            self._open.pop(name, None)
            said = str(error).strip().splitlines() or [type(error).__name__]
            self.note(
                f"the tracker '{name}' could not {what}, and is not used from here on: {said[0]}. "
                "Training goes on; all numbers are in metrics.jsonl."
            )


def _tracker_class(name: str) -> Any:
    if ":" in name:
        module, _, own = name.partition(":")
        return getattr(importlib.import_module(module), own)
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    return LOGGER_TYPE_TO_CLASS[name]


def _let_accelerate_log(ranks: Ranks) -> None:
    """Its trackers write to its own log, which wants to know of the processes."""
    from accelerate import PartialState

    PartialState(cpu=ranks.device.type == "cpu")


def _numbers(line: Line) -> Iterator[tuple[str, float]]:
    for name, value in line.items():
        if name != "step" and isinstance(value, int | float):
            yield name, float(value)
