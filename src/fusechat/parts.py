"""Parts: plug-ins of one file and one class, with only settings in it.

`use: math_answer` in a recipe is the file `annotators/math_answer.py`; `use: my_pkg.mine:Mine`
is a user's own class (it is imported and run). There is no registry to edit. A part is
small, hashable and picklable; what is heavy is made by `open()`, once per worker.

Families: a **source** and an **annotator** work row by row (`RowPart`); a **strategy** picks
from one prompt's judged responses; a **loss** is a pure function of log-probabilities; a
**task** yields prompts. Read this third.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo
from pydantic.functional_validators import BeforeValidator

from fusechat.digests import digest
from fusechat.groups import Choice as Choice
from fusechat.groups import Group as Group
from fusechat.groups import Groups as Groups
from fusechat.groups import Judged as Judged
from fusechat.groups import PairChoice as PairChoice
from fusechat.groups import Refusal as Refusal
from fusechat.groups import Said as Said
from fusechat.groups import Seen as Seen
from fusechat.groups import Selection as Selection
from fusechat.groups import TripleChoice as TripleChoice
from fusechat.groups import select_each
from fusechat.records import SIDES as SIDES
from fusechat.records import Candidate, Prompt, Request
from fusechat.records import RowType as RowType
from fusechat.settings import CONTENT as CONTENT
from fusechat.settings import MODEL, model_fault
from fusechat.settings import SPEED as SPEED
from fusechat.settings import ContentPath as ContentPath
from fusechat.settings import ModelName as ModelName
from fusechat.settings import Where as Where
from fusechat.settings import package_fault as package_fault
from fusechat.settings import settings_key as settings_key

if TYPE_CHECKING:
    import torch

FAMILIES = ("sources", "annotators", "strategies", "losses", "tasks")


class Part(BaseModel):
    """Base of every plug-in: frozen settings, unknown ones refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: ClassVar[int] = 1
    """Raised when the same settings would now give other results."""
    requires: ClassVar[Mapping[str, str]] = {}
    """Packages beyond the core that it needs to run -> the extra that installs each."""

    @classmethod
    def part_name(cls) -> str:
        """The name that `use:` takes: the file's name, or `package.module:Class`."""
        module = cls.__module__
        if module.startswith("fusechat.") and module.split(".")[1] in FAMILIES:
            return module.rsplit(".", 1)[1]
        return f"{module}:{cls.__name__}"

    def key(self) -> dict[str, Any]:
        """What enters the keys: name, version, and the settings that differ from their defaults."""
        return {"use": self.part_name(), "version": self.version, "settings": settings_key(self)}

    def digest(self) -> str:
        """Digest of `key()`."""
        return digest(self.key())

    def __hash__(self) -> int:
        return hash((type(self), self.model_dump_json()))

    def faults(self) -> Iterator[tuple[str, str]]:
        """What is seen to be wrong before anything runs: (setting, message with the mend)."""
        for package, extra in self.requires.items():
            if fault := package_fault(package, extra):
                yield "use", fault
        for name, info in type(self).model_fields.items():
            value = getattr(self, name)
            if CONTENT not in info.metadata or not isinstance(value, str):
                continue
            if Path(value).is_absolute() and not Path(value).exists():
                yield name, f"there is nothing at {value}. Give a path relative to the recipe."
            elif MODEL in info.metadata and (fault := model_fault(value)):
                yield name, fault


Work = Callable[[Iterator[Any]], Iterator[Any]]


class RowPart(Part):
    """A part that answers each input row with exactly one output row.

    `open(where)` makes the heavy thing and gives a function from an iterator of inputs to an
    iterator of outputs, in any order; every output carries its input's `made_from`. The part
    may read ahead as far as it likes. A row that cannot be answered is answered with an
    error, never left out.
    """

    io_bound: ClassVar[bool] = False
    """Whether it waits for others' work (a server): then one worker has all rows in flight."""
    on_device: ClassVar[bool] = False
    """Whether it loads a model onto `where.device`: then an accelerator gets one worker only."""

    def open(self, where: Where) -> AbstractContextManager[Work]:
        """Make what is heavy; called once per worker.

        A work with a dictionary `notes`, of JSON, has it in the unit's manifest: what is in it when
        it is opened, and what has changed in it when it ends.
        """
        raise NotImplementedError(f"{type(self).__name__} must define open()")

    def cut(self, rows: Sequence[Any]) -> list[list[Any]] | None:
        """How a shard is cut into batches that are computed, journaled and redone as a whole.

        None: rows are independent, and stream. A part whose results could depend on batch
        neighbours in their last bits cuts here, from the rows alone, so that a killed and
        resumed run computes the very same batches.
        """
        return None


class Source(RowPart):
    """Answers `Request`s with `Response`s."""

    def available(self, prompt: Prompt, wanted: int | None) -> int:
        """How many samples it can give to this prompt when asked for `wanted` (None: all)."""
        return 1 if wanted is None else wanted

    def prefills(self) -> bool:
        """Whether it goes on with an answer whose beginning is the prompt's last message."""
        return False

    def unread(self) -> Iterable[UnreadableRow]:
        """Rows of its own data that hold no response; kept by the unit, with their reasons."""
        return ()

    def sees(self, request: Request) -> Any:
        """The JSON value of all that decides a response; its digest is the row's `made_from`."""
        return [request.prompt.chat(), request.index, request.seed]

    def row_seed(self, seed: int, prompt: Prompt, index: int) -> int:
        """The seed of a row, from the recipe's seed and that row alone; 63 bits, none negative.

        A part whose server counts seeds up within a request, or whose recipe lists them, says so
        here. No two indices of a prompt may have one seed."""
        return int(digest([seed, self.digest(), prompt.id, index]), 16) >> 1

    def place_faults(self, where: Where) -> Iterator[str]:
        """What it lacks in this place (a server, a key); a run asks before its first unit."""
        yield from ()

    def logps(self) -> RowPart | str:
        """The part that answers `LogpRequest`s, or why there is none, with the mend."""
        return f"the source '{self.part_name()}' cannot say how likely a text is. Use hf."

    def served_model(self) -> str:
        """The name under which responses are filed as `model`."""
        return str(getattr(self, "model", type(self).__name__))


class Annotator(RowPart):
    """Judges `Candidate`s, giving `Score`s."""

    needs: ClassVar[tuple[str, ...]] = ()
    """Fields of `Prompt` without which nothing can be judged, such as `answer`."""

    def sees(self, candidate: Candidate) -> Any:
        """The JSON value of all that decides a score; its digest is the row's `made_from`."""
        prompt, response = candidate.prompt, candidate.response
        gold = {name: getattr(prompt, name) for name in self.needs}
        return [prompt.chat(), gold, response.text, response.finish]


class Strategy(Part):
    """Picks from one prompt's responses; pure, and blind to their order."""

    emits: ClassVar[RowType]
    mixes_sources: ClassVar[bool] = False
    """Whether a pick needs responses of two sources."""

    def select(self, group: Group) -> Said:
        """The picks, at least one and of the kind of `emits`, or a refusal with its reason."""
        raise NotImplementedError(f"{type(self).__name__} must define select()")

    def of_source(self, group: Group, source: str) -> Said:
        """What one source gives by itself, as if the others were not there; of a strategy that
        mixes sources, with this one's response as the chosen one."""
        own = tuple(r for r in group.responses if r.source == source)
        return self.select(replace(group, sources=(source,), responses=own))

    def select_all(self, groups: Groups) -> Selection:
        """What `select` says of each of many prompts, and of each source by itself; override it
        for speed."""
        return select_each(self, groups)

    def refusal_details(
        self, groups: Groups, said: Selection, prompts: Sequence[int]
    ) -> Sequence[Mapping[str, Any]]:
        """`Refusal.details` of some prompts that `select_all` refused; override it for speed."""
        found = [self.select(groups.group(prompt)) for prompt in prompts]
        return [one.details if isinstance(one, Refusal) else {} for one in found]

    def annotators(self) -> tuple[str, ...]:
        """Names of the annotators whose scores this strategy reads."""
        names = (getattr(self, key, None) for key in ("by", "correct_by"))
        return tuple(name for name in names if name)

    def named_sources(self) -> tuple[str, ...]:
        """The sources that its settings name; a rule's `sources` need not name them again."""
        return ()


class Loss(Part):
    """A loss as a pure function of summed log-probabilities; it never sees the model."""

    consumes: ClassVar[RowType]
    needs_reference: ClassVar[bool] = False
    needs_sources: ClassVar[bool] = False
    """Whether it reads log-probabilities that the sources give to the responses."""
    reduction: ClassVar[Literal["rows", "tokens", "weights", "weighted_tokens"]] = "rows"
    """What a step divides the sum of its weighted row losses by: its rows, its summed tokens, the
    sum of its rows' weights, or the sum of weight x tokens."""
    counted: ClassVar[tuple[str, ...] | None] = None
    """Whose tokens `reduction: tokens` counts, for example `("chosen",)`; None: of all sides."""

    @property
    def sides(self) -> tuple[str, ...]:
        """Names of the responses of the rows that it learns from, in their order."""
        return SIDES[self.consumes]

    def __call__(
        self,
        logps: Mapping[str, torch.Tensor],
        lengths: Mapping[str, torch.Tensor],
        progress: float,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Loss of each row `[rows]` and metrics of each row `[rows]`.

        `logps`: nats, summed over the response tokens, `[rows]`; keys are the sides of the row
        (`SIDES`: `response`; or `chosen`, `rejected`; ...) and, with a reference,
        `reference_<side>`. `lengths`: number of summed tokens, the end-of-turn token included,
        `[rows]`, by side. Where `needs_sources`, both also have `sources_<side>`, `[rows,
        sources]`: what each source gives the response, and the tokens it has in that source's own
        tokenizer; nan and 0 where a source gave none.
        `progress`: share of training done, in [0, 1].
        """
        raise NotImplementedError(f"{type(self).__name__} must define __call__()")


class Task(Part):
    """A prompt set, and, where it says how it is graded, a benchmark."""

    domain: ClassVar[str | None] = None
    """Domain of its prompts where the recipe does not say."""
    splits: ClassVar[tuple[str, ...]] = ("train",)

    def prompts(self, split: str) -> Iterable[Prompt | UnreadableRow]:
        """The prompts of one split, in a fixed order; a row that cannot be one says why."""
        raise NotImplementedError(f"{type(self).__name__} must define prompts()")

    def graded_by(self) -> dict[str, Any] | None:
        """The annotator that grades it, as a recipe would write it (`{"use": "math_answer"}`);
        None where it is only a prompt set."""
        return None

    def compared(self) -> dict[str, Any] | None:
        """How responses are held against another model's, as `win_rate` in a recipe (`{"against":
        "target", "scale": 1.0}`); None where its grades are shares in [0, 1]."""
        return None


@dataclass(frozen=True)
class UnreadableRow:
    """A row of a prompt set that could not become a prompt."""

    place: str
    reason: str


BASES: dict[str, type[Part]] = {
    "sources": Source,
    "annotators": Annotator,
    "strategies": Strategy,
    "losses": Loss,
    "tasks": Task,
}


def part_names(family: str) -> list[str]:
    """Names of the parts of a family that come with the package, found by file."""
    package = importlib.import_module(f"fusechat.{family}")
    return sorted(
        m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")
    )


def part_class(family: str, use: str) -> type[Part]:
    """The class behind `use`; raises `UnknownPartError` with the nearest right name."""
    if not isinstance(use, str):
        raise UnknownPartError(f"'use' names a part, and {use!r} is no text. Give its name.")
    if ":" in use:
        module_name, _, class_name = use.partition(":")
        try:
            found = getattr(importlib.import_module(module_name), class_name)
        except Exception as error:  # a user's module may fail in any way
            reason = str(error) if isinstance(error, ImportError) else repr(error)
            raise UnknownPartError(
                f"'{use}' cannot be imported: {reason}. It must be importable here."
            ) from error
        base = BASES[family]
        if not (isinstance(found, type) and issubclass(found, base)):
            raise UnknownPartError(
                f"'{use}' is no part of {family}: its class must derive from "
                f"fusechat.parts.{base.__name__}."
            )
        return found
    known = part_names(family)
    if use not in known:
        near = difflib.get_close_matches(use, known, 1)
        hint = f"Did you mean '{near[0]}'?" if near else f"There are: {', '.join(known)}."
        raise UnknownPartError(
            f"there is no part '{use}' in {family}. {hint} Your own: use: package.module:Class"
        )
    module = importlib.import_module(f"fusechat.{family}.{use}")
    own = [
        value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, Part)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    ]
    if len(own) != 1:
        raise ValueError(
            f"fusechat.{family}.{use} must hold exactly one part class; it holds {len(own)}."
        )
    return own[0]


def load_part(family: str, settings: Mapping[str, Any], base: Path | None = None) -> Part:
    """The part that `{"use": ..., **settings}` describes; paths are relative to `base`."""
    rest = dict(settings)
    cls = part_class(family, rest.pop("use"))
    try:
        return cls.model_validate(rest, context={"base": base})
    except ValidationError as error:
        raise PartSettingsError(cls, error) from error


class UnknownPartError(ValueError):
    """`use` names no part."""


class PartSettingsError(ValueError):
    """The settings of a part are wrong; keeps pydantic's own list for the recipe's faults."""

    def __init__(self, cls: type[Part], error: ValidationError) -> None:
        self.cls, self.error = cls, error
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        super().__init__(f"{cls.part_name()}: {where}: {first['msg']}")


def describe(cls: type[Part]) -> str:
    """First line of a part's docstring."""
    return (cls.__doc__ or "").strip().splitlines()[0] if cls.__doc__ else ""


def _loader(family: str) -> BeforeValidator:
    def load(value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, Part):
            return value
        settings = {"use": value} if isinstance(value, str) else value
        if not isinstance(settings, Mapping) or "use" not in settings:
            raise ValueError(
                f"say which one with 'use:'; there are {', '.join(part_names(family))}."
            )
        return load_part(family, settings, (info.context or {}).get("base"))

    return BeforeValidator(load)


SourcePart = Annotated[Source, _loader("sources")]
AnnotatorPart = Annotated[Annotator, _loader("annotators")]
StrategyPart = Annotated[Strategy, _loader("strategies")]
LossPart = Annotated[Loss, _loader("losses")]
TaskPart = Annotated[Task, _loader("tasks")]
