"""Exports of a whole run: the pool, LLaMA-Factory's sets, the model; each with its card."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from fusechat.cards.lineage import lineage
from fusechat.cli import main
from fusechat.exports.llamafactory import TAGS, template_of
from fusechat.planner import plan
from fusechat.recipe import load_recipe
from fusechat.runner import Options, RunResult, run, run_folder

RECIPE = """\
name: small
prompts:
  hello: {{use: files, path: prompts.jsonl, domain: chat, licence: mit}}
sources:
  one: {{use: given, path: one.jsonl, model: google/gemma-2-27b-it}}
  two: {{use: echo, samples: 2}}
annotators:
  length: {{scale: 10.0}}
build:
  chat:
    split: {{rule: filter_then_share, sft_share: 0.5}}
    sft: {{use: best_of, by: length}}
    dpo: {{use: same_source_margin, by: length, min_margin: 0.1, max_margin: 100}}
{more}
"""
LONG = "train: {dpo: {loss: length_normalized_dpo}}"
PLAIN = "train: {dpo: {loss: {use: dpo, beta: 0.05}, global_batch_size: 16}, sft: {}}"


def a_run(folder: Path, more: str = "") -> RunResult:
    """A run up to its build; training, where the recipe has it, is not done."""
    turns = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    prompts: list[Any] = [f"word{i}" for i in range(8)]
    prompts.append(turns)
    rows = [{"prompt": prompt} for prompt in prompts] + [{"prompt": "word0"}, {"other": 1}]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    stored = [
        {"prompt": prompt, "response": text}
        for prompt in prompts
        for text in ("a long enough answer", "short")
    ]
    (folder / "one.jsonl").write_text("".join(json.dumps(row) + "\n" for row in stored))
    (folder / "r.yaml").write_text(RECIPE.format(more=more))
    target = "" if not more else "target: {model: meta-llama/Llama-3.1-8B-Instruct}\n"
    text = (folder / "r.yaml").read_text()
    (folder / "r.yaml").write_text(target + text)
    recipe = load_recipe(folder / "r.yaml") if not more else _without_checks(folder / "r.yaml")
    return run(recipe, folder / "ws", options=Options(only="build"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    a_run(root)
    return root


@pytest.fixture
def lab(made: Path, tmp_path: Path) -> Path:
    """A copy of the run without training."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def result_of(folder: Path) -> RunResult:
    """The run of a folder, as it is there."""
    planned = plan(load_recipe(folder / "r.yaml"), folder / "ws")
    return RunResult(planned, run_folder(planned), ())


def _without_checks(path: Path) -> Any:
    """The recipe, though its target is not on this machine."""
    from fusechat.recipe import Recipe, read_recipe

    tree = yaml.safe_load(path.read_text())
    tree["annotators"]["length"]["use"] = "length"
    recipe, _, _ = read_recipe(path)
    assert isinstance(recipe, Recipe)
    return recipe


def exported(folder: Path, to: str, *more: str) -> int:
    call = ["export", str(folder / "out"), "--to", to, "--workspace", str(folder / "ws")]
    return main([*call, *more])


def rows_of(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(folder).to_pylist()
    return found


def test_the_pool_has_every_response_score_and_place_of_the_run(lab: Path) -> None:
    result = result_of(lab)
    assert exported(lab, "pool") == 0
    rows = rows_of(lab / "out" / "responses")
    made = [r for name in ("one", "two") for r in result[f"sample/{name}"].rows()]
    assert [(r["response_id"], r["text"], r["seed"], r["index"]) for r in rows] == [
        (r.id, r.text, r.seed, r.index) for r in made
    ]
    scores = {s.response_id: s for s in result["annotate/length"].rows()}
    for row in rows:
        (said,) = row["scores"]
        score = scores[row["response_id"]]
        assert (said["annotator"], said["value"]) == ("length", score.value)
        assert (said["status"], said["reason"]) == (score.status, score.reason)
        assert row["messages"][-1]["role"] == "user"
    sft = {row.response_id for row in result["build"].rows("sft")}
    pairs = list(result["build"].rows("dpo"))
    assert {r["response_id"] for r in rows if r["sft"]} == sft
    assert {r["response_id"] for r in rows if r["chosen"]} == {p.chosen_id for p in pairs}
    assert {r["response_id"] for r in rows if r["rejected"]} == {p.rejected_id for p in pairs}


def test_every_prompt_of_the_pool_says_where_it_went_and_each_drop_why(lab: Path) -> None:
    result = result_of(lab)
    assert exported(lab, "pool") == 0
    prompts = rows_of(lab / "out" / "prompts")
    counts = result["build"].manifest["counts"]
    placed = Counter(row["place"] for row in prompts)
    assert placed == {"sft": counts["sft"], "dpo": counts["dpo"]} | (
        {"dropped": counts["dropped"]} if counts["dropped"] else {}
    )
    assert all(row["reason"] for row in prompts if row["place"] == "dropped")
    left = rows_of(lab / "out" / "left_out")
    assert Counter(row["unit"] for row in left)["prompts"] == 2
    assert all(row["reason"] for row in left)
    assert not list((lab / "out").glob(".*"))


def test_a_pool_before_the_build_has_no_places(lab: Path) -> None:
    result = result_of(lab)
    (result["build"].folder / "manifest.json").unlink()
    assert exported(lab, "pool") == 0
    assert {row["place"] for row in rows_of(lab / "out" / "prompts")} == {None}


def test_datasets_loads_each_configuration_that_the_card_names(lab: Path) -> None:
    datasets = pytest.importorskip("datasets")
    assert exported(lab, "pool") == 0
    counts = {}
    for name in ("responses", "prompts", "left_out"):
        loaded = datasets.load_dataset(
            str(lab / "out"), name, split="train", cache_dir=str(lab / "cache")
        )
        counts[name] = len(loaded)
    assert counts == {"responses": 36, "prompts": 9, "left_out": 2}


def test_a_trl_export_has_a_card_with_its_licences(lab: Path) -> None:
    assert exported(lab, "trl") == 0
    card = (lab / "out" / "README.md").read_text()
    assert "Gemma Terms of Use" in card
    assert "`sft.parquet`" in card or "path: sft.parquet" in card
    assert "1 no prompt in the row" in card  # why a row of the set was dropped


def test_llamafactory_gets_sets_in_its_format_and_training_files(tmp_path: Path) -> None:
    result = a_run(tmp_path, PLAIN)
    assert exported(tmp_path, "llamafactory") == 0
    out = tmp_path / "out"
    info = json.loads((out / "dataset_info.json").read_text())
    assert info["small_dpo"] == {
        "file_name": "dpo.jsonl", "formatting": "sharegpt", "ranking": True,
        "columns": {"messages": "messages", "chosen": "chosen", "rejected": "rejected"},
        "tags": TAGS,
    }  # fmt: skip
    assert "ranking" not in info["small_sft"]
    training = yaml.safe_load((out / "dpo.yaml").read_text())
    assert (training["pref_loss"], training["pref_beta"]) == ("sigmoid", 0.05)
    assert (training["template"], training["gradient_accumulation_steps"]) == ("llama3", 16)
    assert training["model_name_or_path"] == "saves/sft"
    assert yaml.safe_load((out / "sft.yaml").read_text())["mask_history"] is True
    rows, left = (
        [json.loads(line) for line in (out / f"{name}.jsonl").read_text().splitlines()]
        for name in ("dpo", "left_out")
    )
    assert all(row["chosen"]["role"] == "assistant" for row in rows)
    sets = result["build"].manifest["counts"]
    sft = (out / "sft.jsonl").read_text().splitlines()
    assert len(rows) + len(sft) + len(left) == sets["sft"] + sets["dpo"]
    assert [row["reason"].split(",")[0] for row in left] == [
        "turns do not alternate between user and assistant"
    ]


def test_a_loss_that_llamafactory_does_not_know_is_refused_before_a_file_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a_run(tmp_path, LONG)
    assert exported(tmp_path, "llamafactory") == 2
    said = capsys.readouterr().err
    assert "'length_normalized_dpo' cannot be said in LLaMA-Factory" in said
    assert "sigmoid_norm (--to trl)" in said
    assert not (tmp_path / "out").exists()
    assert exported(tmp_path, "llamafactory", "--sft-only") == 0
    assert not (tmp_path / "out" / "dpo.jsonl").exists()
    assert (tmp_path / "out" / "sft.jsonl").exists()


def test_what_is_not_done_cannot_be_exported(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = result_of(lab)
    assert exported(lab, "model") == 2
    assert "no model of this run is trained" in capsys.readouterr().err
    (result["build"].folder / "manifest.json").unlink()
    assert exported(lab, "trl") == 2
    assert "build  is not done" in capsys.readouterr().err


def test_a_damaged_table_is_not_exported(lab: Path) -> None:
    result = result_of(lab)
    shard = result["build"].folder / "sft" / "00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-8])
    assert exported(lab, "trl") == 1


def test_the_model_is_copied_with_its_card_and_a_full_folder_is_refused(tmp_path: Path) -> None:
    from fusechat.exports.model import export_model
    from fusechat.files import write_json

    result = a_run(tmp_path, PLAIN)
    planned = result.plan
    for unit in ("train/sft", "train/dpo", "select/dpo"):
        folder = planned.path(planned[unit])
        (folder / "model").mkdir(parents=True)
        (folder / "model" / "config.json").write_text(f'{{"of": "{unit}"}}')
        (folder / "model" / "chat_template.jinja").write_text("{{ messages }}")
        counts = {"step": 400, "reason": "by rule"} if unit == "select/dpo" else {}
        write_json(folder / "manifest.json", {"counts": counts, "tables": {}, "libraries": {}})
    found = lineage(result.folder, tmp_path / "ws")
    unit, names = export_model(found, tmp_path / "m")
    assert (unit, names) == ("train/dpo", ["chat_template.jinja", "config.json"])
    assert json.loads((tmp_path / "m" / "config.json").read_text()) == {"of": "select/dpo"}
    card = (tmp_path / "m" / "README.md").read_text()
    assert "base_model_relation: finetune" in card
    assert "the state after step 400: by rule" in card
    export_model(found, tmp_path / "m")  # again: it is an export
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").write_text("keep")
    from fusechat.errors import RecipeError

    with pytest.raises(RecipeError, match="is not empty, and no export"):
        export_model(found, tmp_path / "mine")


@pytest.mark.parametrize(
    ("model", "template"),
    [("meta-llama/Llama-3.1-8B-Instruct", "llama3"), ("Qwen/Qwen2.5-7B-Instruct", "qwen"),
     ("google/gemma-2-9b-it", "gemma2"), ("mine", "default")],
)  # fmt: skip
def test_the_template_is_named_by_the_models_family(model: str, template: str) -> None:
    assert template_of(model) == template
