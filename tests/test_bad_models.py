# ruff: noqa: E501 - messages are shown whole
"""Bad model folders, and prompts that a model cannot take: told before a run, or kept as errors."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from bad_lab import ECHO, GOOD, LENGTH, Lab
from fusechat.tables import read_dicts
from tiny_models import strip_template, tiny_model, tiny_reward_model


@pytest.fixture
def lab(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Lab:
    return Lab(tmp_path, capsys)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good and broken model folders."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("zoo")
    tiny_model(folder / "gemma", "gemma2")
    tiny_reward_model(folder / "reward", "llama")
    strip_template(tiny_model(folder / "base", "llama"))
    for name in ("bare", "weightless", "garbled"):
        tiny_model(folder / name, "llama")
    (folder / "bare" / "tokenizer.json").unlink()
    (folder / "weightless" / "model.safetensors").unlink()
    (folder / "garbled" / "config.json").write_text("{")
    (folder / "torn").mkdir()
    for path in (folder / "gemma").iterdir():
        (folder / "torn" / path.name).write_bytes(path.read_bytes())
    (folder / "torn" / "model.safetensors").write_bytes(b"torn" * 20)
    (folder / "empty").mkdir()
    return folder


FAULTS = [
    ("nowhere", "there is nothing at "),
    ("empty", "it has no config.json. Give the folder that save_pretrained() wrote."),
    ("bare", "has no tokenizer (no tokenizer.json or tokenizer.model). Put it there: "),
    (
        "base",
        "has no chat template. A base model has none: name the instruct model, or put its template there",
    ),
    ("weightless", "has no weights (*.safetensors). Copy the whole folder, or fetch it again."),
    ("garbled", "config.json is not JSON with a model's settings. Fetch it again."),
]


@pytest.mark.parametrize(("name", "message"), FAULTS)
def test_a_model_folder_that_lacks_something_is_refused_wherever_it_is_used(
    lab: Lab, zoo: Path, name: str, message: str
) -> None:
    model = zoo / name
    lab.recipe.write_text(
        GOOD.replace(ECHO, f"{{use: hf, model: {model}}}").replace(
            LENGTH, f"  length: {{use: reward_model, model: {model}}}"
        )
        + f"target: {{model: {model}}}\ntrain: {{sft: {{}}}}\n"
    )
    out = lab.refused()
    for place in (
        "r.yaml:5  sources.parrot.model  ",
        "r.yaml:7  annotators.length.model  ",
        "r.yaml:13  target.model  ",
    ):
        assert any(line.startswith(place) and message in line for line in out.splitlines()), out


def test_a_reward_model_cannot_answer_and_a_chat_model_cannot_judge(lab: Lab, zoo: Path) -> None:
    lab.recipe.write_text(
        GOOD.replace(ECHO, f"{{use: hf, model: {zoo}/reward}}").replace(
            LENGTH, f"  length: {{use: reward_model, model: {zoo}/gemma}}"
        )
        + f"target: {{model: {zoo}/reward}}\ntrain: {{sft: {{}}}}\n"
    )
    out = lab.refused()
    assert "sources.parrot.model  " in out
    assert (
        "reward (LlamaForSequenceClassification) is no chat model, and would answer at random. Give a causal language model."
        in out
    )
    assert "target.model  " in out
    assert (
        "gemma (Gemma2ForCausalLM) has no trained reward head. Give a sequence-classification model, not a chat model."
        in out
    )
    assert "3 faults; nothing was run." in out


def test_a_grader_that_lacks_its_model_is_a_fault_of_the_task(lab: Lab, zoo: Path) -> None:
    task = (
        f"{{use: files, path: prompts.jsonl, graded_by: {{use: reward_model, model: {zoo}/base}}}}"
    )
    lab.recipe.write_text(GOOD + f"target: {{model: {zoo}/gemma}}\nevaluate: {{tasks: [{task}]}}\n")
    assert "evaluate.tasks.0.graded_by.model  the tokenizer in" in lab.refused()


def test_prompts_that_a_model_cannot_take_are_kept_with_the_reason_and_the_others_answered(
    lab: Lab, zoo: Path
) -> None:
    """A system role where the template has none, and a prompt longer than the context (256)."""
    lab.write("prompts.jsonl", [
        {"prompt": "say one"}, {"prompt": "say two", "system": "be brief"}, {"prompt": "word " * 300},
    ])  # fmt: skip
    source = f"{{use: hf, model: {zoo}/gemma, samples: 2, max_new_tokens: 4}}"
    columns = ("domain: chat}", "domain: chat, columns: {system: system}}")
    lab.change((ECHO, source), columns)
    out = lab.run(code=1)
    assert "sample/parrot: 4 of 6 rows failed (66.7%, max_error_share is 1.0%)" in out
    assert (
        "gemma has no system role. Put the system text at the head of the user turn, or leave it out of the prompt set."
        in out
    )
    assert "tokens; the context of gemma is 256" in out
    rows = list(read_dicts(lab.unit("sample/parrot-*") / "data"))
    assert Counter(row["finish"] == "error" for row in rows) == {True: 4, False: 2}
    assert all(bool(row["error"]) == (row["finish"] == "error") for row in rows)
    lab.run("--set", "max_error_share=0.7")
    assert lab.counts("annotate/length-*")["status"].get("unscorable", 0) >= 4
    dropped = Counter(row["reason"] for row in read_dicts(lab.unit("build-*") / "dropped"))
    assert dropped["no whole response"] >= 2


def test_torn_weights_stop_the_source_with_the_folder_s_name(lab: Lab, zoo: Path) -> None:
    lab.change((ECHO, f"{{use: hf, model: {zoo}/torn, max_new_tokens: 4}}"))
    out = lab.run(code=1)
    assert f"the model {zoo}/torn cannot be loaded: " in out
    assert "Give a folder that save_pretrained() wrote" in out


def test_training_on_an_empty_set_says_why_it_is_empty(lab: Lab, zoo: Path) -> None:
    part = "{use: 'bad_parts:Unfinished', finish: length, text: cut, samples: 2}"
    lab.recipe.write_text(
        GOOD.replace(ECHO, part) + f"target: {{model: {zoo}/gemma}}\ntrain: {{sft: {{}}}}\n"
    )
    out = lab.run(code=1)
    assert "train/sft: the data set is empty, " in out
    assert "every dropped prompt stands in " in out
    assert lab.counts("build-*")["dropped"] == 3
