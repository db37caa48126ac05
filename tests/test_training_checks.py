"""Faults of what preference training asks for beside its rows, seen before anything runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.tiny_models import tiny_model

from fusechat.planner import plan
from fusechat.recipe import load_recipe, read_recipe
from fusechat.settings import settings_key


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model(tmp_path_factory.mktemp("model")))


def tree_of(folder: Path, model: str, dpo: dict[str, Any], **changes: Any) -> dict[str, Any]:
    (folder / "prompts.jsonl").write_text(json.dumps({"prompt": "Hi"}) + "\n")
    return {
        "name": "small",
        "target": {"model": model},
        "prompts": {"hello": {"use": "files", "path": "prompts.jsonl", "domain": "chat"}},
        "sources": {
            "one": {"use": "hf", "model": model, "samples": 2, "dtype": "float32"},
            "parrot": {"use": "echo", "samples": 2},
        },
        "annotators": {"length": {}},
        "build": {
            "chat": {
                "split": {"rule": "filter_then_share"},
                "sft": {"use": "best_of", "by": "length"},
                "dpo": {"use": "same_source_margin", "by": "length"},
            }
        },
        "train": {"dpo": dpo},
    } | changes


def faults(folder: Path, tree: dict[str, Any]) -> list[str]:
    path = folder / "r.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    _, found, _ = read_recipe(path)
    return [f"{fault.key}  {fault.message}" for fault in found]


def of(folder: Path, model: str, dpo: dict[str, Any], **changes: Any) -> list[str]:
    return faults(folder, tree_of(folder, model, dpo, **changes))


INFIFPO = {"loss": {"use": "infifpo"}}
MATH = {"use": "mini_math", "split": "dev", "take": 4}


def units(folder: Path, model: str, dpo: dict[str, Any]) -> dict[str, Any]:
    path = folder / "r.yaml"
    path.write_text(yaml.safe_dump(tree_of(folder, model, dpo), sort_keys=False))
    return {unit.name: unit for unit in plan(load_recipe(path), folder / "ws").units}


def test_sources_that_can_tell_are_asked_and_the_others_are_left_out(
    tmp_path: Path, model: str
) -> None:
    assert of(tmp_path, model, INFIFPO) == []
    found = units(tmp_path, model, INFIFPO)
    assert [name for name in found if name.startswith("source_logps/")] == ["source_logps/one"]
    assert "source_logps/one" in found["train/dpo"].inputs
    assert found["source_logps/one"].inputs == ("build",)


def test_a_named_source_that_cannot_tell_is_a_fault(tmp_path: Path, model: str) -> None:
    loss = {"use": "infifpo", "sources": ["one", "parrot", "nobody"]}
    found = of(tmp_path, model, {"loss": loss})
    assert [fault.split("  ")[0] for fault in found] == [
        "train.dpo.loss.sources.1", "train.dpo.loss.sources.2",
    ]  # fmt: skip
    assert "parrot: the source 'echo' cannot say how likely a text is" in found[0]
    assert "there is no source 'nobody'" in found[1]


def test_no_source_that_can_tell_is_a_fault_with_every_reason(tmp_path: Path, model: str) -> None:
    sources = {
        "parrot": {"use": "echo", "samples": 2},
        "far": {"use": "endpoint", "model": "m", "samples": 2},
    }
    (found,) = of(tmp_path, model, INFIFPO, sources=sources)
    assert found.startswith("train.dpo.loss  the loss 'infifpo' reads how likely the sources")
    assert "parrot: the source 'echo' cannot say" in found
    assert "far: the servers of 'm' are not asked for log-probabilities" in found


def test_a_loss_that_reads_no_source_asks_none(tmp_path: Path, model: str) -> None:
    found = units(tmp_path, model, {})
    assert not [name for name in found if name.startswith("source_logps/")]


def test_more_checkpoints_than_are_kept_is_a_fault(tmp_path: Path, model: str) -> None:
    (found,) = of(tmp_path, model, {"select": {"checkpoints": 4}})
    assert found.startswith("train.dpo.select.checkpoints  4 checkpoints are to be compared")
    assert of(tmp_path, model, {"select": {"checkpoints": 4}, "save_total_limit": 4}) == []
    assert of(tmp_path, model, {"select": {"checkpoints": 4, "by": "last"}}) == []


def test_states_of_adapters_that_trl_keeps_cannot_be_compared(tmp_path: Path, model: str) -> None:
    dpo: dict[str, Any] = {"engine": "trl", "lora": {"r": 2}, "loss": {"use": "dpo"}}
    found = of(tmp_path, model, dpo)
    assert any("TRL's checkpoints of adapters are no models" in fault for fault in found)
    assert of(tmp_path, model, dpo | {"select": {"by": "last"}}) == []


def test_choosing_by_pairs_that_are_not_held_out_is_a_fault(tmp_path: Path, model: str) -> None:
    (found,) = of(tmp_path, model, {"held_out": 0})
    assert found.startswith("train.dpo.held_out  held_out is 0")
    assert of(tmp_path, model, {"held_out": 0, "select": {"by": "last"}}) == []


@pytest.mark.parametrize(
    ("select", "message"),
    [
        ({"by": "task"}, "by: task needs one"),
        ({"task": MATH}, "'task' is only read with 'by: task'"),
        ({"by": "task", "task": [MATH, MATH]}, "the task 'mini_math' is there twice"),
        ({"by": "best"}, "held_out"),
        ({"by": "task", "task": {"use": "mini_math", "split": "devel"}}, "no split 'devel'"),
        ({"by": "task", "task": {"use": "files", "path": "prompts.jsonl"}}, "how it is graded"),
    ],
)
def test_a_choice_that_cannot_be_made_is_a_fault(
    select: dict[str, Any], message: str, tmp_path: Path, model: str
) -> None:
    found = of(tmp_path, model, {"select": select})
    assert len(found) == 1
    assert message in found[0]


def test_choosing_on_the_prompts_that_are_reported_is_a_fault(tmp_path: Path, model: str) -> None:
    select = {"by": "task", "task": {**MATH, "split": "test"}}
    reported = {"tasks": [{"use": "mini_math", "split": "test", "size": 200}]}
    (found,) = of(tmp_path, model, {"select": select}, evaluate=reported)
    assert found.startswith("train.dpo.select.task.split  evaluate.tasks.0 reports these very")
    select["task"] = MATH
    assert of(tmp_path, model, {"select": select}, evaluate=reported) == []


def test_what_a_state_is_chosen_by_trains_nothing_again(tmp_path: Path, model: str) -> None:
    one = units(tmp_path, model, {})
    other = units(tmp_path, model, {"select": {"by": "task", "task": MATH}})
    last = units(tmp_path, model, {"select": {"by": "last"}})
    assert one["train/dpo"].key == other["train/dpo"].key == last["train/dpo"].key
    assert len({found["select/dpo"].key for found in (one, other, last)}) == 3


def test_candidates_of_a_task_are_units_of_their_own(tmp_path: Path, model: str) -> None:
    found = units(tmp_path, model, {"select": {"by": "task", "task": MATH}})
    below = [name for name in found if name.startswith("select/")]
    assert below == [
        "select/dpo/candidates", "select/dpo/mini_math/prompts",
        "select/dpo/mini_math/1/sample", "select/dpo/mini_math/1/annotate",
        "select/dpo/mini_math/2/sample", "select/dpo/mini_math/2/annotate", "select/dpo",
    ]  # fmt: skip
    assert set(found["select/dpo"].inputs) == {"train/dpo", *below[:-1]}


def test_the_choice_itself_is_in_no_key_of_training_settings() -> None:
    from fusechat.stages.train_settings import DpoSettings

    assert settings_key(DpoSettings(select={"by": "last"})) == {}  # type: ignore[arg-type]
