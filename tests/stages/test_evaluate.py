from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError
from tests.stages.evaluated import End, World

from fusechat import tables
from fusechat.errors import PartError
from fusechat.records import Score
from fusechat.stages.evaluate import EvaluateSettings, format_table, pairs_to_compare


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_every_item_ends_in_the_outcome_that_its_response_and_score_say(world: World) -> None:
    ends: list[End] = [
        1.0,
        0.0,
        "cut",
        "empty",
        "no gold",
        "crash",
        "failed",
        "missing",
        "unjudged",
    ]
    world.answers("gsm", "target", ends)
    counts, metrics = world.compare()
    outcomes = [item.outcome for item in world.items()]
    assert outcomes == ["scored"] * 2 + ["cut", "empty", "unscorable"] + ["error"] * 4
    entry = metrics["tasks"]["gsm"]["models"]["target"]
    assert (entry["scored"], entry["expected"]) == (2, 9)
    assert (entry["unscorable"], entry["errors"]) == (3, 4)
    assert (entry["cut"], entry["empty"]) == (1, 1)
    assert entry["accuracy"] == 0.5
    assert entry["accuracy_strict"] == 0.25
    assert entry["reasons"]["the response was cut at the token limit"] == 1
    assert sum(entry["reasons"].values()) == 7
    assert counts["items"] == 9
    assert (counts["scored"], counts["error"]) == (2, 4)


def test_a_cut_response_that_the_annotator_judged_all_the_same_keeps_its_value(
    world: World, tmp_path: Path
) -> None:
    world.answers("gsm", "target", ["cut"])
    folder = world.inputs["evaluate/gsm/target/annotate"] / "data"
    (score,) = tables.read_table(folder, Score)
    judged = score.model_copy(update={"status": "ok", "value": 1.0})
    tables.write_table(folder, [judged], Score)
    _, metrics = world.compare()
    assert metrics["tasks"]["gsm"]["models"]["target"]["accuracy"] == 1.0


def test_differences_are_paired_on_the_same_items_and_strict(world: World) -> None:
    world.answers("gsm", "target", [1.0, 0.0, 0.0, "crash"])
    world.answers("gsm", "train.sft", ["cut", 1.0, 1.0, 1.0])
    _, metrics = world.compare()
    (found,) = metrics["tasks"]["gsm"]["differences"]
    assert (found["model"], found["against"], found["n"]) == ("train.sft", "target", 3)
    assert found["difference"] == pytest.approx(1 / 3)  # -1, +1, +1
    assert found["low"] < found["difference"] < found["high"]


def test_the_best_source_is_by_the_strict_average_over_tasks(world: World) -> None:
    for task, gemma, llama in (
        ("gsm", [1.0, 1.0, 0.0, 0.0], [1.0, "cut", "cut", "cut"]),
        ("code", [1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]),
    ):
        world.answers(task, "train.dpo", [1.0, 1.0, 1.0, 0.0])
        world.answers(task, "gemma", gemma)
        world.answers(task, "llama", llama)
    _, metrics = world.compare()
    averages = metrics["average"]["models"]
    assert averages["llama"]["accuracy"] == 0.625 > averages["gemma"]["accuracy"]
    assert metrics["best_source"] == "gemma"
    (found,) = metrics["average"]["differences"]
    assert (found["model"], found["against"]) == ("train.dpo", "gemma")
    assert found["difference"] == pytest.approx((0.25 + 0.5) / 2)
    assert found["n"] == 8


def test_a_model_without_a_scored_item_has_no_accuracy_and_no_average(world: World) -> None:
    world.answers("gsm", "target", ["crash", "failed"])
    world.answers("code", "target", [1.0, 1.0])
    _, metrics = world.compare()
    entry = metrics["tasks"]["gsm"]["models"]["target"]
    assert entry["accuracy"] is None
    assert entry["accuracy_missing"] == "none of 2 items was scored"
    average = metrics["average"]["models"]["target"]
    assert average["accuracy"] is None
    assert average["accuracy_missing"] == "1 tasks have no accuracy"


def test_lengths_count_the_responses_that_there_are(world: World) -> None:
    world.answers("gsm", "target", [1.0, "failed", "cut"])
    _, metrics = world.compare()
    entry = metrics["tasks"]["gsm"]["models"]["target"]
    assert (entry["mean_tokens"], entry["mean_characters"]) == (5.0, 10.0)


def test_two_responses_to_one_prompt_are_refused(world: World) -> None:
    world.answers("gsm", "target", [1.0], copies=2)
    with pytest.raises(PartError, match="more than one response"):
        world.compare()


def test_a_score_on_another_scale_than_zero_to_one_is_refused(world: World) -> None:
    world.answers("gsm", "target", [7.5])
    with pytest.raises(PartError, match=r"gsm/target/annotate holds the score 7\.5"):
        world.compare()


def test_the_same_units_give_the_same_metrics_bytes(world: World) -> None:
    for model in ("target", "train.sft", "gemma"):
        world.answers("gsm", model, [1.0, 0.5, "cut", 0.0])
    _, first = world.compare()
    _, second = world.compare()
    assert json.dumps(first) == json.dumps(second)
    assert "paired bootstrap" in first["method"]


def test_all_five_comparisons_are_made_where_all_models_are_there() -> None:
    models = ["target", "train.sft", "train.dpo", "gemma", "llama"]
    assert pairs_to_compare(models, "llama") == [
        ("train.sft", "target"), ("train.dpo", "train.sft"), ("train.dpo", "target"),
        ("train.dpo", "llama"), ("train.sft", "llama"),
    ]  # fmt: skip
    assert pairs_to_compare(["target", "gemma"], "gemma") == []


def test_the_terminal_table_can_be_made_of_the_metrics(world: World) -> None:
    world.answers("gsm", "target", [0.0] * 30)
    world.answers("gsm", "train.sft", [1.0] * 30)
    _, metrics = world.compare()
    text = format_table(metrics, 80)
    assert "SFT − base" in text
    assert "▲ +100.0" in text
    assert "average" not in text


def test_an_entry_of_tasks_takes_the_parts_own_settings_beside_its_own(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text("{}\n")
    entry = {"use": "files", "path": "p.jsonl", "name": "mine", "split": "test", "take": 150}
    settings = EvaluateSettings.model_validate({"tasks": [entry]}, context={"base": tmp_path})
    (task,) = settings.tasks
    assert (task.name, task.split, task.take) == ("mine", "test", 150)
    assert task.task.part_name() == "files"
    assert settings.max_new_tokens == 2048


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tasks": [], "models": None}, "name at least one task"),
        ({"tasks": [{"use": "filse", "path": "x"}]}, "Did you mean 'files'"),
        ({"tasks": [{"use": "files", "path": "x"}] * 2}, "'files' is there twice"),
        ({"models": ["target", "target"]}, "'target' is there twice"),
        ({"tasks": [{"use": "files", "path": "x", "name": "a/b"}]}, "match pattern"),
    ],
)
def test_a_wrong_entry_is_a_fault_that_names_the_mend(changes: dict, words: str) -> None:
    made = {"tasks": [{"use": "files", "path": "x"}]} | changes
    with pytest.raises(ValidationError, match=words):
        EvaluateSettings.model_validate(made)
