# ruff: noqa: E501 - messages are shown whole
"""Plans with sources that the recipe trains: order, keys, and recipes that cannot be."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from fusechat.planner import Plan, plan, wanted_units
from fusechat.recipe import load_cluster, load_recipe, read_recipe
from on_policy_world import CHAT, on_policy_recipe, tree_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("on-policy")
    on_policy_recipe(made)
    return made


def changed(**changes: Any) -> dict[str, Any]:
    """The recipe with some dotted keys (`build__chat__dpo`) set; None removes one."""
    tree = copy.deepcopy(tree_of())
    for dotted, value in changes.items():
        node = tree
        *way, last = dotted.split("__")
        for step in way:
            node = node.setdefault(step, {})
        node[last] = value
        if value is None:
            del node[last]
    return tree


def planned(folder: Path, **changes: Any) -> Plan:
    path = folder / "changed.yaml"
    path.write_text(yaml.safe_dump(changed(**changes), sort_keys=False))
    return plan(load_recipe(path), folder / "ws")


def faults(folder: Path, **changes: Any) -> list[str]:
    path = folder / "faulty.yaml"
    path.write_text(yaml.safe_dump(changed(**changes), sort_keys=False))
    _, found, _ = read_recipe(path)
    return [f"{fault.key}  {fault.message}" for fault in found]


def names(found: Plan) -> list[str]:
    return [unit.name for unit in found.units if not unit.name.startswith("select/")]


def test_a_trained_source_stands_between_the_two_trainings(folder: Path) -> None:
    found = planned(folder)
    assert names(found) == [
        "prompts", "sample/one", "sample/two", "annotate/length", "build", "train/sft",
        "sample/own", "annotate/length@own", "build/on_policy", "train/dpo",
    ]  # fmt: skip
    assert found["sample/own"].inputs == ("prompts", "build", "train/sft")
    assert found["annotate/length"].inputs == ("prompts", "sample/one", "sample/two")
    assert found["annotate/length@own"].inputs == ("prompts", "sample/own")
    assert found["build/on_policy"].inputs == (
        "prompts", "build", "sample/one", "sample/own", "sample/two", "annotate/length",
        "annotate/length@own",
    )  # fmt: skip
    assert found["train/sft"].inputs == ("build",)
    assert found["train/dpo"].inputs == ("build", "build/on_policy", "train/sft")


def test_every_unit_comes_after_its_inputs_and_no_folder_is_used_twice(folder: Path) -> None:
    units = planned(folder).units
    for number, unit in enumerate(units):
        assert set(unit.inputs) <= {other.name for other in units[:number]}
    assert len({unit.folder for unit in units}) == len(units)


def test_only_build_does_not_train(folder: Path) -> None:
    found = planned(folder)
    only = [unit.name for unit in wanted_units(found, "build")]
    assert only == ["prompts", "sample/one", "sample/two", "annotate/length", "build"]
    later = [unit.name for unit in wanted_units(found, "build/on_policy")]
    assert later == [name for name in names(found) if name != "train/dpo"]


def test_an_annotator_that_judges_none_of_its_domains_does_not_judge_a_trained_source(
    folder: Path,
) -> None:
    prompts = {
        "set": {"use": "files", "path": "prompts.jsonl", "domain": "chat"},
        "more": {"use": "files", "path": "prompts.jsonl", "domain": "zh"},
    }
    both = {"length": {}, "zh": {"use": "length", "domains": ["zh"]}}
    build = {
        "chat": CHAT,
        "zh": {"split": {"rule": "sft_only"}, "sft": {"use": "best_of", "by": "zh"}},
    }
    found = planned(folder, prompts=prompts, annotators=both, build=build)
    assert [n for n in names(found) if "@" in n] == ["annotate/length@own"]
    entry = found["sample/own"].settings
    assert entry.samples == {"chat": 3}  # of the domains whose rules ask it


def test_what_is_asked_of_the_triples_changes_no_key_before_them(folder: Path) -> None:
    before = {unit.name: unit.key for unit in planned(folder).units}
    margin = {
        unit.name: unit.key for unit in planned(folder, build__chat__dpo__min_margin=0.1).units
    }
    assert [name for name in names(planned(folder)) if before[name] != margin[name]] == [
        "build/on_policy", "train/dpo",
    ]  # fmt: skip
    samples = {unit.name: unit.key for unit in planned(folder, sources__own__samples=5).units}
    assert [name for name in names(planned(folder)) if before[name] != samples[name]] == [
        "sample/own", "annotate/length@own", "build/on_policy", "train/dpo",
    ]  # fmt: skip


def test_a_source_that_nothing_waits_for_leaves_the_plan_of_a_recipe_without_it(
    folder: Path,
) -> None:
    """`model: target` needs no training, and has the key of a model in that folder."""
    target = {"use": "hf", "model": "target", "max_new_tokens": 12}
    same = {**target, "model": "./model"}
    sft = {"sft": ["one", "two"]}
    one = planned(folder, sources__own=target, build__chat__sources=sft)
    other = planned(folder, sources__own=same, build__chat__sources=sft, build__chat__dpo={
        "use": "same_source_margin", "by": "length",
    }, train__dpo__loss={"use": "dpo"})  # fmt: skip
    assert names(one) == [
        "prompts", "sample/one", "sample/own", "sample/two", "annotate/length", "build",
        "train/sft", "train/dpo",
    ]  # fmt: skip
    assert one["sample/own"].key == other["sample/own"].key
    assert one["build"].settings == one.recipe.build


def test_a_place_for_an_annotator_holds_for_its_trained_sources_too(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text("units: {annotate/length: {processes: 3}, sample: {processes: 2}}")
    cluster = load_cluster(path)
    assert cluster.where("annotate/length@own").processes == 3
    assert cluster.where("sample/own").processes == 2


def test_sft_rows_that_need_the_model_they_train_are_a_fault_with_the_path(folder: Path) -> None:
    (found,) = faults(folder, build__chat__sources=["one", "own"])
    assert found == (
        "build.chat.sources  needs itself: build -> sample/own -> train/sft -> build. "
        "Name it for DPO alone: 'sources: {dpo: [own]}'."
    )
    (again,) = faults(folder, build__chat__sources={"sft": ["one", "own"]})
    assert again.startswith(
        "build.chat.sources.sft  needs itself: build -> sample/own -> train/sft"
    )


def test_preference_rows_that_need_the_fused_model_are_a_fault_with_the_path(folder: Path) -> None:
    (found,) = faults(folder, sources__own__model="train.dpo")
    assert found == (
        "build.chat.dpo.target  needs itself: build/on_policy -> sample/own -> select/dpo -> "
        "train/dpo -> build/on_policy. All rows are made before train.dpo; use 'model: train.sft'."
    )


PAIRS = {"use": "same_source_margin", "by": "length"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"build__chat__dpo": PAIRS, "train__dpo__loss": {"use": "dpo"}},
         "sources.own  no build rule asks for this trained source, so it would answer nothing. Name it in a rule: 'sources: {dpo: [own]}', or as 'target' of source_over_target."),
        ({"train__sft": None},
         "sources.own.model  there is no training 'sft'. Add it under train, or use 'target'."),
        ({"sources__own": {"use": "endpoint", "model": "train.sft", "base_url": "http://h:1/v1"}},
         "sources.own.model  'endpoint' takes the name of a model that others serve, and 'train.sft' is this recipe's own. Use hf or vllm."),
        ({"build__chat__split": {"rule": "pair_else_sft"}},
         "build.chat.split.rule  'pair_else_sft' does not go with a trained source: its pairs are made after the SFT training, so they cannot decide the split. Use filter_then_share, split_then_filter or dpo_only."),
        ({"train__dpo__loss": {"use": "dpo"}},
         "train.dpo.loss  'dpo' learns from Pair rows, but build.chat.dpo makes Triple rows. Use a loss for those, such as 'wrpo', or another strategy there."),
        ({"build__chat__dpo": PAIRS, "build__chat__sources": {"dpo": ["own"]}},
         "train.dpo.loss  'wrpo' learns from Triple rows, but build.chat.dpo makes Pair rows. Use a loss for those, such as 'dpo', or another strategy there."),
        ({"build__chat__dpo__target": "onw"},
         "build.chat.dpo.target  there is no source 'onw'. Did you mean 'own'?"),
        ({"sources__own__model": "./model", "build__chat__sources": {"sft": ["one"]}},
         "build.chat.dpo.target  the source 'own' is another model. Name one with 'model: train.sft' or 'model: target', or stored responses of the target ('use: given')."),
        ({"build__chat__sources": {"dpo": ["own"]}},
         "build.chat.dpo.target  there is no other source beside 'own'. Name one in sources."),
        ({"build__chat__sources": {"dop": ["own"]}},
         "build.chat.sources.dop  there is no strategy 'dop' here that could use them. Remove it."),
        ({"evaluate": {"tasks": [{"use": "mini_math"}], "models": ["own"]}},
         "evaluate.models.0  'own' is the model 'train.sft'. Name that one."),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_with_its_mend(
    folder: Path, changes: dict[str, Any], expected: str
) -> None:
    assert expected in faults(folder, **changes)


def test_domains_with_pairs_and_triples_cannot_be_trained_on_together(folder: Path) -> None:
    prompts = {
        "set": {"use": "files", "path": "prompts.jsonl", "domain": "chat"},
        "more": {"use": "files", "path": "prompts.jsonl", "domain": "math"},
    }
    build = {"chat": CHAT, "math": {**CHAT, "dpo": PAIRS}}
    found = faults(folder, prompts=prompts, build=build)
    assert [line.split("  ")[0] for line in found] == ["build.math.dpo.use"]
    assert "gives Pair rows and build.chat.dpo gives Triple rows" in found[0]


def test_a_trained_source_is_not_evaluated_beside_the_model_that_it_is(folder: Path) -> None:
    found = planned(folder, evaluate={"tasks": [{"use": "mini_math", "split": "test", "take": 2}]})
    models = {n.split("/")[2] for n in names(found) if n.endswith("/sample")}
    assert models == {"target", "train.sft", "train.dpo"}
