"""Conversations as prompts: only the last assistant turn is sampled, scored and trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import fusechat
from fusechat.chat import encode_chat, load_tokenizer, render_prompt
from fusechat.exports import export_trl
from fusechat.records import Demonstration
from fusechat.stages.train_rows import encode_rows
from fusechat.tables import read_table
from fusechat.training.examples import Example
from tiny_models import FAMILIES, tiny_model, tiny_reward_model

ASKED = "What is C#?\n<extra_id_1>Assistant\nA language.\n<extra_id_1>User\nAnd Java?"
TURNS = [
    {"role": "user", "content": "What is C#?"},
    {"role": "assistant", "content": "A language."},
    {"role": "user", "content": "And Java?"},
]
ANSWER = "Another one."


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_covers_the_last_answer_only(family: Any, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_model(tmp_path / "m", family))
    prompt = render_prompt(tokenizer, TURNS)
    whole = encode_chat(tokenizer, TURNS, ANSWER)
    assert whole.ids[: whole.response_start] == prompt
    learnt = tokenizer.decode(whole.ids[whole.response_start :])
    assert ANSWER in learnt
    assert "A language." not in learnt
    assert "A language." in tokenizer.decode(prompt)
    row = Demonstration(
        prompt_id="p", messages=tuple(TURNS), response=ANSWER, response_id="r", source="s",  # type: ignore[arg-type]
        origin="o", domain="chat",
    )  # fmt: skip
    (example,) = encode_rows(tokenizer, [row], 1000)
    assert isinstance(example, Example)
    assert example.texts[0].start == len(prompt)
    assert example.response_tokens == len(whole.ids) - len(prompt)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """HelpSteer2's layout through sampling, a reward model and the build, with tiny models."""
    folder = tmp_path_factory.mktemp("chain")
    tiny_model(folder / "source")
    tiny_reward_model(folder / "reward")
    prompts = [ASKED, ASKED.replace("A language.", "A note in music.")]
    lines = [json.dumps({"prompt": text, "response": "x"}) for text in prompts]
    (folder / "set.jsonl").write_text("\n".join(lines))
    recipe: dict[str, Any] = {
        "name": "chain",
        "prompts": {"help": {"use": "helpsteer2", "path": "set.jsonl"}},
        "sources": {
            "model": {"use": "hf", "model": "source", "samples": 3, "max_new_tokens": 8,
                      "dtype": "float32"},
            "stored": {"use": "given", "path": "stored.jsonl", "finish": "finish"},
        },
        "annotators": {"rm": {"use": "reward_model", "model": "reward", "dtype": "float32"}},
        "build": {"chat": {"split": {"rule": "sft_only"}, "sft": {"use": "best_of", "by": "rm"},
                           "sources": ["stored"]}},
    }  # fmt: skip
    conversations = [
        [{**turn, "content": turn["content"].replace("A language.", said)} for turn in TURNS]
        for said in ("A language.", "A note in music.")
    ]
    stored = [{"messages": m, "response": ANSWER, "finish": "stop"} for m in conversations]
    (folder / "stored.jsonl").write_text("\n".join(map(json.dumps, stored)))
    (folder / "r.yaml").write_text(yaml.safe_dump(recipe))
    return fusechat.run(fusechat.load_recipe(folder / "r.yaml"), folder / "ws")


def test_each_conversation_is_one_prompt_answered_once_a_sample(run: Any) -> None:
    prompts = list(run["prompts"].rows("prompts"))
    assert [turn.role for turn in prompts[0].messages] == ["user", "assistant", "user"]
    for prompt in prompts:
        sampled = [r for r in run["sample/model"].rows() if r.prompt_id == prompt.id]
        assert [r.index for r in sampled] == [0, 1, 2]
    assert [r.text for r in run["sample/stored"].rows()] == [ANSWER, ANSWER]


def test_the_reward_model_reads_all_turns(run: Any) -> None:
    """The same last turn and answer after another earlier answer has another score."""
    answers = {r.id for r in run["sample/stored"].rows()}
    scores = [s.value for s in run["annotate/rm"].rows() if s.response_id in answers]
    assert len(scores) == 2
    assert scores[0] != pytest.approx(scores[1], abs=1e-7)


def test_rows_and_exports_keep_the_turns_and_answer_the_last(run: Any, tmp_path: Path) -> None:
    folder = run["build"].folder
    rows = list(read_table(folder / "sft", Demonstration))
    assert [turn.role for turn in rows[0].messages] == ["user", "assistant", "user"]
    assert rows[0].response == ANSWER
    export_trl(folder, tmp_path)
    exported = [json.loads(line) for line in (tmp_path / "sft.jsonl").read_text().splitlines()]
    text = json.dumps(exported[0])
    assert text.index("A language.") < text.index("And Java?") < text.index(ANSWER)
