"""A build in two units: what is reserved before the SFT training, and what is made of it after."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fusechat.files import read_json
from fusechat.records import Demonstration, Dropped, Pair, Prompt, Score, Triple
from fusechat.stages.analysis import ANALYSIS_FILE
from fusechat.stages.build import build, build_on_policy
from fusechat.stages.build_rows import dpo_row_type, training_tables
from fusechat.stages.build_settings import BuildSettings
from fusechat.stages.candidates import Requests
from fusechat.stages.context import UnitContext
from fusechat.stages.decontaminate import Contaminated
from fusechat.stages.entries import SourceEntry
from fusechat.stages.on_policy import (
    BuildAfter,
    BuildBefore,
    Reserved,
    after,
    before,
    reserved_ids,
    rule_faults,
    waiting,
)
from fusechat.tables import read_dicts, read_table, shards, write_table

SHARE = {"rule": "filter_then_share", "sft_share": 0.5, "order": "sequential"}
BEST = {"use": "best_of", "by": "rm"}
WRPO = {"use": "source_over_target", "by": "rm", "target": "own"}
OPEN = {"min_margin": None, "max_margin": None}
ON_POLICY = {"use": "same_source_margin", "by": "rm", **OPEN}


def rules_of(**rules: Mapping[str, Any]) -> BuildSettings:
    return BuildSettings.model_validate(rules)


class TwoBuilds:
    """Runs both builds over one workspace, the trained source being `own`."""

    def __init__(self, workspace: Any, rules: BuildSettings) -> None:
        whole = workspace.context({})
        self.rules = rules
        ready = {name: path for name, path in whole.inputs.items() if name != "sample/own"}
        folder = whole.folder.with_name("on-policy")
        self.first: UnitContext = replace(whole, inputs=ready, settings=before(rules, ["own"]))
        self.second: UnitContext = replace(
            whole,
            name="build/on_policy",
            folder=folder,
            inputs={**whole.inputs, "build": whole.folder},
            settings=after(rules, ("gemma", "qwen"), ["own"]),
        )

    def run(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return build(self.first), build_on_policy(self.second)

    def reserved(self) -> list[str]:
        return reserved_ids(self.first.folder)

    def dropped(self, context: UnitContext) -> dict[str, str]:
        found = read_table(context.folder / "dropped", Dropped)
        return {row.prompt_id: row.reason for row in found}


@pytest.fixture
def workspace(build_workspace: Any) -> Any:
    return type(build_workspace)(build_workspace.folder, ("gemma", "qwen", "own"))


def fill(workspace: Any, domain: str = "chat") -> list[Prompt]:
    """Six prompts; at the last two the target's samples are alike, or the sources have none."""
    own = [{"rm": 0.5}, {"rm": 0.1}]
    added = [
        workspace.add(f"q{n}", domain, gemma=[{"rm": 0.2}], qwen=[{"rm": 0.3}], own=own)
        for n in range(4)
    ]
    alike = [{"rm": 0.5, "text": "a"}, {"rm": 0.1, "text": "a"}]
    added.append(workspace.add("q4", domain, gemma=[{"rm": 0.2}], qwen=[], own=alike))
    cut = [{"rm": 0.2, "finish": "length"}]
    added.append(workspace.add("q5", domain, gemma=cut, qwen=[], own=own))
    return added


def test_the_share_of_sft_is_drawn_first_and_the_rest_waits_for_the_target(workspace: Any) -> None:
    prompts = fill(workspace)
    builds = TwoBuilds(workspace, rules_of(chat={"split": SHARE, "sft": BEST, "dpo": WRPO}))
    counts, later = builds.run()
    ids = [prompt.id for prompt in prompts]
    sft = list(read_table(builds.first.folder / "sft", Demonstration))
    assert [row.prompt_id for row in sft] == ids[:2]  # floor(0.5 x 5): q5 has no response
    assert {row.source for row in sft} == {"qwen"}
    assert builds.reserved() == ids[2:5]
    assert builds.dropped(builds.first) == {ids[5]: "no whole response"}
    assert (counts["sft"], counts["dpo"], counts["reserved"], counts["dropped"]) == (2, 0, 3, 1)
    assert not shards(builds.first.folder / "dpo")

    triples = list(read_table(builds.second.folder / "dpo", Triple))
    assert [row.prompt_id for row in triples] == ids[2:4]
    one = triples[0]
    assert (one.source, one.target_source, one.domain, one.origin) == (
        "qwen", "own", "chat", "set",
    )  # fmt: skip
    assert (one.source_chosen, one.target_chosen, one.rejected) == (
        "qwen 0 on q2", "own 0 on q2", "own 1 on q2",
    )  # fmt: skip
    scores = (one.source_chosen_score, one.target_chosen_score, one.rejected_score)
    assert (*scores, one.margin, one.weight) == (0.3, 0.5, 0.1, pytest.approx(0.4), 1.0)
    assert builds.dropped(builds.second) == {ids[4]: "target: identical texts"}
    assert (later["prompts"], later["dpo"], later["dropped"]) == (3, 2, 1)
    assert not shards(builds.second.folder / "sft")


def test_every_prompt_is_in_one_table_of_one_of_the_two_builds(workspace: Any) -> None:
    prompts = fill(workspace)
    zh = workspace.add("zh", "zh", gemma=[{}], qwen=[], own=[])
    rules = rules_of(
        chat={"split": SHARE, "sft": BEST, "dpo": WRPO},
        zh={"split": {"rule": "sft_only"}, "sft": {"use": "best_of", "by": None}},
    )
    builds = TwoBuilds(workspace, rules)
    builds.run()
    found = [
        row["prompt_id"]
        for folder, tables in ((builds.first.folder, ("sft", "dropped")),
                               (builds.second.folder, ("dpo", "dropped")))
        for table in tables
        for row in read_dicts(folder / table, ["prompt_id"])
    ]  # fmt: skip
    assert sorted(found) == sorted([*(prompt.id for prompt in prompts), zh.id])


def test_on_policy_pairs_are_of_the_targets_own_responses_alone(workspace: Any) -> None:
    fill(workspace)
    rule = {"split": SHARE, "sft": BEST, "dpo": ON_POLICY, "sources": {"dpo": ["own"]}}
    builds = TwoBuilds(workspace, rules_of(chat=rule))
    builds.run()
    pairs = list(read_table(builds.second.folder / "dpo", Pair))
    assert [(pair.source, pair.rejected_source) for pair in pairs] == [("own", "own")] * 2
    assert dpo_row_type(builds.second.folder) is Pair
    sft = list(read_table(builds.first.folder / "sft", Demonstration))
    assert {row.source for row in sft} == {"qwen"}


def test_without_sources_a_trained_source_gives_no_sft_row_and_no_pair(workspace: Any) -> None:
    rule = {"split": SHARE, "sft": BEST, "dpo": ON_POLICY}
    assert waiting(rules_of(chat=rule), ["own"]) == {}
    assert before(rules_of(chat=rule), ["own"]) == rules_of(chat=rule)


def test_a_domain_that_waits_leaves_the_pairs_of_another_one_in_the_first_build(
    workspace: Any,
) -> None:
    fill(workspace, "chat")
    for n in range(4):
        row = [{"rm": 0.3}, {"rm": 0.1}]
        workspace.add(f"m{n}", "math", gemma=row, qwen=row, own=[])
    rules = rules_of(
        chat={"split": SHARE, "sft": BEST, "dpo": ON_POLICY, "sources": {"dpo": ["own", "qwen"]}},
        math={"split": SHARE, "sft": BEST, "dpo": ON_POLICY},
    )
    builds = TwoBuilds(workspace, rules)
    counts, later = builds.run()
    assert (counts["dpo"], later["dpo"]) == (2, 2)  # of chat, q4 has identical texts
    inputs = {"build": builds.first.folder, "build/on_policy": builds.second.folder}
    tables = training_tables(inputs, "dpo")
    assert [len(list(read_table(table, Pair))) for table in tables] == [2, 2]
    assert training_tables(inputs, "sft") == [builds.first.folder / "sft"]
    pairs = read_table(builds.second.folder / "dpo", Pair)
    assert {pair.domain for pair in pairs} == {"chat"}


@pytest.mark.parametrize(
    ("split", "sft", "reserved"),
    [
        ({"rule": "filter_then_share", "sft_share": 0.4, "order": "sequential"}, [0, 1], [2, 3, 4]),
        ({"rule": "filter_then_share", "sft_share": 0.0, "order": "sequential"}, [], range(5)),
        (
            {"rule": "split_then_filter", "sft_share": 0.5, "order": "sequential"},
            [0, 1, 2],
            [3, 4, 5],
        ),
        ({"rule": "dpo_only"}, [], range(6)),
    ],
)
def test_where_the_prompts_go_before_any_pair_is_known(
    workspace: Any, split: dict[str, Any], sft: list[int], reserved: Any
) -> None:
    ids = [prompt.id for prompt in fill(workspace)]
    rule = {"split": split, "dpo": WRPO} | ({} if split["rule"] == "dpo_only" else {"sft": BEST})
    builds = TwoBuilds(workspace, rules_of(chat=rule))
    build(builds.first)
    rows = read_table(builds.first.folder / "sft", Demonstration)
    assert [row.prompt_id for row in rows] == [ids[n] for n in sft]
    assert builds.reserved() == [ids[n] for n in reserved]
    found = read_table(builds.first.folder / "reserved", Reserved)
    assert {(row.origin, row.domain) for row in found} == {("set", "chat")}


def test_split_rules_that_need_the_pairs_at_once_are_faults() -> None:
    late = {"sft": BEST, "dpo": WRPO}
    rules = rules_of(
        math={"split": {"rule": "pair_else_sft"}, **late},
        chat={"split": {**SHARE, "no_pair_to_sft": True}, **late},
        code={"split": {"rule": "pair_else_sft"}, "sft": BEST, "dpo": ON_POLICY},
    )
    found = dict(rule_faults(rules, ["own"]))
    assert set(found) == {"math.split.rule", "chat.split.no_pair_to_sft"}
    assert "Use filter_then_share, split_then_filter or dpo_only." in found["math.split.rule"]


def test_what_comes_later_is_not_in_what_the_first_build_is_made_of() -> None:
    """So that another margin of the triples trains no SFT again."""
    one = rules_of(chat={"split": SHARE, "sft": BEST, "dpo": WRPO})
    other = rules_of(chat={"split": SHARE, "sft": BEST, "dpo": {**WRPO, "min_margin": 0.1}})
    named = {"split": SHARE, "sft": BEST, "dpo": ON_POLICY, "sources": {"dpo": ["own"]}}
    assert before(one, ["own"]) == before(other, ["own"]) == before(rules_of(chat=named), ["own"])
    assert after(one, ("gemma",), ["own"]) != after(other, ("gemma",), ["own"])
    made = before(one, ["own"])
    assert isinstance(made, BuildBefore)
    assert made.reserve == ("chat",)


def test_all_sources_that_need_no_training_are_used_beside_the_named_target() -> None:
    rules = rules_of(
        chat={"split": SHARE, "sft": BEST, "dpo": WRPO},
        math={"split": SHARE, "sft": BEST, "dpo": WRPO, "sources": ["qwen"]},
    )
    made = after(rules, ("gemma", "qwen"), ["own", "other"])
    assert isinstance(made, BuildAfter)
    sources = {name: rule.sources for name, rule in made.rules.domains.items()}
    assert sources == {"chat": ("gemma", "qwen", "own"), "math": ("qwen", "own")}


def test_a_trained_source_is_asked_the_reserved_prompts_alone(
    workspace: Any, tmp_path: Path
) -> None:
    fill(workspace)
    builds = TwoBuilds(workspace, rules_of(chat={"split": SHARE, "sft": BEST, "dpo": WRPO}))
    build(builds.first)
    table = builds.first.inputs["prompts"] / "prompts"
    entry = SourceEntry.model_validate({"use": "echo", "samples": {"chat": 2}})
    requests = Requests(entry, table, "own", 0, reserved_ids(builds.first.folder))
    assert requests.survey() == (6, 0)
    asked = [request.prompt.id for rows in requests for request in rows]
    assert sorted(set(asked)) == sorted(builds.reserved())


def test_contaminated_prompts_are_never_reserved(workspace: Any, tmp_path: Path) -> None:
    prompts = fill(workspace)
    builds = TwoBuilds(workspace, rules_of(chat={"split": {"rule": "dpo_only"}, "dpo": WRPO}))
    removed = Contaminated(
        what="prompt", prompt_id=prompts[0].id, origin="set", domain="chat", benchmark="b",
        item="1", kind="run", runs=1, jaccard=0.5, words="",
    )  # fmt: skip
    ledger = tmp_path / "ledger"
    write_table(ledger / "removed", [removed], Contaminated)
    first = replace(builds.first, inputs={**builds.first.inputs, "decontaminate": ledger})
    build(first)
    assert prompts[0].id not in builds.reserved()
    assert builds.dropped(first) == {prompts[0].id: "has words of a benchmark"}


def test_scores_of_a_trained_source_may_stand_in_a_unit_of_their_own(workspace: Any) -> None:
    """As they do in a run: `annotate/rm@own` has own's, `annotate/rm` those of the others."""
    fill(workspace)
    rules = rules_of(chat={"split": SHARE, "sft": BEST, "dpo": WRPO})
    builds = TwoBuilds(workspace, rules)
    builds.run()
    together = [row.model_dump() for row in read_table(builds.second.folder / "dpo", Triple)]

    inputs = dict(builds.second.inputs)
    own = {row["id"] for row in read_dicts(inputs["sample/own"] / "data", ["id"])}
    scores = list(read_table(inputs["annotate/rm"] / "data", Score))
    apart = {"annotate/rm": False, "annotate/rm@own": True}
    for name, wanted in apart.items():
        folder = inputs["prompts"].with_name(name.replace("/", "-") + "-apart")
        kept = [row for row in scores if (row.response_id in own) == wanted]
        write_table(folder / "data", kept, Score)
        inputs[name] = folder
    second = replace(builds.second, inputs=inputs, folder=builds.second.folder.with_name("apart"))
    build_on_policy(second)
    assert [row.model_dump() for row in read_table(second.folder / "dpo", Triple)] == together


def test_the_analysis_is_of_the_reserved_prompts_alone(workspace: Any) -> None:
    fill(workspace)
    builds = TwoBuilds(workspace, rules_of(chat={"split": SHARE, "sft": BEST, "dpo": WRPO}))
    builds.run()
    first, second = (
        read_json(c.folder / ANALYSIS_FILE)["domains"]["chat"]["funnel"]
        for c in (builds.first, builds.second)
    )
    assert (first["prompts"], first["sft_prompts"], first["dpo_prompts"]) == (6, 2, 3)
    assert (second["prompts"], second["dpo_prompts"], second["dropped"]) == (3, 2, 1)
    assert second["dropped_words"] == {"identical": 1}
    assert json.dumps(second["sources"]["dpo"]["own"]["gives"]) == "2"
