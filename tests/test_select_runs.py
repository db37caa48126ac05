"""Whole runs with tiny random models: sources' log-probabilities, a chosen state, and what
`train.dpo` then means."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.tiny_models import tiny_model

from fusechat.files import read_json, read_jsonl
from fusechat.planner import content_digest, plan
from fusechat.recipe import Cluster, load_recipe
from fusechat.records import SourceLogp
from fusechat.runner import Options, RunResult, run
from fusechat.tables import read_table
from running import finish, results

TOLD: dict[str, Any] = {"use": "told_sources:Told", "samples": 4, "dtype": "float32"}
PLACE = Cluster.model_validate({"default": {"device": "cpu", "processes": 1}})


class Lab:
    """A recipe over two tiny sources; every run goes on in the same workspace."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.models = {
            name: str(tiny_model(folder / name, family, seed))
            for seed, (name, family) in enumerate(
                {"target": "llama", "one": "qwen2", "two": "gemma2"}.items()
            )  # type: ignore[misc]
        }
        rows = [{"prompt": f"How many apples are {n} and 5?", "answer": str(n)} for n in range(12)]
        (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:4]))
        self.sources = {name: TOLD | {"model": self.models[name]} for name in ("one", "two")}

    def tree(self, **dpo: Any) -> dict[str, Any]:
        return {
            "name": "small",
            "target": {"model": self.models["target"]},
            "prompts": {"set": {"use": "files", "path": "prompts.jsonl", "domain": "chat"}},
            "sources": self.sources,
            "annotators": {"length": {}},
            "build": {
                "chat": {
                    "split": {"rule": "dpo_only"},
                    "dpo": {
                        "use": "same_source_margin", "by": "length", "min_margin": 0.001,
                        "max_margin": 1.0,
                    },
                }
            },
            "train": {
                "dpo": {
                    "global_batch_size": 4, "max_length": 200, "learning_rate": 0.01,
                    "save_steps": 1, "held_out": 0.4, **dpo,
                }
            },
        }  # fmt: skip

    def run(self, only: str | None = None, **dpo: Any) -> RunResult:
        path = self.folder / "r.yaml"
        path.write_text(yaml.safe_dump(self.tree(**dpo), sort_keys=False))
        recipe = load_recipe(path)
        return run(recipe, self.folder / "ws", cluster=PLACE, options=Options(only=only))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"))


def logps(result: RunResult, source: str) -> dict[str, SourceLogp]:
    folder = result[f"source_logps/{source}"].folder
    return {row.response_id: row for row in read_table(folder / "data", SourceLogp)}


INFIFPO = {"loss": {"use": "infifpo"}}


def test_infifpo_is_trained_on_what_the_sources_say_and_a_state_is_chosen(lab: Lab) -> None:
    result = lab.run(**INFIFPO)
    pairs = list(result["build"].rows("dpo"))
    assert len(pairs) > 8
    asked = {name for pair in pairs for name in (pair.chosen_id, pair.rejected_id)}
    for source in ("one", "two"):
        found = logps(result, source)
        assert found.keys() == asked
        assert {row.status for row in found.values()} == {"ok"}
        counts = result[f"source_logps/{source}"].manifest["counts"]
        assert counts["status"] == {"ok": len(asked)}
    counts = result["train/dpo"].manifest["counts"]
    assert counts["rows_with_sources"] == counts["rows"]
    lines = list(read_jsonl(result["train/dpo"].folder / "metrics.jsonl"))
    assert any(abs(line["source_shift_chosen"]) > 0 for line in lines)
    chosen = read_json(result["select/dpo"].folder / "chosen.json")
    total = counts["steps"]
    assert [one["step"] for one in chosen["candidates"]] == [total, total - 1]
    assert chosen["candidates"][0]["pairs"] == counts["held_out"]
    assert chosen["step"] in (total, total - 1)
    assert "Chosen checkpoint" in result.report.read_text()
    assert "How likely the sources find" in result.report.read_text()


def test_a_second_run_does_nothing_and_fewer_sources_ask_nobody_again(lab: Lab) -> None:
    lab.run(**INFIFPO)
    assert lab.run(**INFIFPO).ran == ()
    ran = lab.run(loss={"use": "infifpo", "sources": ["two"]}).ran
    assert ran == ("train/dpo", "select/dpo")


def test_a_renamed_source_takes_what_it_said_along(lab: Lab) -> None:
    before = logps(lab.run(**INFIFPO), "one")
    kept = lab.sources
    lab.sources = {"first": kept["one"], "two": kept["two"]}
    try:
        result = lab.run(only="source_logps/first", **INFIFPO)
    finally:
        lab.sources = kept
    found = logps(result, "first")
    assert result["source_logps/first"].manifest["counts"]["adopted"] == len(found)
    assert {row.source for row in found.values()} == {"first"}
    assert sorted(row.logp or 0 for row in found.values()) == sorted(
        row.logp or 0 for row in before.values()
    )


def test_a_task_compares_the_states_by_units_of_their_own(lab: Lab) -> None:
    task = {
        "use": "files", "path": "dev.jsonl", "domain": "math", "name": "dev",
        "graded_by": {"use": "length", "scale": 1000},
    }  # fmt: skip
    result = lab.run(select={"by": "task", "task": task})
    total = result["train/dpo"].manifest["counts"]["steps"]
    assert result["select/dpo/candidates"].manifest["counts"] == {"candidates": [total, total - 1]}
    models = {
        number: {row.model for row in result[f"select/dpo/dev/{number}/sample"].rows()}
        for number in (1, 2)
    }
    assert models == {1: {f"checkpoint-{total}"}, 2: {f"checkpoint-{total - 1}"}}
    chosen = read_json(result["select/dpo"].folder / "chosen.json")
    assert [one["tasks"]["dev"]["expected"] for one in chosen["candidates"]] == [4, 4]
    assert chosen["comparisons"][0]["n"] == 4
    assert "4 dev items" in chosen["reason"] or "On 4 dev items" in chosen["reason"]


def test_one_state_alone_is_sampled_for_nothing(lab: Lab) -> None:
    task = {
        "use": "files", "path": "dev.jsonl", "domain": "math", "name": "dev",
        "graded_by": {"use": "length", "scale": 1000},
    }  # fmt: skip
    result = lab.run(save_steps=50, select={"by": "task", "task": task})
    assert list(result["select/dpo/dev/1/sample"].rows()) == []
    assert list(result["select/dpo/dev/2/annotate"].rows()) == []
    assert "no checkpoint before its end" in result["select/dpo"].manifest["counts"]["reason"]


def test_train_dpo_means_the_chosen_state_wherever_a_model_is_named(lab: Lab) -> None:
    tree = lab.tree(select={"by": "last"})
    task = {"use": "files", "path": "dev.jsonl", "domain": "math", "split": "train"}
    tree["evaluate"] = {
        "tasks": [task | {"graded_by": {"use": "length", "scale": 1000}}],
        "models": ["train.dpo"], "max_new_tokens": 8, "dtype": "float32",
    }  # fmt: skip
    path = lab.folder / "e.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    planned = plan(load_recipe(path), lab.folder / "ws")
    assert "select/dpo" in planned["evaluate/files/train.dpo/sample"].inputs
    result = run(load_recipe(path), lab.folder / "ws", cluster=PLACE)
    assert len(list(result["evaluate/files/train.dpo/sample"].rows())) == 4
    assert (result["select/dpo"].folder / "README.md").exists()
    before = content_digest(result["select/dpo"].folder)
    (result["select/dpo"].folder / "model" / "config.json").unlink()
    with pytest.raises(Exception, match="bytes are not those"):
        run(load_recipe(path), lab.folder / "ws", cluster=PLACE,
            options=Options(refresh="evaluate/files/train.dpo/sample"))  # fmt: skip
    run(load_recipe(path), lab.folder / "ws", cluster=PLACE, options=Options(refresh="select/dpo"))
    assert content_digest(result["select/dpo"].folder) == before


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kills_while_sources_are_asked_and_a_state_is_chosen_leave_no_trace(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    task = {
        "use": "files", "path": "dev.jsonl", "domain": "math", "name": "dev",
        "graded_by": {"use": "length", "scale": 1000},
    }  # fmt: skip
    recipe = lab.folder / "r.yaml"
    tree = lab.tree(**INFIFPO, select={"by": "task", "task": task})
    recipe.write_text(yaml.safe_dump(tree, sort_keys=False))
    whole, broken = lab.folder / "whole", lab.folder / "broken"
    code, out = finish(recipe, whole, FUSECHAT_FAULT_LOG=str(lab.folder / "places"))
    assert code == 0, out
    places = (lab.folder / "places").read_text().split()
    assert {"select.candidates", "select.model.written", "train.model"} <= set(places)
    for place in (
        f"*:{places.index('train.dropped') - 12}",  # a source is asked
        "select.candidates.written:1", "select.candidates:1",
        "select.model.written:1", "select.model:1",
    ):  # fmt: skip
        code, out = finish(recipe, broken, FUSECHAT_KILL_AT=place)
        assert code == -signal.SIGKILL, f"{place}: {out}"
    code, out = finish(recipe, broken)
    assert code == 0, out
    assert results(broken) == results(whole)
    said = [next(ws.glob("select/dpo-*/chosen.json")).read_text() for ws in (whole, broken)]
    assert said[0] == said[1]
