"""The scripted judge: every format that the benchmarks' judges are asked for, and its faults."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from chat_cases import response
from fusechat.miniature.judge import ScriptedJudge, worth
from fusechat.parts import Where, load_part
from fusechat.records import Prompt, Request, Response
from fusechat.tasks._alpaca_files import chance_of_first
from fusechat.tasks._chat_rubric import FRAME, scores_of
from fusechat.tasks.mt_bench import MTBench, rating_of

RICH = " ".join(f"word{number}" for number in range(90))
POOR = "word word word"
ARENA = (
    "Q\n<|The Start of Assistant A's Answer|>\n{}\n<|The End of Assistant A's Answer|>\n"
    "<|The Start of Assistant B's Answer|>\n{}\n<|The End of Assistant B's Answer|>"
)
ALPACA = (
    '{{\n "model_identifier": "m",\n "output": """{}"""\n}},\n'
    '{{\n "model_identifier": "M",\n "output": """{}"""\n}}\n## Task\nName the best: m or M.'
)


def ask(chat: Sequence[dict[str, str]] | str, **settings: Any) -> Response:
    judge = ScriptedJudge(**settings)
    prompt = Prompt.of(chat, domain="judge")
    request = Request(
        prompt=prompt, source="judge", index=0, seed=1, model=judge.served_model(), made_from="x"
    )
    with judge.open(Where()) as work:
        (answer,) = work(iter([request]))
    return answer


def chat(system: str, user: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def test_a_response_is_worth_its_different_words() -> None:
    assert worth(POOR) == 1 / 80
    assert worth(RICH) == 1.0
    assert worth("") == 0.0


@pytest.mark.parametrize(
    ("first", "second", "label"),
    [(RICH, POOR, "A>>B"), (POOR, RICH, "B>>A"), (POOR, POOR, "A=B"),
     (" ".join(RICH.split()[:20]), POOR, "A>B")],
)  # fmt: skip
def test_it_labels_the_richer_of_two_places(first: str, second: str, label: str) -> None:
    found = ask(chat("Say [[A>>B]] to [[B>>A]].", ARENA.format(first, second)))
    assert f"[[{label}]]" in found.text
    assert found.model == "scripted-judge"


def test_it_rates_the_last_answer_of_a_real_judge_prompt(shared_data: Path) -> None:
    task = MTBench(data_dir=str(shared_data))
    first = next(iter(task.prompts("test")))
    assert isinstance(first, Prompt)
    later = Prompt.of(
        [*first.chat(), {"role": "assistant", "content": RICH}, {"role": "user", "content": "?"}],
        domain="writing",
    )
    for prompt, text, rating in ((first, RICH, 10), (first, POOR, 1), (later, POOR, 1)):
        (question,) = task.questions(prompt, response(prompt, text))
        assert rating_of(ask([dict(turn) for turn in question.messages]).text) == rating


def test_it_fills_the_dictionary_of_alignbench_with_the_dimensions_asked_for() -> None:
    asked = FRAME.format(
        category="c", dimensions="1. 完备性: 全。\n2. 清晰度: 清。\n", question="1. 无关: 不。",
        reference="r", answer=RICH,
    )  # fmt: skip
    found = scores_of(ask(asked).text)
    assert found == {"score": 10.0, "dimensions": {"完备性": 10.0, "清晰度": 10.0}}


def test_it_names_one_of_two_models_with_their_log_probabilities() -> None:
    plain = ask(ALPACA.format(RICH, POOR))
    assert (plain.text, plain.details) == ("m", None)
    told = ask(ALPACA.format(POOR, RICH), top_logprobs=5)
    assert told.text == "M"
    found = json.loads(told.details or "")["top_logprobs"]
    # The difference of worth is 1/80 - 1, in log-odds six times that.
    assert found["m"] - found["M"] == pytest.approx(6 * (1 / 80 - 1))
    assert math.exp(found["m"]) + math.exp(found["M"]) == pytest.approx(1)
    assert chance_of_first(told) == {
        "first": pytest.approx(1 / (1 + math.exp(6 * (1 - 1 / 80)))), "by": "logprobs",
    }  # fmt: skip
    assert chance_of_first(plain) == {"first": 1.0, "by": "text"}
    only = json.loads(ask(ALPACA.format(POOR, RICH), top_logprobs=1).details or "")
    assert list(only["top_logprobs"]) == ["M"]


def test_a_question_of_no_known_format_gets_no_verdict() -> None:
    found = ask("Which is better?")
    assert rating_of(found.text) is None
    assert scores_of(found.text) is None


def test_it_misbehaves_as_often_as_it_is_told_and_elsewhere_with_another_draw() -> None:
    def kinds(draw: int) -> list[str]:
        out = []
        for number in range(300):
            said = ask(f"{number} [[rating]]", off_format=0.3, failed=0.2, draw=draw)
            rated = rating_of(said.text) is not None
            out.append("failed" if said.finish == "error" else "rated" if rated else "off")
        return out

    found = kinds(0)
    assert found == kinds(0)
    assert found != kinds(1)
    # Shares of 300 draws have standard errors of 0.026 and 0.023: four of them.
    assert found.count("off") / 300 == pytest.approx(0.3, abs=0.11)
    assert found.count("failed") / 300 == pytest.approx(0.2, abs=0.1)


def test_asked_again_it_judges_the_same_responses() -> None:
    first = chat("Say [[A>>B]] to [[B>>A]].", ARENA.format(RICH, POOR))
    again = [*first, {"role": "assistant", "content": "Well."}, {"role": "user", "content": "So?"}]
    assert ask(again).text == ask(first).text


def test_a_recipe_names_it_by_its_module_and_its_key_has_its_settings() -> None:
    use = {"use": "fusechat.miniature.judge:ScriptedJudge"}
    part = load_part("sources", use)
    assert part.digest() != load_part("sources", use | {"off_format": 0.1}).digest()
    assert isinstance(part, ScriptedJudge)
    assert not part.prefills()
