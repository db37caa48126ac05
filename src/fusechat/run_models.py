"""The models that a run knows by name, and the folder that each name means.

A run's `plan.json` says where the models of its recipe lie (`named_models`), since the recipe's
own text says it relative to a file that may be anywhere. A trained model is the `model/` of its
unit, in the workspace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusechat.errors import FusechatError
from fusechat.files import read_json
from fusechat.parts import Source
from fusechat.recipe import Recipe
from fusechat.recipe_file import near
from fusechat.settings import TRAINED_BY, hub_snapshot, model_fault

BASE = "target"
_LOCAL = "hf"
_LAST_STATE = "train/dpo"
"""The unit whose `model/` is the last state of DPO, whatever `select/dpo` chose."""


class ModelNameError(FusechatError):
    """A name means no model that is here; says the nearest names, or what to run first."""

    exit_code = 2


def named_models(recipe: Recipe) -> dict[str, dict[str, str]]:
    """Name -> `use` and `model` of what answers under it; trained models are not among them."""
    found: dict[str, dict[str, str]] = {}
    if recipe.target is not None:
        found[BASE] = {"use": _LOCAL, "model": recipe.target.model}
    for name, entry in recipe.sources.items():
        found.setdefault(name, _said(entry.part))
    for name, part in recipe.evaluate.own_models().items() if recipe.evaluate else ():
        found.setdefault(name, _said(part))
    return found


def _said(part: Source) -> dict[str, str]:
    return {"use": part.part_name(), "model": str(getattr(part, "model", ""))}


@dataclass(frozen=True)
class RunModels:
    """The models of one run: where they are, and which units are to make them."""

    run: str
    """Name of the run's folder."""
    models: Mapping[str, Mapping[str, str]] | None
    """As `named_models` gives them; None of a run that an earlier version began."""
    units: Mapping[str, Path]
    """Name of each unit of the plan -> its folder."""

    @classmethod
    def read(cls, run_folder: Path, units: Mapping[str, Path]) -> RunModels:
        """What `plan.json` in a run's folder says; `units`: the folders of its units."""
        plan: Mapping[str, Any] = read_json(run_folder / "plan.json")
        return cls(run_folder.name, plan.get("models"), units)

    def names(self) -> list[str]:
        """Every name that `folder` knows, the shortest of each model."""
        trained = [name for name, unit in TRAINED_BY.items() if unit in self.units]
        return list(dict.fromkeys([*(self.models or (BASE,)), *trained]))

    def trained(self, name: str) -> bool:
        """Whether a name means a model that the run trains."""
        return self._unit(name) is not None

    def knows(self, name: str) -> bool:
        """Whether a name means a model of this run, be it there or not."""
        return self.trained(name) or self._entry(name) in (self.models or (BASE,))

    def folder(self, name: str) -> Path:
        """The model folder that a name means; raises `ModelNameError` where it means none."""
        if (unit := self._unit(name)) is not None:
            return self._trained_folder(name, unit)
        entry = self._entry(name)
        if self.models is None and entry == BASE:
            raise ModelNameError(
                f"the run {self.run} was begun by an earlier version and does not say where "
                f"'{name}' lies. Call `fusechat run` with its recipe again (what is done stays "
                "done), or give the model's folder."
            )
        if entry not in (self.models or ()):
            raise ModelNameError(self._unknown(name))
        said = (self.models or {})[entry]
        if said["use"] != _LOCAL:
            raise ModelNameError(
                f"'{name}' answers by '{said['use']}', not from a model folder of this machine. "
                f"Give one of: {', '.join(self._local())}; or a model folder."
            )
        return self._named_folder(name, said["model"])

    def _named_folder(self, name: str, model: str) -> Path:
        if model != name and (model == BASE or model in TRAINED_BY):
            return self.folder(model)
        path = Path(model) if Path(model).is_absolute() else hub_snapshot(model)
        if path is None:
            raise ModelNameError(f"'{name}': {model_fault(model)}")
        if not path.exists():
            raise ModelNameError(
                f"'{name}' was at {path} when the run began, and is not there any more. "
                "Give the model's folder."
            )
        return path

    def _trained_folder(self, name: str, unit: str) -> Path:
        folder = self.units[unit]
        if not (folder / "manifest.json").exists() or not (folder / "model").is_dir():
            raise ModelNameError(
                f"'{name}' is not trained yet in the run {self.run}. Run it first: "
                f"fusechat run RECIPE --only {unit}"
            )
        return folder / "model"

    def _unit(self, name: str) -> str | None:
        """The unit of the plan that trains what a name means."""
        unit = TRAINED_BY.get(name, name)
        known = unit in (*TRAINED_BY.values(), _LAST_STATE) and unit in self.units
        return unit if known else None

    def _entry(self, name: str) -> str:
        return name.removeprefix("sample/")

    def _local(self) -> list[str]:
        models = self.models or {}
        return [n for n in self.names() if models.get(n, {}).get("use", _LOCAL) == _LOCAL]

    def _unknown(self, name: str) -> str:
        text = (
            f"the run {self.run} has no model '{name}', and there is no model folder of that name."
        )
        if name in (*TRAINED_BY, *TRAINED_BY.values()):
            return f"{text} Its recipe does not train it. {near('', self.names())}"
        return f"{text} {near(name, self.names())}"
