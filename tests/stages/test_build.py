"""Build: tables, counts and dropped prompts of a small workspace, worked by hand."""

from __future__ import annotations

import json
import random
from itertools import chain
from typing import Any

import pyarrow as pa
import pytest

from fusechat.parts import Refusal
from fusechat.records import Demonstration, Dropped, Pair
from fusechat.stages.build import build
from fusechat.stages.context import UnitContext
from fusechat.stages.groups import blocks
from fusechat.stages.slim import write_index
from fusechat.tables import read_table


def tables(context: UnitContext) -> tuple[list[Demonstration], list[Pair], list[Dropped]]:
    return (
        list(read_table(context.folder / "sft", Demonstration)),
        list(read_table(context.folder / "dpo", Pair)),
        list(read_table(context.folder / "dropped", Dropped)),
    )


def rm(*values: Any) -> list[dict[str, Any]]:
    return [{"rm": value} for value in values]


def verified(name: str, *rows: tuple[Any, Any]) -> list[dict[str, Any]]:
    return [{"rm": value, name: right} for value, right in rows]


def test_math_prompts_go_to_dpo_with_a_pair_else_to_sft_else_nowhere(
    build_workspace: Any, paper_rules: dict[str, Any]
) -> None:
    ws = build_workspace
    mixed = ws.add("mixed", "math", gemma=verified("math", (0.15, 1), (0.1, 0)))
    easy = ws.add("easy", "math", qwen=verified("math", (0.15, 1), (0.2, 1)))
    hard = ws.add("hard", "math", gemma=verified("math", (0.3, 0)), qwen=verified("math", (0.1, 0)))
    wide = ws.add("wide", "math", gemma=verified("math", (0.5, 1), (0.1, 0)))
    context = ws.context(paper_rules)
    counts = build(context)
    sft, dpo, dropped = tables(context)

    (pair,) = dpo
    assert pair.prompt_id == mixed.id
    assert (pair.chosen, pair.rejected) == ("gemma 0 on mixed", "gemma 1 on mixed")
    assert (pair.source, pair.origin, pair.domain) == ("gemma", "set", "math")
    assert (pair.chosen_score, pair.rejected_score) == (0.15, 0.1)
    assert pair.margin == pytest.approx(0.05)
    assert pair.messages == mixed.messages

    assert [(row.prompt_id, row.response, row.score) for row in sft] == [
        (easy.id, "qwen 1 on easy", 0.2),
        (wide.id, "gemma 0 on wide", 0.5),
    ]
    (gone,) = dropped
    assert (gone.prompt_id, gone.stage, gone.reason) == (hard.id, "sft", "no correct response")
    details = json.loads(gone.details or "")
    assert details["sft"]["sources"]["gemma"]["reason"] == "no correct response"
    assert details["dpo"]["reason"] == "no correct response"

    math = counts["domains"]["math"]
    assert (math["prompts"], math["sft"], math["dpo"]) == (4, 2, 1)
    assert math["dropped"] == {"no correct response": 1}
    assert math["sft_sources"] == {"qwen": 1, "gemma": 1}
    assert math["dpo_sources"] == {"gemma": 1}
    assert math["refused"]["dpo"] == {
        "no incorrect response": 1, "no correct response": 1, "gap above max_margin": 1,
    }  # fmt: skip
    assert (counts["sft"], counts["dpo"], counts["dropped"]) == (2, 1, 1)


def test_chat_prompts_without_a_pair_are_dropped_and_the_rest_split_four_to_six(
    build_workspace: Any, paper_rules: dict[str, Any]
) -> None:
    ws = build_workspace
    for number in range(10):
        ws.add(f"good {number}", "chat", gemma=rm(0.15, 0.1))
    for number in range(3):
        ws.add(f"flat {number}", "chat", gemma=rm(0.101, 0.1))
    ws.add("same", "chat", gemma=[{"rm": 0.15, "text": "x"}, {"rm": 0.1, "text": "x"}])
    context = ws.context(paper_rules)
    counts = build(context)
    sft, dpo, dropped = tables(context)
    assert (len(sft), len(dpo)) == (4, 6)
    assert {r.prompt_id for r in sft}.isdisjoint(r.prompt_id for r in dpo)
    assert counts["domains"]["chat"]["dropped"] == {"gap below min_margin": 3, "identical texts": 1}
    assert {row.stage for row in dropped} == {"dpo"}


def test_chinese_prompts_never_reach_dpo_and_need_no_reward_model(
    build_workspace: Any, paper_rules: dict[str, Any]
) -> None:
    ws = build_workspace
    ws.add("你好", "zh", qwen=[{"text": "您好。"}])
    ws.add("再见", "zh", qwen=[{"text": "再", "finish": "length"}])
    context = ws.context(paper_rules)
    counts = build(context)
    sft, dpo, dropped = tables(context)
    assert [row.response for row in sft] == ["您好。"]
    assert dpo == []
    assert [row.reason for row in dropped] == ["no whole response"]
    assert counts["domains"]["zh"]["responses"] == {"whole": 1, "cut": 1, "empty": 0, "failed": 0}


def test_ties_go_to_the_source_that_the_recipe_names_first(
    build_workspace: Any, paper_rules: dict[str, Any]
) -> None:
    ws = build_workspace
    ws.add("tie", "math", qwen=verified("math", (0.2, 1)), gemma=verified("math", (0.2, 1)))
    context = ws.context(paper_rules)
    build(context)
    assert tables(context)[0][0].source == "gemma"
    ordered = dict(context.inputs)
    ordered["sample/gemma"] = ordered.pop("sample/gemma")  # now after qwen
    swapped = UnitContext(**{**vars(context), "inputs": ordered})
    build(swapped)
    assert tables(swapped)[0][0].source == "qwen"


def test_a_rule_uses_only_the_sources_that_it_names(
    build_workspace: Any, paper_rules: dict[str, Any]
) -> None:
    ws = build_workspace
    ws.add("one", "math", qwen=verified("math", (0.1, 1)), gemma=verified("math", (0.2, 1)))
    paper_rules["math"]["sources"] = ["qwen"]
    context = ws.context(paper_rules)
    counts = build(context)
    assert tables(context)[0][0].source == "qwen"
    assert counts["domains"]["math"]["responses"]["whole"] == 1


def test_what_could_not_be_judged_is_counted_and_never_picked(
    build_workspace: Any, paper_rules: dict[str, Any]
) -> None:
    ws = build_workspace
    rows = verified("math", (0.15, "unscorable"), ("error", 1), (0.1, 0))
    ws.add("odd", "math", gemma=rows)
    context = ws.context(paper_rules)
    counts = build(context)
    assert tables(context)[:2] == ([], [])
    math = counts["domains"]["math"]
    assert (math["unscorable"], math["errors"], math["no_score"]) == (1, 1, 0)
    assert math["dropped"] == {"no scored correct response": 1}


def test_a_prompt_of_a_domain_without_a_rule_is_dropped_with_that_reason(
    build_workspace: Any, paper_rules: dict[str, Any]
) -> None:
    build_workspace.add("stray", "law", gemma=rm(0.1))
    context = build_workspace.context(paper_rules)
    counts = build(context)
    (row,) = tables(context)[2]
    assert (row.stage, row.reason) == ("split", "no build rule for this domain")
    assert counts["domains"]["law"]["dropped"] == {"no build rule for this domain": 1}


def test_overlap_gives_both_rows_and_is_counted(
    build_workspace: Any, paper_rules: dict[str, Any]
) -> None:
    build_workspace.add("both", "code", gemma=verified("code", (0.9, 1), (0.1, 0)))
    paper_rules["code"]["split"]["allow_overlap"] = True
    context = build_workspace.context(paper_rules)
    counts = build(context)
    sft, dpo, dropped = tables(context)
    assert (len(sft), len(dpo), len(dropped)) == (1, 1, 0)
    assert counts["domains"]["code"]["in_both"] == 1


def random_workspace(ws: Any, seed: int) -> None:
    draw = random.Random(seed)
    for number in range(120):
        domain = draw.choice(["chat", "math", "code", "zh"])
        sources: dict[str, list[Any]] = {}
        for source in ("gemma", "qwen"):
            rows: list[dict[str, Any]] = [
                {
                    "rm": draw.choice([draw.randrange(30) / 100, "error"]),
                    "finish": draw.choice(["stop", "stop", "stop", "length"]),
                    "text": draw.choice(["a", "b", "c", "d"]) * 3,
                }
                for _ in range(draw.randrange(5))
            ]
            if domain in ("math", "code"):
                rows = [{**row, domain: draw.choice([0, 1, "unscorable"])} for row in rows]
            sources[source] = rows
        ws.add(f"prompt {number}", domain, origin=draw.choice(["a", "b"]), **sources)


@pytest.mark.parametrize("seed", range(3))
def test_every_prompt_ends_in_exactly_one_table_in_prompt_order(
    build_workspace: Any, paper_rules: dict[str, Any], seed: int
) -> None:
    random_workspace(build_workspace, seed)
    context = build_workspace.context(paper_rules)
    counts = build(context)
    ids = [prompt.id for prompt in build_workspace.prompts]
    ended = [[row.prompt_id for row in table] for table in tables(context)]
    assert sorted(chain(*ended)) == sorted(ids)
    for table in ended:
        assert table == [i for i in ids if i in set(table)]
    assert all(ended)
    for domain in counts["domains"].values():
        for part in (domain, *domain["origins"].values()):
            placed = part["sft_prompts"] + part["dpo_prompts"] - part["in_both"]
            assert part["prompts"] == placed + sum(part["dropped"].values())


@pytest.mark.parametrize("seed", range(3))
def test_rows_hold_the_methods_invariants_and_the_texts_of_their_responses(
    build_workspace: Any, paper_rules: dict[str, Any], seed: int
) -> None:
    random_workspace(build_workspace, seed)
    context = build_workspace.context(paper_rules)
    build(context)
    sft, dpo, _ = tables(context)
    responses = {r.id: r for rows in build_workspace.responses.values() for r in rows}
    value = {
        (s.response_id, name): s.value
        for name, all_ in build_workspace.scores.items()
        for s in all_
    }
    for row in sft:
        response = responses[row.response_id]
        assert (row.response, row.source) == (response.text, response.source)
        assert response.whole
        if row.domain in ("math", "code"):
            assert value[row.response_id, row.domain] == 1
    for pair in dpo:
        chosen, rejected = responses[pair.chosen_id], responses[pair.rejected_id]
        assert (pair.chosen, pair.rejected) == (chosen.text, rejected.text)
        assert chosen.prompt_id == rejected.prompt_id == pair.prompt_id
        assert chosen.source == rejected.source == pair.source
        assert pair.chosen != pair.rejected
        assert pair.domain != "zh"
        margin = pair.margin or 0.0
        assert margin == value[pair.chosen_id, "rm"] - value[pair.rejected_id, "rm"]
        if pair.domain in ("chat", "math"):
            assert 0.01 - 1e-8 <= margin <= 0.1 + 1e-8
        if pair.domain in ("math", "code"):
            assert margin > 0
            assert value[pair.chosen_id, pair.domain] == 1
            assert value[pair.rejected_id, pair.domain] == 0


def test_a_rebuild_writes_the_same_bytes(build_workspace: Any, paper_rules: dict[str, Any]) -> None:
    random_workspace(build_workspace, 7)
    context = build_workspace.context(paper_rules)

    def shards() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in sorted(context.folder.rglob("*.parquet"))}

    first = build(context), shards()
    assert (build(context), shards()) == first


def test_the_window_report_says_what_other_windows_would_have_kept(
    build_workspace: Any, paper_rules: dict[str, Any]
) -> None:
    for name, high in {"in": 0.15, "low": 0.105, "high": 0.3, "higher": 0.5}.items():
        build_workspace.add(name, "chat", gemma=rm(high, 0.1))
    counts = build(build_workspace.context(paper_rules))
    assert list(counts["window"]) == ["chat", "math"]  # code has no window, zh no pairs
    report = counts["window"]["chat"]
    quantiles = report.pop("gap_quantiles")
    assert report == {
        "min_margin": 0.01, "max_margin": 0.1,
        "pairs": 1, "without_min": 2, "without_max": 3, "without_window": 4,
    }  # fmt: skip
    # Gaps 0.005, 0.05, 0.2, 0.4: the nearest ranks of 0, 1/2 and 1.
    assert [quantiles[level] for level in ("0", "0.5", "1")] == pytest.approx([0.005, 0.2, 0.4])
    assert counts["window"]["math"]["gap_quantiles"] == {}


def test_scores_of_one_annotator_may_come_from_several_units(
    build_workspace: Any, paper_rules: dict[str, Any]
) -> None:
    ws = build_workspace
    ws.add("q", "chat", gemma=rm(0.15, 0.1))
    ws.scores["rm@qwen"] = []
    prompt = ws.prompts[0]
    ws._respond(prompt, "qwen", 0, {"rm": 0.25})
    ws._respond(prompt, "qwen", 1, {"rm": 0.2})
    ws.scores["rm@qwen"] = ws.scores["rm"][2:]
    ws.scores["rm"] = ws.scores["rm"][:2]
    paper_rules["chat"]["split"]["sft_share"] = 0
    context = ws.context(paper_rules)
    build(context)
    assert tables(context)[1][0].source == "qwen"


def test_a_build_without_any_response_drops_every_prompt(
    build_workspace: Any, paper_rules: dict[str, Any]
) -> None:
    build_workspace.add("silent", "chat")
    context = build_workspace.context(paper_rules)
    assert build(context)["domains"]["chat"]["dropped"] == {"no response": 1}


def test_the_index_of_the_samples_changes_no_byte(
    build_workspace: Any, paper_rules: dict[str, Any]
) -> None:
    random_workspace(build_workspace, 3)
    context = build_workspace.context(paper_rules)

    def shards() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in sorted(context.folder.rglob("*.parquet"))}

    build(context)
    without = shards()
    for name, unit in context.inputs.items():
        if name != "prompts":
            write_index(unit)
    build(context)
    assert shards() == without


def test_a_build_leaves_the_memory_of_arrow_as_it_found_it(
    build_workspace: Any, paper_rules: dict[str, Any]
) -> None:
    before = pa.default_memory_pool().backend_name
    random_workspace(build_workspace, 1)
    build(build_workspace.context(paper_rules))
    assert pa.default_memory_pool().backend_name == before


def test_the_details_of_a_drop_are_what_the_strategies_say_of_the_prompt(
    build_workspace: Any, paper_rules: dict[str, Any]
) -> None:
    random_workspace(build_workspace, 2)
    context = build_workspace.context(paper_rules)
    build(context)
    groups = {g.prompt_ids[n]: g.group(n) for g in blocks(context.inputs)
              for n in range(len(g.prompt_ids))}  # fmt: skip
    dropped = tables(context)[2]
    assert len(dropped) > 20
    for row in dropped:
        rule = context.settings.domains[row.domain]
        said = {t: s.select(groups[row.prompt_id]) for t, s in rule.strategies().items()}
        refused = {
            table: {"reason": one.reason, **one.details}
            for table, one in said.items()
            if isinstance(one, Refusal)
        }
        assert json.loads(row.details or "") == refused
