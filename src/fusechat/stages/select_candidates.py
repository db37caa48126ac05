"""The states of a preference-trained model that one is chosen from: which, and where they are."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusechat.errors import TrainingError
from fusechat.files import read_json, write_json
from fusechat.stages.context import UnitContext
from fusechat.stages.train_settings import DpoSettings, SelectSettings
from fusechat.training.adapters import ADAPTER
from fusechat.training.models import publish

CANDIDATES = "select/dpo/candidates"
LISTED = "candidates.json"
CHECKPOINTS = "checkpoints"
_PLACEHOLDER = re.compile(r"train\.dpo@(\d+)")


@dataclass(frozen=True)
class Candidate:
    """One state of the model: its weights after a step."""

    step: int
    folder: Path
    """A model folder; a checkpoint's has more in it than a model."""

    @property
    def adapter(self) -> Path | None:
        """The folder of its adapters, where such were trained; the model has them merged."""
        checkpoint = self.folder.parent.name == CHECKPOINTS
        found = (self.folder if checkpoint else self.folder.parent) / ADAPTER
        return found if found.is_dir() else None

    @property
    def name(self) -> str:
        """What a publishable folder of it is called, as Hugging Face's trainers do."""
        return f"checkpoint-{self.step}"


def placeholder(number: int) -> str:
    """The name of the n-th newest candidate as a model, from 1; its folder is known in the run."""
    return f"train.dpo@{number}"


def number_of(model: str) -> int | None:
    """Which candidate a model's name means; None for any other name."""
    found = _PLACEHOLDER.fullmatch(model)
    return int(found[1]) if found else None


def candidate_steps(total: int, save_steps: int, settings: SelectSettings) -> list[int]:
    """Steps of the states to choose from, newest first, of a run of `total` steps.

    The checkpoints, at every multiple of `save_steps`, and where `final_state` says so the state
    after the last step (see there). Where there is no checkpoint it is that state alone.
    """
    if settings.by == "last":
        return [total]
    saved = list(range(total - total % save_steps, 0, -save_steps))
    if not saved:
        return [total]
    after = total - saved[0]
    few = len(saved) < settings.checkpoints or 2 * after >= save_steps
    asked = settings.final_state == "always" or (settings.final_state == "auto" and few)
    states = [total, *saved] if asked and after else saved
    return states[: settings.checkpoints]


def list_candidates(unit: Path, train: DpoSettings, settings: SelectSettings) -> list[Candidate]:
    """The candidates of a finished training unit, newest first.

    Raises `TrainingError` where a checkpoint that should be there is not.
    """
    total = int(read_json(unit / "manifest.json")["counts"]["steps"])
    steps = candidate_steps(total, train.save_steps, settings)
    found = [Candidate(step, _folder(unit, step, total)) for step in steps]
    missing = [one for one in found if not (one.folder / "config.json").is_file()]
    if missing:
        names = ", ".join(str(one.step) for one in missing)
        raise TrainingError(
            f"the checkpoints {names} of {unit} are not there, and one of them might be chosen. "
            "Train again (--refresh train/dpo), or take the last state: train.dpo.select: "
            "{by: last}."
        )
    return found


def _folder(unit: Path, step: int, total: int) -> Path:
    return unit / "model" if step == total else unit / CHECKPOINTS / str(step)


def write_candidates(context: UnitContext) -> dict[str, Any]:
    """The stage `select/dpo/candidates`: publishable folders of all candidates, and their list.

    Settings: `select` and `train`. Writes `model/checkpoint-<step>/` and `candidates.json`. Files
    are linked, not copied, where the file system can.
    """
    settings = context.settings
    found = list_candidates(context.inputs["train/dpo"], settings["train"], settings["select"])

    def write(folder: Path) -> None:
        for one in found:
            link_model(one.folder, folder / one.name)

    publish(context.folder / "model", write, "select.candidates")
    names = [{"step": one.step, "folder": one.name} for one in found]
    write_json(context.folder / LISTED, {"candidates": names})
    return {"candidates": [one.step for one in found]}


def listed(unit: Path) -> list[Candidate]:
    """The candidates that `write_candidates` wrote, newest first; none before it has."""
    if not (unit / LISTED).exists():
        return []
    entries = read_json(unit / LISTED)["candidates"]
    return [Candidate(one["step"], unit / "model" / one["folder"]) for one in entries]


def candidate_folder(unit: Path, number: int) -> Path | None:
    """The folder of the n-th newest candidate, from 1.

    None where there are fewer, and where there is one only: then nothing is to be compared.
    """
    found = listed(unit)
    return found[number - 1].folder if 2 <= len(found) >= number else None


def link_model(folder: Path, out: Path) -> None:
    """Put what is a model's of `folder` into the new folder `out`, linked or else copied."""
    out.mkdir(parents=True)
    for path in model_files(folder):
        place = out / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):
            os.link(path, place)
            continue
        shutil.copyfile(path, place)


TRAINING_FILES = (
    "optimizer*", "state.json", "trainer_state.json", "training_args.bin", "rng_state*",
    "scheduler.pt", "scaler.pt",
)  # fmt: skip
"""What a checkpoint has beside the model, ours or of Hugging Face's trainers."""


def model_files(folder: Path) -> Sequence[Path]:
    """The files of a model or checkpoint folder that belong to the model."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [
        path
        for path in files
        if path.relative_to(folder).parts[0] != ADAPTER
        and not any(path.match(pattern) for pattern in TRAINING_FILES)
    ]
