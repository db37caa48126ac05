"""What other rules would give: what a build of them gives, without writing anything."""

from __future__ import annotations

import random
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from fusechat.commands_what_if import lines
from fusechat.stages.build import build
from fusechat.stages.build_settings import BuildSettings
from fusechat.stages.what_if import NOW, what_if, without_sources
from fusechat.tables import read_dicts


def chat(**dpo: Any) -> dict[str, Any]:
    window = {"min_margin": 0.01, "max_margin": 0.1}
    return {
        "split": {"rule": "filter_then_share", "sft_share": 0.4},
        "sft": {"use": "best_of", "by": "rm"},
        "dpo": {"use": "same_source_margin", "by": "rm", **window, **dpo},
    }


def fill(space: Any, seed: int = 0, prompts: int = 60) -> None:
    draw = random.Random(seed)
    for number in range(prompts):
        domain = draw.choice(["chat", "chat", "math"])
        sources = {
            source: [{"rm": draw.randrange(40) / 100, "math": draw.randrange(2)} for _ in range(3)]
            for source in ("gemma", "qwen")
        }
        space.add(f"prompt {number}", domain, origin=draw.choice("ab"), **sources)


def rules(paper: Mapping[str, Any], **chat_dpo: Any) -> dict[str, Any]:
    return {"chat": chat(**chat_dpo), "math": deepcopy(paper["math"])}


def asked(context: Any, now: Any, **variants: Any) -> dict[str, Any]:
    others = {name: BuildSettings.model_validate(tree) for name, tree in variants.items()}
    before = sorted(path for path in context.folder.parent.rglob("*"))
    found = what_if(context.inputs, BuildSettings.model_validate(now), others)
    assert sorted(path for path in context.folder.parent.rglob("*")) == before, "it wrote something"
    return found


def rows(folder: Path, table: str) -> dict[str, Any]:
    return {row["prompt_id"]: row for row in read_dicts(folder / table)}


def test_both_sides_are_what_builds_of_them_give(
    build_workspace: Any, paper_rules: dict[str, Any]
) -> None:
    fill(build_workspace)
    now, then = rules(paper_rules), rules(paper_rules, max_margin=0.2, min_margin=0.05)
    context = build_workspace.context(now)
    found = asked(context, now, other=then)
    assert found["unchanged"] == ["math"]
    part = found["domains"]["chat"]
    tables: dict[str, Any] = {}
    for name, tree in ((NOW, now), ("other", then)):
        context = build_workspace.context(tree)
        counts = build(context)["domains"]["chat"]
        said = part["yields"][name]
        for key in ("prompts", "sft", "dpo", "sft_prompts", "dpo_prompts"):
            assert said[key] == counts[key]
        assert said["dpo_sources"] == counts["dpo_sources"]
        assert said["dropped"] == sum(counts["dropped"].values())
        assert sum(said["dropped_words"].values()) == said["dropped"]
        kept = {t: rows(context.folder, t) for t in ("sft", "dpo", "dropped")}
        tables[name] = {
            t: {i: r for i, r in found.items() if r["domain"] == "chat"}
            for t, found in kept.items()
        }
        margins = sorted(row["margin"] for row in tables[name]["dpo"].values())
        middle = len(margins) // 2
        median = margins[middle] if len(margins) % 2 else sum(margins[middle - 1 : middle + 1]) / 2
        assert said["median_margin"] == pytest.approx(median)
    check_changes(part["changes"]["other"], tables[NOW], tables["other"])


def check_changes(changes: Mapping[str, Any], old: Any, new: Any) -> None:
    """Against the rows themselves."""
    names = {"sft": "SFT", "dpo": "DPO", "dropped": "dropped"}
    moved = {
        f"{names[a]} -> {names[b]}": len(set(old[a]) & set(new[b]))
        for a in names
        for b in names
        if a != b and set(old[a]) & set(new[b])
    }
    assert changes["moved"] == moved
    assert moved, "the two rules are too alike for this test"
    both = set(old["dpo"]) & set(new["dpo"])
    ids = ("chosen_id", "rejected_id")
    other = [i for i in both if any(old["dpo"][i][k] != new["dpo"][i][k] for k in ids)]
    assert (changes["dpo_in_both"], changes["dpo_other"]) == (len(both), len(other))
    assert other, "no pair has other responses, so the count is not tested"
    stay = set(old["sft"]) & set(new["sft"])
    assert (changes["sft_in_both"], changes["sft_other"]) == (len(stay), 0)


def test_a_rule_that_is_written_otherwise_but_means_the_same_moves_nothing(
    build_workspace: Any, paper_rules: dict[str, Any]
) -> None:
    fill(build_workspace)
    now = rules(paper_rules)
    same = deepcopy(now)
    same["chat"]["sources"] = ["qwen", "gemma"]  # all of them
    part = asked(build_workspace.context(now), now, same=same)["domains"]["chat"]
    assert part["yields"]["same"] == part["yields"][NOW]
    changes = part["changes"]["same"]
    assert (changes["moved"], changes["sft_other"], changes["dpo_other"]) == ({}, 0, 0)


def test_where_no_rule_changes_nothing_is_decided(
    build_workspace: Any, paper_rules: dict[str, Any]
) -> None:
    fill(build_workspace, prompts=5)
    now = rules(paper_rules)
    found = asked(build_workspace.context(now), now, same=now)
    assert found["domains"] == {}
    assert set(found["unchanged"]) == {"chat", "math"}


def test_sources_are_left_out_of_every_rule_and_an_unused_one_changes_nothing(
    build_workspace: Any, paper_rules: dict[str, Any]
) -> None:
    fill(build_workspace)
    now = rules(paper_rules)
    now["math"]["sources"] = ["gemma"]
    context = build_workspace.context(now)
    plain = BuildSettings.model_validate(now)
    found = what_if(
        context.inputs, plain, {name: without_sources(plain, (name,)) for name in ("gemma", "qwen")}
    )
    math, both = found["domains"]["math"], found["domains"]["chat"]
    assert math["yields"]["gemma"] == math["yields"][NOW]  # qwen gave nothing to it
    assert math["yields"]["qwen"]["dropped_words"] == {
        "no response": math["yields"][NOW]["prompts"]
    }
    assert set(both["yields"]["qwen"]["dpo_sources"]) == {"qwen"}
    sides = [both["yields"][name]["dpo_sources"] for name in (NOW, "gemma")]
    assert sides[1]["gemma"] > sides[0]["gemma"] > 0


def test_a_domain_that_loses_its_rule_drops_its_prompts_for_that(
    build_workspace: Any, paper_rules: dict[str, Any]
) -> None:
    fill(build_workspace)
    now = rules(paper_rules)
    part = asked(build_workspace.context(now), now, less={"math": now["math"]})["domains"]["chat"]
    prompts = part["yields"][NOW]["prompts"]
    assert part["yields"]["less"]["dropped_words"] == {"no rule": prompts}
    changes = part["changes"]["less"]["moved"]
    assert sum(changes.values()) + part["yields"][NOW]["dropped"] == prompts


def test_several_pairs_of_a_prompt_are_compared_as_a_set(
    build_workspace: Any, paper_rules: dict[str, Any]
) -> None:
    far = [{"rm": 0.5}, {"rm": 0.1}]
    build_workspace.add("q", "chat", gemma=[{"rm": 0.15}, {"rm": 0.1}], qwen=far)
    now = {"chat": chat(pairs_per_prompt="per_source")}
    now["chat"]["split"]["sft_share"] = 0
    then = deepcopy(now)
    then["chat"]["dpo"]["max_margin"] = 0.5
    part = asked(build_workspace.context(now), now, wide=then)["domains"]["chat"]
    assert [part["yields"][name]["dpo"] for name in (NOW, "wide")] == [1, 2]
    assert part["changes"]["wide"] == {
        "moved": {}, "sft_in_both": 0, "sft_other": 0, "dpo_in_both": 1, "dpo_other": 1,
    }  # fmt: skip


def test_a_window_that_a_build_would_refuse_is_shown_with_the_reason(
    build_workspace: Any, paper_rules: dict[str, Any]
) -> None:
    fill(build_workspace)
    now = rules(paper_rules)
    context = build_workspace.context(now)
    far = asked(context, now, far=rules(paper_rules, min_margin=5.0, max_margin=6.0))
    part = far["domains"]["chat"]["yields"]
    assert part[NOW]["window"] == {"min_margin": 0.01, "max_margin": 0.1, "fault": ""}
    assert "100.0% below" in part["far"]["window"]["fault"]
    assert part["far"]["dpo"] == 0
    text = "\n".join(lines(far))
    assert "far: a build would refuse this window: of " in text
    assert "5..6" in text
