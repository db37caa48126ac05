"""IFEval: 541 prompts with instructions that a program can check."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, ClassVar

from fusechat.columns import read_rows
from fusechat.metrics.scoring import Items
from fusechat.parts import UnreadableRow
from fusechat.records import Prompt
from fusechat.tasks._benchmark import Benchmark, Profile, numbered
from fusechat.tasks._catalogue import DataFile

_LICENCE = "Apache-2.0"


class IfEval(Benchmark):
    """IFEval (arXiv 2311.07911): share of prompts of which all instructions are followed, strictly.

    Beside it: the share of instructions, and both by the loose reading. The paper has no such row.
    """

    title: ClassVar[str] = "IFEval"
    licence: ClassVar[str] = _LICENCE
    data: ClassVar[tuple[DataFile, ...]] = (
        DataFile(
            role="items",
            names=(
                "ifeval/ifeval_en_input_data.jsonl",
                "ifeval/ifeval_input_data.jsonl",
                "ifeval_input_data.jsonl",
                "instruction_following_eval/data/input_data.jsonl",
                "ifeval/input_data.jsonl",
            ),
            licence=_LICENCE,
            home="hub: google/IFEval, ifeval_input_data.jsonl; or google-research/google-research, "
            "instruction_following_eval/data/input_data.jsonl",
            hub=("google/IFEval", "ifeval_input_data.jsonl"),
            revision="966cd89545d6b6acfd7638bc708b98261ca58e84",
            sha256={
                "6a85310ca8ce15eff755aa08a3a4ff931c7e273e7515ebb3c492ea85fd8288f2": "google/IFEval",
                "48a13f6e56fcd38da37fb9a7da78277792643bb96a1b0e60e79405e6a5d10fca": "M-IFEval's "
                "copy, with `en:` before the names",
            },
            items=541,
        ),
    )
    differs: ClassVar[str] = "the paper has no IFEval row"

    def graders(self) -> dict[Profile, dict[str, Any]]:
        """The same checks; the publisher also grades what was cut."""
        return {"paper": {"use": "ifeval", "grade_cut": True}, "robust": {"use": "ifeval"}}

    def prompts(self, split: str) -> Iterable[Prompt | UnreadableRow]:
        """The prompts in the file's order; `item` is the file's `key`."""
        return numbered(self._each())

    def notes(self) -> list[str]:
        """Also: where languages cannot be told."""
        lack = (
            "langdetect is not installed: items with an instruction about language are not scored "
            "(pip install 'fusechat[ifeval]')."
        )
        return [*super().notes(), *([] if find_spec("langdetect") else [lack])]

    def extras(self, items: Items) -> dict[str, Any]:
        """In per cent: `instruction_strict`, `prompt_loose`, `instruction_loose`, and
        `by_instruction` (strict, by the first word of the names).

        Over the items with a value; a response that could not be graded follows nothing.
        """
        told = [
            _readings(details)
            for details, known in zip(items.details, items.known(), strict=True)
            if known and details.get("instructions")
        ]
        if not told:
            return {}
        kinds: dict[str, list[bool]] = {}
        for names, strict, _ in told:
            for name, followed in zip(names, strict, strict=True):
                kinds.setdefault(name.split(":")[0], []).append(followed)
        return {
            "instruction_strict": _percent([one for _, strict, _ in told for one in strict]),
            "prompt_loose": _percent([all(loose) for _, _, loose in told]),
            "instruction_loose": _percent([one for _, _, loose in told for one in loose]),
            "by_instruction": {kind: _percent(kinds[kind]) for kind in sorted(kinds)},
        }

    def _each(self) -> Iterator[Prompt | UnreadableRow]:
        path = self.found().get("items")
        for place, row in read_rows(path) if path is not None else ():
            try:
                yield self._prompt(row)
            except ValueError as error:
                yield UnreadableRow(place, str(error))

    def _prompt(self, row: Any) -> Prompt:
        if not isinstance(row, Mapping):
            raise ValueError("row is no object")
        prompt, names, given = (row.get(n) for n in ("prompt", "instruction_id_list", "kwargs"))
        if not isinstance(prompt, str) or not prompt.strip():
            raise ValueError("row has no prompt")
        if not isinstance(names, list) or not isinstance(given, list):
            raise ValueError("row's instruction_id_list and kwargs are not two lists")
        if not names or len(names) != len(given):
            raise ValueError("row's instruction_id_list and kwargs are not of one length")
        checker = {
            "instruction_id_list": [str(name).removeprefix("en:") for name in names],
            "kwargs": [_told(one) for one in given],
        }
        return Prompt.of(
            prompt, domain="all", item=str(row.get("key", "")) or None,
            checker=json.dumps(checker, ensure_ascii=False), licence=self.licence,
        )  # fmt: skip


def _told(given: Any) -> dict[str, Any]:
    """The arguments that are given: the hub's copy has all others as null."""
    if not isinstance(given, Mapping):
        raise ValueError("row's kwargs are no list of objects")
    return {str(key): value for key, value in given.items() if value is not None}


def _readings(details: Mapping[str, Any]) -> tuple[list[str], list[bool], list[bool]]:
    """An item's instructions, and which are followed: none where it could not be graded."""
    names = list(details["instructions"])
    none = [False] * len(names)
    return names, list(details.get("strict", none)), list(details.get("loose", none))


def _percent(followed: Sequence[bool]) -> float:
    return round(100 * sum(followed) / len(followed), 4)
