"""What a run's artefacts are made of, from its plan, its recipe and its units' manifests.

Only manifests are read, no tables; a unit that is not done has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fusechat.files import read_json
from fusechat.licences import Licence, licence_in_folder, licence_of, licence_tagged
from fusechat.local_models import model_name
from fusechat.settings import HUB_NAME, TRAINED_BY

SELECT = TRAINED_BY["train.dpo"]
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty",
            "frequency_penalty", "max_new_tokens", "max_tokens", "seeds", "samples")  # fmt: skip


@dataclass(frozen=True)
class Model:
    """A model that has a part in a run."""

    name: str
    """Its name in the recipe (`gemma`); `target` of the base."""
    model: str
    """Its hub name, or its folder's name."""
    licence: Licence | None
    tag: str | None
    """The licence as it is called where it is known."""
    settings: Mapping[str, Any]
    """The recipe's entry."""

    @property
    def hub_name(self) -> str | None:
        """Its id on the hub; None of a folder."""
        return self.model if HUB_NAME.fullmatch(self.model) else None


@dataclass(frozen=True)
class Lineage:
    """One run."""

    run: str
    """Name of its folder."""
    recipe: Mapping[str, Any]
    text: str
    folders: Mapping[str, Path]
    """Unit -> its folder, in the plan's order."""
    manifests: Mapping[str, Mapping[str, Any]]
    """Of the units that are done."""
    environment: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The recipe's name."""
        return str(self.recipe.get("name", self.run))

    def counts(self, unit: str) -> Mapping[str, Any]:
        """What a unit counted; empty where it is not done."""
        found = self.manifests.get(unit, {}).get("counts")
        return found if isinstance(found, Mapping) else {}

    def published(self, unit: str) -> str | None:
        """The unit whose `model/` is what a training unit came to: of `train/dpo` the one that
        chose its state. None where that is not done; older plans have no such unit."""
        chosen = SELECT if unit == "train/dpo" and SELECT in self.folders else unit
        return chosen if unit in self.manifests and chosen in self.manifests else None

    def section(self, name: str) -> Mapping[str, Any]:
        """A section of the recipe; empty where there is none."""
        found = self.recipe.get(name)
        return found if isinstance(found, Mapping) else {}

    def entries(self, section: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Entries of a section, each as a mapping."""
        for name, entry in self.section(section).items():
            yield str(name), entry if isinstance(entry, Mapping) else {"use": entry or name}

    def sources(self) -> list[Model]:
        """The sources, in the recipe's order."""
        return [_model(name, entry) for name, entry in self.entries("sources")]

    def target(self) -> Model | None:
        """The base of what is trained."""
        entry = self.section("target")
        return _model("target", entry) if entry.get("model") else None

    def metrics(self) -> Mapping[str, Any] | None:
        """The evaluation; None where it is not done."""
        if "evaluate/compare" not in self.manifests:
            return None
        path = self.folders["evaluate/compare"] / "metrics.json"
        return read_json(path) if path.exists() else None

    def benchmarks(self) -> Mapping[str, Any] | None:
        """The table of published benchmarks; None where there is none."""
        if "evaluate/compare" not in self.manifests:
            return None
        path = self.folders["evaluate/compare"] / "benchmarks.json"
        return read_json(path) if path.exists() else None


def lineage(run_folder: Path, workspace: Path) -> Lineage:
    """The lineage of a run. Raises `FileNotFoundError` where it has no plan.json."""
    plan = read_json(run_folder / "plan.json")
    folders = {str(unit["name"]): workspace / unit["folder"] for unit in plan["units"]}
    manifests = {
        name: read_json(folder / "manifest.json")
        for name, folder in folders.items()
        if (folder / "manifest.json").exists()
    }
    path = run_folder / "recipe.yaml"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    tree = yaml.safe_load(text) if text else {}
    place = run_folder / "environment.json"
    environment = read_json(place) if place.exists() else {}
    recipe = tree if isinstance(tree, Mapping) else {}
    return Lineage(run_folder.name, recipe, text, folders, manifests, environment)


def _model(name: str, entry: Mapping[str, Any]) -> Model:
    raw = str(entry.get("model") or entry.get("use") or name)
    found = licence_of(raw)
    tag = found.tag if found else None
    if tag is None and Path(raw).is_absolute():
        tag = licence_in_folder(raw)
        found = licence_tagged(tag) if tag else None
    return Model(name, shown_name(raw), found, tag, entry)


def shown_name(model: str) -> str:
    """A hub name as it is; of a folder only its last part, since a path tells of one machine."""
    if Path(model).is_absolute():
        return model_name(model)
    local = model.startswith((".", "~")) or model.count("/") > 1
    return re.split(r"[/\\]", model.rstrip("/"))[-1] if local else model
