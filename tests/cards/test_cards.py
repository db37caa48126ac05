"""Cards: front matter that the hub takes, true numbers, and nothing of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.report.workspace import whole_run

from fusechat.cards.data_card import Part, data_card
from fusechat.cards.lineage import Lineage, lineage, shown_name
from fusechat.cards.model_card import model_card, write_cards
from fusechat.cards.text import built_with, cell, licence_fields, shortened, table
from fusechat.digests import digest_path
from fusechat.unit_folders import made_tables

RECIPE = """\
name: fused
target: {model: meta-llama/Llama-3.1-8B-Instruct}
prompts:
  uf: {use: files, path: /home/someone/secret/prompts.jsonl, domain: chat, licence: mit}
sources:
  gemma:   {use: endpoint, model: google/gemma-2-27b-it, temperature: 0.8, samples: {chat: 5}}
  mistral: {use: endpoint, model: mistralai/Mistral-Large-Instruct-2407}
  qwen:    {use: endpoint, model: Qwen/Qwen2.5-72B-Instruct}
  llama:   {use: hf, model: /home/someone/secret/llama}
annotators:
  reward: {use: reward_model, model: RLHFlow/ArmoRM-Llama3-8B-v0.1}
build:
  math: {dpo: {use: correct_over_incorrect, by: reward, min_margin: 0.01}}
train:
  sft: {learning_rate: 5.0e-6}
  dpo: {learning_rate: 8.0e-7, loss: {use: length_normalized_dpo, beta: 10}}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(run folder, workspace) of a whole run."""
    root = tmp_path_factory.mktemp("cards")
    folder = whole_run(root)
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder, root


@pytest.fixture
def run(made: tuple[Path, Path]) -> Lineage:
    return lineage(*made)


def front_of(card: str) -> dict[str, Any]:
    head, _, _ = card.removeprefix("---\n").partition("\n---\n")
    found: dict[str, Any] = yaml.safe_load(head)
    return found


def test_the_hub_reads_a_models_card_with_its_results(run: Lineage) -> None:
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard(model_card(run, "train/dpo"))
    assert card.data.base_model == ["meta-llama/Llama-3.1-8B-Instruct"]
    assert card.data.base_model_relation == "finetune"
    assert card.data.library_name == "transformers"
    metrics = run.metrics()
    assert metrics is not None
    asked = {
        task: found["models"]["train.dpo"]["accuracy_strict"]
        for task, found in metrics["tasks"].items()
    }
    said = {one.dataset_name: one.metric_value for one in card.data.eval_results}
    assert said == {task: round(100 * value, 2) for task, value in asked.items()}


def test_the_hub_reads_a_data_sets_card(run: Lineage) -> None:
    hub = pytest.importorskip("huggingface_hub")
    part = Part("sft", "sft.parquet", 1234, "Rows.", {"messages": "the conversation"})
    card = hub.DatasetCard(data_card(run, "sets", [part]))
    assert card.data.size_categories == ["1K<n<10K"]
    assert card.data.task_categories == ["text-generation"]
    assert card.data.to_dict()["configs"] == [
        {"config_name": "sft", "default": True,
         "data_files": [{"split": "train", "path": "sft.parquet"}]},
    ]  # fmt: skip
    empty = Part("dpo", "dpo.parquet", 0, "Pairs.", {})
    front = front_of(data_card(run, "sets", [part, empty]))
    assert [one["config_name"] for one in front["configs"]] == ["sft"]  # the hub needs rows


def test_a_model_card_tells_sources_licences_counts_settings_and_results(run: Lineage) -> None:
    card = model_card(run, "train/dpo")
    for said in (
        "google/gemma-2-27b-it", "Mistral Research License", "**Built with Llama**.",
        "RLHFlow/ArmoRM-Llama3-8B-v0.1", "temperature 0.8", "learning_rate: `8e-07`",
        "| task | base | SFT | fused |", "arXiv:2503.04222", "Xiaojun Quan",
        "were not held against benchmarks", "Prompt sets: mit.",
    ):  # fmt: skip
        assert said in card, said
    build = run.counts("build")
    if build:
        assert f"{build['sft']:,}" in card


def test_no_card_names_a_folder_of_this_machine(run: Lineage, made: tuple[Path, Path]) -> None:
    part = Part("sft", "sft.parquet", 1, "Rows.", {})
    for card in (model_card(run, "train/sft"), data_card(run, "sets", [part])):
        assert "secret" not in card
        assert str(made[1]) not in card
        assert "path: .../prompts.jsonl" in card


def test_an_sft_card_says_nothing_of_preference_training(run: Lineage) -> None:
    card = model_card(run, "train/sft")
    assert "**train/dpo**" not in card
    assert "dpo" not in front_of(card)["tags"]
    said = front_of(card)["model-index"][0]["results"][0]["metrics"][0]["value"]
    metrics = run.metrics()
    assert metrics is not None
    first = next(iter(metrics["tasks"].values()))
    assert said == round(100 * first["models"]["train.sft"]["accuracy_strict"], 2)


def test_cards_stand_beside_every_model_and_change_no_digest(made: tuple[Path, Path]) -> None:
    folders = {name: path for name, path in lineage(*made).folders.items() if "train/" in name}
    for folder in folders.values():
        (folder / "model").mkdir(exist_ok=True)
        (folder / "model" / "weights").write_text("w")
    before = {name: made_tables(folder) for name, folder in folders.items()}
    digests = {name: digest_path(folder / "model") for name, folder in folders.items()}
    written = write_cards(*made)
    assert written == [folder / "README.md" for folder in folders.values()]
    assert len(written) == 2
    assert {name: made_tables(folder) for name, folder in folders.items()} == before
    assert {name: digest_path(folder / "model") for name, folder in folders.items()} == digests


def test_a_run_that_is_not_evaluated_has_a_card_without_results(
    made: tuple[Path, Path], run: Lineage
) -> None:
    manifests = {k: v for k, v in run.manifests.items() if not k.startswith("evaluate/")}
    early = Lineage(run.run, run.recipe, run.text, run.folders, manifests, run.environment)
    card = model_card(early, "train/dpo")
    assert "was not evaluated in this run" in card
    assert "model-index" not in front_of(card)


def test_one_tag_only_where_all_models_have_that_licence(run: Lineage) -> None:
    by_name = {one.name: one for one in run.sources()}
    target = run.target()
    assert target is not None
    assert licence_fields([target]) == {"license": "llama3.1"}
    mixed = licence_fields([target, by_name["gemma"]])
    assert mixed == {"license": "other", "license_name": "see-the-licence-table"}
    assert by_name["llama"].licence is None  # a folder without a card: not guessed
    assert licence_fields([by_name["llama"]])["license"] == "other"
    assert built_with([by_name["gemma"]]) == ""
    assert "Built with Llama" in built_with([target])


def test_paths_lose_what_tells_of_a_machine_and_addresses_stay() -> None:
    assert shortened("model: /home/me/zoo/target") == "model: .../target"
    assert shortened("{a: /x/y/z.jsonl, b: '/p/q'}") == "{a: .../z.jsonl, b: '.../q'}"
    for text in ("url: https://host/v1/chat", "model: org/name", "../zoo/target", "1/2/3"):
        assert shortened(text) == text
    assert shown_name("/home/me/zoo/target") == "target"
    assert shown_name("../zoo/target") == "target"
    assert shown_name("google/gemma-2-27b-it") == "google/gemma-2-27b-it"


def test_a_cell_cannot_end_its_row_or_begin_markup() -> None:
    assert cell("a|b\nc <script>") == "a\\|b c &lt;script>"
    assert cell(1234567) == "1,234,567"
    assert cell(None) == "–"
    assert table(("x", "y"), [(1, "a|b")]) == "| x | y |\n|---|---|\n| 1 | a\\|b |"
