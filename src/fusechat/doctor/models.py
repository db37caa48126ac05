"""The models of a recipe, and what can be seen of each: tokenizer, configuration, settings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fusechat import chat
from fusechat.errors import FusechatError
from fusechat.local_models import context_length, is_local, model_name
from fusechat.on_policy_units import own_names
from fusechat.recipe import Recipe
from fusechat.settings import hub_snapshot
from fusechat.stages.entries import SourceEntry
from fusechat.stages.evaluate_settings import EvaluateSettings

Role = Literal["source", "target", "judge"]


@dataclass(frozen=True)
class Seat:
    """A place in a recipe where a model sits."""

    place: str
    role: Role
    model: str
    """A folder, or the name under which it is published or served."""
    part: Any = None
    entry: SourceEntry | None = None

    @property
    def name(self) -> str:
        """Hub name, or the folder's."""
        return model_name(self.model)

    @property
    def short(self) -> str:
        """The entry's name in the recipe."""
        return self.place.rpartition(".")[2]

    @property
    def evaluated(self) -> bool:
        """Whether only the evaluation names it: nothing is learnt from its answers."""
        return self.place.startswith("evaluate.")

    @property
    def served(self) -> bool:
        """Whether a server, not fusechat, renders its prompts."""
        return self.role == "source" and self.part.part_name() != "hf"

    @property
    def template_arguments(self) -> Mapping[str, Any]:
        """What the recipe tells the server for its template: `chat_template_kwargs`."""
        extra = getattr(self.part, "extra_body", None)
        told = extra.get("chat_template_kwargs") if isinstance(extra, Mapping) else None
        return told if isinstance(told, Mapping) else {}


@dataclass(frozen=True)
class Looked:
    """What was seen of a model; `why_not` where that is nothing."""

    seat: Seat
    folder: Path | None = None
    tokenizer: Any = None
    config: Any = None
    generation: dict[str, Any] = field(default_factory=dict)
    why_not: str = ""
    broken: bool = False
    """There is a folder, and it cannot be used: a fault, not a lack of sight."""

    @property
    def context(self) -> int | None:
        """Most tokens that it takes: its settings', or its configuration's."""
        own = None if self.config is None else context_length(self.config)
        setting = {"judge": "max_length", "source": "max_model_len"}.get(self.seat.role, "")
        part = getattr(self.seat.part, setting, None)
        return min((one for one in (own, part) if one is not None), default=None)


def seats(recipe: Recipe) -> Iterator[Seat]:
    """Every model of a recipe, sources first; parts without a model have no seat."""
    own = own_names(recipe)
    for name, entry in recipe.sources.items():
        model = getattr(entry.part, "model", None)
        if name in own and recipe.target is not None:
            model = recipe.target.model  # what it is, or is trained from
        if model:
            yield Seat(f"sources.{name}", "source", str(model), entry.part, entry)
    for name, annotator in recipe.annotators.items():
        if model := getattr(annotator.part, "model", None):
            yield Seat(f"annotators.{name}", "judge", str(model), annotator.part)
    if recipe.target is not None:
        yield Seat("target", "target", recipe.target.model)
    if recipe.evaluate is not None:
        yield from _evaluation_seats(recipe.evaluate)


def _evaluation_seats(evaluation: EvaluateSettings) -> Iterator[Seat]:
    """The models that only the evaluation names, and its judges."""
    parts: dict[str, Any] = {f"models.{name}": p for name, p in evaluation.own_models().items()}
    parts |= {"judge": evaluation.judge}
    parts |= {f"judges.{name}": part for name, part in evaluation.judges.items()}
    for place, part in parts.items():
        if model := getattr(part, "model", None):
            yield Seat(f"evaluate.{place}", "source", str(model), part)


def look(seat: Seat) -> Looked:
    """Load what is here of a model; its weights are not read."""
    if seat.role == "source" and seat.part.part_name() == "given":
        return Looked(seat, why_not="its responses are stored ones; how they were asked is unseen")
    folder = Path(seat.model) if is_local(seat.model) else hub_snapshot(seat.model)
    if folder is None or not folder.is_dir():
        return Looked(seat, why_not=f"no files of {seat.name} on this machine")
    try:
        tokenizer = chat.load_tokenizer(folder)
        config = _config(folder)
    except FusechatError as error:
        return Looked(seat, folder, why_not=str(error), broken=not seat.served)
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = f"the configuration in {folder} cannot be read: {error}"
        return Looked(seat, folder, why_not=why, broken=not seat.served)
    return Looked(seat, folder, tokenizer, config, _generation(folder))


def _config(folder: Path) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(str(folder))


def _generation(folder: Path) -> dict[str, Any]:
    path = folder / "generation_config.json"
    if not path.is_file():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}
