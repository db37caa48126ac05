"""Build: what it makes of strategies of others, careful and careless."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

from fusechat.errors import PartError
from fusechat.groups import PICKED
from fusechat.parts import Choice, Group, Groups, PairChoice, Selection, Strategy
from fusechat.records import Demonstration, Dropped, Pair
from fusechat.stages.build import build
from fusechat.stages.context import UnitContext
from fusechat.tables import read_table


def tables(context: UnitContext) -> tuple[list[Demonstration], list[Pair], list[Dropped]]:
    return (
        list(read_table(context.folder / "sft", Demonstration)),
        list(read_table(context.folder / "dpo", Pair)),
        list(read_table(context.folder / "dropped", Dropped)),
    )


class Careless(Strategy):
    """Picks without looking."""

    emits: ClassVar[Literal["Demonstration", "Pair"]] = "Pair"
    way: str

    def select(self, group: Group) -> Sequence[Choice] | Sequence[PairChoice]:
        ids = [r.response_id for r in group.responses]
        picks: dict[str, Any] = {
            "nothing": [],
            "itself": [PairChoice(ids[0], ids[0], None, None, None, "")],
            "stranger": [PairChoice(ids[0], "0123", None, None, None, "")],
            "first two": [PairChoice(ids[0], ids[-1], None, None, None, "")],
            "type": [Choice(ids[0], None, "")],
        }
        found: Sequence[Choice] | Sequence[PairChoice] = picks[self.way]
        return found


def test_a_pair_of_two_sources_is_filed_under_the_chosen_ones(build_workspace: Any) -> None:
    build_workspace.add("q", "chat", gemma=[{"rm": 1}], qwen=[{"rm": 1}])
    rule = {"split": {"rule": "dpo_only"}, "dpo": Careless(way="first two")}
    context = build_workspace.context({"chat": rule})
    build(context)
    assert tables(context)[1][0].source == "gemma"


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("nothing", "gave nothing"),
        ("itself", "with itself"),
        ("stranger", "no whole response of prompt"),
        ("first two", "no whole response of prompt"),
        ("type", "gave Choice where PairChoice is due"),
    ],
)
def test_a_strategy_that_breaks_its_contract_is_an_error(
    build_workspace: Any, way: str, words: str
) -> None:
    build_workspace.add("q", "chat", gemma=[{"rm": 1}, {"rm": 1, "finish": "length"}])
    rule = {"split": {"rule": "dpo_only"}, "dpo": Careless(way=way)}
    with pytest.raises(PartError, match=words):
        build(build_workspace.context({"chat": rule}))


class Broken(Strategy):
    """Its `select_all` says of the columns what cannot be."""

    emits: ClassVar[Literal["Demonstration", "Pair"]] = "Pair"
    way: str

    def select_all(self, groups: Groups) -> Selection:
        picks = {
            "stranger": (0, 0, 99), "another prompt": (0, 0, 2), "cut": (0, 0, 1),
            "itself": (0, 0, 0), "single": (0, 0, -1),
        }  # fmt: skip
        prompt, row, other = (np.array([n], np.int32) for n in picks.get(self.way, (0, 0, 0)))
        count, none = len(groups.prompt_ids), np.full(1, np.nan)
        refusal = np.zeros(count, np.int16)
        refusal[0] = 0 if self.way == "both" else PICKED
        if self.way == "nothing":
            prompt = row = other = np.zeros(0, np.int32)
        shape = (count, len(groups.sources))
        return Selection(
            prompt, row, other, none[: len(row)], none[: len(row)], none[: len(row)],
            np.zeros(len(row), np.int16), ("",), refusal, np.zeros(shape, np.int16),
            np.full(shape, np.nan), np.full(shape, np.nan), ("no",),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("stranger", "picked row 99, which is no whole response"),
        ("another prompt", "no whole response of prompt"),
        ("cut", "no whole response of prompt"),
        ("itself", "with itself"),
        ("single", "gave Choice where PairChoice is due"),
        ("nothing", "gave nothing for prompt"),
        ("both", "both picked from and refused prompt"),
    ],
)
def test_columns_that_break_the_contract_are_an_error(
    build_workspace: Any, way: str, words: str
) -> None:
    build_workspace.add("q", "chat", gemma=[{"rm": 1}, {"rm": 1, "finish": "length"}])
    build_workspace.add("r", "chat", gemma=[{"rm": 1}, {"rm": 1}])
    rule = {"split": {"rule": "dpo_only"}, "dpo": Broken(way=way)}
    with pytest.raises(PartError, match=words):
        build(build_workspace.context({"chat": rule}))
