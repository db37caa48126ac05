"""Weights, triples and sources of single tables: from a strategy's picks to the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest

from fusechat.errors import PartError
from fusechat.files import read_json
from fusechat.parts import Choice, Group, RowType, Strategy, TripleChoice
from fusechat.records import Demonstration, Pair, Triple
from fusechat.stages.analysis import ANALYSIS_FILE
from fusechat.stages.build import build
from fusechat.stages.build_rows import dpo_row_type
from fusechat.tables import read_table

OPEN = {"min_margin": None, "max_margin": None}


def rows_of(context: Any) -> tuple[list[Demonstration], list[Pair]]:
    return (
        list(read_table(context.folder / "sft", Demonstration)),
        list(read_table(context.folder / "dpo", Pair)),
    )


def test_weights_of_fuserl_stand_in_the_rows_and_sum_to_1_for_each_prompt(
    build_workspace: Any,
) -> None:
    one = {"gemma": [{"rm": 0.0}, {"rm": 1.0}], "qwen": [{"rm": 2.0}, {"rm": 1.5}]}
    for n in range(5):
        build_workspace.add(f"q{n}", "chat", **one)
    build_workspace.add("alone", "chat", gemma=[{"rm": 0.0}, {"rm": 1.0}], qwen=[])
    split = {"rule": "filter_then_share", "sft_share": 0.5, "order": "sequential"}
    context = build_workspace.context(
        {
            "chat": {
                "split": split,
                "sft": {"use": "all_sources", "by": "rm"},
                "dpo": {"use": "each_source_margin", "by": "rm", **OPEN},
            }
        }
    )
    counts = build(context)
    sft, dpo = rows_of(context)
    assert (counts["sft"], counts["dpo"]) == (len(sft), len(dpo)) == (6, 5)
    # e^2 and e^1 over their sum
    weights = {row.source: row.weight for row in sft}
    assert weights == pytest.approx({"qwen": 0.731059, "gemma": 0.268941}, abs=1e-6)
    for rows in (sft, dpo):
        totals: dict[str, float] = {}
        for row in rows:
            totals[row.prompt_id] = totals.get(row.prompt_id, 0.0) + row.weight
        assert list(totals.values()) == pytest.approx([1.0] * 3)
    assert dpo[-1].weight == 1.0  # of the prompt with one source


def test_rows_without_weights_have_the_weight_1(build_workspace: Any) -> None:
    build_workspace.add("q", "chat", gemma=[{"rm": 0.5}], qwen=[{"rm": 0.6}])
    rule = {"split": {"rule": "sft_only"}, "sft": {"use": "best_of", "by": "rm"}}
    context = build_workspace.context({"chat": rule})
    build(context)
    assert [row.weight for row in rows_of(context)[0]] == [1.0]


def test_a_target_that_needs_no_training_gives_triples_in_the_first_build(
    build_workspace: Any,
) -> None:
    workspace = type(build_workspace)(build_workspace.folder, ("gemma", "own"))
    workspace.add("q", "chat", gemma=[{"rm": 0.5}], own=[{"rm": 0.1}, {"rm": 0.2}])
    workspace.add("r", "chat", gemma=[{"rm": 0.5}], own=[{"rm": 0.1}])
    rule = {
        "split": {"rule": "dpo_only"},
        "dpo": {"use": "source_over_target", "by": "rm", "target": "own"},
    }
    context = workspace.context({"chat": rule})
    build(context)
    assert dpo_row_type(context.folder) is Triple
    (row,) = read_table(context.folder / "dpo", Triple)
    assert (row.source, row.target_source) == ("gemma", "own")
    assert (row.source_chosen, row.target_chosen, row.rejected) == (
        "gemma 0 on q", "own 1 on q", "own 0 on q",
    )  # fmt: skip
    analysed = read_json(context.folder / ANALYSIS_FILE)["domains"]["chat"]
    assert analysed["funnel"]["dropped_words"] == {"one usable": 1}
    assert analysed["parity"]["all"]["style_pairs"] == 1


class Odd(Strategy):
    """Gives what a careful strategy would not."""

    emits: ClassVar[RowType] = "Demonstration"
    weight: float

    def select(self, group: Group) -> Sequence[Choice]:
        return [Choice(group.responses[0].response_id, None, "", self.weight)]


@pytest.mark.parametrize("weight", [-0.5, float("nan"), float("inf")])
def test_a_weight_that_is_no_weight_is_an_error(build_workspace: Any, weight: float) -> None:
    build_workspace.add("q", "chat", gemma=[{"rm": 0.5}], qwen=[])
    rule = {"split": {"rule": "sft_only"}, "sft": Odd(weight=weight)}
    with pytest.raises(PartError, match="gave the weight"):
        build(build_workspace.context({"chat": rule}))


class Twisted(Strategy):
    """Gives a triple whose two own responses are one."""

    emits: ClassVar[RowType] = "Triple"

    def select(self, group: Group) -> Sequence[TripleChoice]:
        one, other = (response.response_id for response in group.responses[:2])
        return [TripleChoice(one, other, other, None, None, None, None, "")]


def test_a_triple_of_a_response_with_itself_is_an_error(build_workspace: Any) -> None:
    build_workspace.add("q", "chat", gemma=[{"rm": 0.5}, {"rm": 0.6}], qwen=[])
    with pytest.raises(PartError, match="paired a response with itself"):
        build(build_workspace.context({"chat": {"split": {"rule": "dpo_only"}, "dpo": Twisted()}}))


def test_each_table_can_have_sources_of_its_own(build_workspace: Any) -> None:
    """The same rows as of two builds, each with the sources of one table."""
    generator = np.random.default_rng(5)
    for n in range(40):
        scores = generator.integers(0, 12, size=(2, 3)) / 100
        gemma, qwen = ([{"rm": float(score)} for score in row] for row in scores)
        if n % 7 == 0:
            gemma[0]["rm"] = "error"
        build_workspace.add(f"q{n}", "chat", gemma=gemma[: n % 4], qwen=qwen)
    rule = {
        "split": {"rule": "pair_else_sft", "allow_overlap": True},
        "sft": {"use": "best_of", "by": "rm"},
        "dpo": {"use": "same_source_margin", "by": "rm"},
    }
    context = build_workspace.context(
        {"chat": {**rule, "sources": {"sft": ["gemma"], "dpo": ["qwen"]}}}
    )
    counts = build(context)
    both = rows_of(context)
    for number, source in enumerate(("gemma", "qwen")):
        settings = type(context.settings).model_validate({"chat": {**rule, "sources": [source]}})
        alone = replace(context, settings=settings, folder=context.folder.with_name(source))
        build(alone)
        assert rows_of(alone)[number] == both[number]
        assert {row.source for row in both[number]} == {source}
    analysed = read_json(context.folder / ANALYSIS_FILE)["domains"]["chat"]
    gives = analysed["funnel"]["sources"]
    assert gives["sft"]["qwen"]["words"] == {"no response": 40}
    assert gives["dpo"]["gemma"]["words"] == {"no response": 40}
    assert gives["dpo"]["qwen"]["gives"] == counts["dpo"]
