"""AlpacaEval 2.0: what the judge is asked, how its word is read, and the row's numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpaca_cases import instruction, write_files
from chat_cases import response, said
from fusechat.metrics.alpaca_eval import Gamed, length_controlled
from fusechat.metrics.scoring import Items
from fusechat.parts import UnreadableRow
from fusechat.records import Prompt, Response
from fusechat.tasks._alpaca_files import filled, judge_turns
from fusechat.tasks.alpaca_eval_2 import AlpacaEval2, swapped


def task_in(folder: Path, **settings: Any) -> AlpacaEval2:
    return AlpacaEval2(data_dir=str(write_files(folder)), **settings)


def prompts_of(task: AlpacaEval2) -> list[Prompt]:
    return [row for row in task.prompts("test") if isinstance(row, Prompt)]


def judged(word: str, told: dict[str, float] | None = None) -> Response:
    found = said(word)
    details = None if told is None else json.dumps({"top_logprobs": told})
    return found.model_copy(update={"details": details, "finish": "length"})


def test_the_real_files_are_805_prompts_with_the_baselines_output(shared_data: Path) -> None:
    task = AlpacaEval2(data_dir=str(shared_data))
    found = prompts_of(task)
    assert len({row.id for row in found}) == len(found) == task.expected() == 805
    assert [row.item for row in found[:2]] == ["0", "1"]
    assert (found[0].domain, found[0].licence) == ("helpful_base", "CC-BY-NC-4.0")
    assert (found[0].reference or "").startswith("Several famous actors")
    # Where the judge's prompt is not there, that is what is missing, and it is said how to get it.
    told = task.missing()
    assert told is None or ("alpaca_eval_clf.txt" in told and "pip install alpaca-eval" in told)
    # The model's output is shown first for about half of them.
    assert 350 < sum(swapped(row.messages[0].content) for row in found) < 450


def test_the_draw_of_the_places_is_alpacaevals() -> None:
    # random.Random("is_switched_outputs" + instruction + "0").choices([False, True], k=1)[0]
    names = "What are the names of some famous actors that started their careers on Broadway?"
    assert swapped(names) is True
    assert {swapped(instruction(at)) for at in range(6)} == {True, False}


def test_the_judge_sees_each_output_in_its_drawn_place(tmp_path: Path) -> None:
    task = task_in(tmp_path)
    for prompt in prompts_of(task):
        (question,) = task.questions(prompt, response(prompt, "Mine {output_1} {x} \\1"))
        system, asked = question.messages
        assert (system["role"], system["content"]) == ("system", "You compare.")
        first, second = asked["content"].partition("\nm: ")[2].split("\nM: ")
        mine, base = "Mine {output_1} {x} \\1", prompt.reference
        before = swapped(prompt.messages[0].content)
        assert (first, second.removesuffix("\nBest:")) == ((mine, base) if before else (base, mine))
        assert question.game == ("2" if before else "1")


def test_the_preference_is_the_share_of_the_two_words_in_the_drawn_order(tmp_path: Path) -> None:
    task = task_in(tmp_path)
    prompt = prompts_of(task)[0]
    answer = judged("M", {"m": math.log(0.15), "M": math.log(0.45), "The": math.log(0.4)})
    reading = task.reading(prompt, "1", answer)
    assert reading == {"first": pytest.approx(0.25), "by": "logprobs"}
    mine = response(prompt, "x")
    behind = task.verdict(prompt, mine, {"1": reading})
    before = task.verdict(prompt, mine, {"2": reading})
    assert (behind.value, before.value) == (pytest.approx(0.75), pytest.approx(0.25))
    assert behind.details["preference"] == pytest.approx(1.75)


@pytest.mark.parametrize(
    ("word", "told", "reading"),
    [
        ("m", {"m": -0.1, "The": -3.0}, (1.0, "logprobs")),
        ("The", {"M": -7.0, "The": -0.1}, (0.0, "logprobs")),
        ("m", {" m": math.log(0.3), "M ": math.log(0.1)}, (0.75, "logprobs")),
        ("m", {"m": -1.0, " M": -1.0}, (1.0, "logprobs")),
        ("M", {"The": -1.0}, (0.0, "text")),
        ("m", None, (1.0, "text")),
        (' "M".\n', None, (0.0, "text")),
        ("model m", None, None),
        ("", {}, None),
        ("Mm", None, None),
        ("m", {"m": -9999.0, "M": -0.1}, (0.0, "logprobs")),
        ("m", {"m": -9999.0}, (1.0, "text")),
    ],
)
def test_a_judges_word_is_read_or_is_off_the_format(
    tmp_path: Path, word: str, told: dict[str, float] | None, reading: tuple[float, str] | None
) -> None:
    task = task_in(tmp_path)
    found = task.reading(prompts_of(task)[0], "1", judged(word, told))
    if reading is None:
        assert found is None
    else:
        assert (found["first"], found["by"]) == (pytest.approx(reading[0]), reading[1])


def test_a_failed_answer_of_the_judge_is_no_word_of_it(tmp_path: Path) -> None:
    task = task_in(tmp_path)
    prompt = prompts_of(task)[0]
    assert task.reading(prompt, "1", response(prompt, "m", "error")) is None


@given(st.floats(-50, 0), st.floats(-50, 0))
def test_the_preference_is_the_logistic_of_the_difference(first: float, second: float) -> None:
    task = AlpacaEval2()
    prompt = Prompt.of("Q", domain="d")
    found = task.reading(prompt, "1", judged("x", {"m": first, "M": second}))
    assert found["first"] == pytest.approx(1 / (1 + math.exp(second - first)), abs=1e-9)


def items_of(task: AlpacaEval2, values: list[float], characters: list[float]) -> Items:
    found = prompts_of(task)
    none = np.full(len(found), np.nan)
    details = tuple({"by": "text" if at == 1 else "logprobs"} for at in range(len(found)))
    return Items(
        tuple(row.id for row in found), np.array(values), tuple(row.domain for row in found),
        np.array(characters), none, details,
    )  # fmt: skip


def test_the_row_is_the_length_controlled_win_rate_of_its_items(tmp_path: Path) -> None:
    task = task_in(tmp_path)
    values, characters = [0.9, 0.2, 0.6, 0.7, math.nan, 1.0], [9.0, 80.0, 7.0, 30.0, 5.0, 12.0]
    items = items_of(task, values, characters)
    rows = [(0.7, -1.5), (0.3, 1.5)]
    gamed = Gamed.of(
        {"preference": liked, "index": at, "std_delta_len": length,
         "instruction_difficulty": at / 10}
        for liked, length in rows for at in range(6)
    )  # fmt: skip
    known = [0, 1, 2, 3, 5]
    shorter_by = [len(f"Base {'word ' * at}".strip()) - characters[at] for at in known]
    expected = length_controlled(
        [values[at] for at in known], shorter_by, [at / 10 for at in known], gamed
    )
    assert task.score(items) == pytest.approx(expected.length_controlled)
    told = task.extras(items)
    assert told["win_rate"] == pytest.approx(100 * (0.9 + 0.2 + 0.6 + 0.7 + 1.0) / 5)
    assert (told["read_from_text"], told["read_from_logprobs"]) == (1, 5)
    assert json.dumps(told)


def test_the_published_preferences_as_items_give_the_published_row(shared_data: Path) -> None:
    name = "judge/alpaca_eval_annotations_FuseChat-Llama-3.1-8B-Instruct.json"
    rows = json.loads((shared_data / name).read_text(encoding="utf-8"))
    task = AlpacaEval2(data_dir=str(shared_data))
    items = items_of(
        task, [row["preference"] - 1 for row in rows], [len(row["output_2"]) for row in rows]
    )
    assert round(task.score(items), 4) == 65.3862
    assert round(task.extras(items)["win_rate"], 4) == 63.3316


def test_items_of_another_file_make_no_number(tmp_path: Path) -> None:
    task = task_in(tmp_path)
    items = items_of(task, [0.5] * 6, [1.0] * 6)
    strange = Items(("x",), *[getattr(items.take([0]), n) for n in (
        "values", "groups", "characters", "tokens", "details")])  # fmt: skip
    with pytest.raises(ValueError, match="none of"):
        task.score(strange)


def test_a_resample_is_fitted_without_choosing_the_strength_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_in(tmp_path)
    items = items_of(task, [0.9, 0.2, 0.6, 0.7, 0.4, 1.0], [9.0, 80.0, 7.0, 30.0, 5.0, 12.0])
    import fusechat.metrics.alpaca_eval as lc

    asked: list[float | None] = []
    whole = lc.length_controlled

    def watched(*given: Any) -> Any:
        asked.append(given[4])
        return whole(*given)

    monkeypatch.setattr(lc, "length_controlled", watched)
    task.score(items)
    task.score(items.take([0, 0, 1, 2, 3, 4]))
    assert asked == [None, lc.USUAL]


def test_each_family_is_sampled_as_the_paper_does(tmp_path: Path) -> None:
    common = {"max_new_tokens": 4096}
    assert task_in(tmp_path, family="llama").decoding() == common | {
        "temperature": 0.6, "top_p": 0.9, "presence_penalty": 0.1, "frequency_penalty": 0.1,
    }  # fmt: skip
    assert task_in(tmp_path, family="gemma").decoding() == common | {
        "temperature": 0.5, "top_p": 1.0
    }  # fmt: skip
    assert task_in(tmp_path, family="qwen").decoding() == common | {
        "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05,
    }  # fmt: skip
    assert task_in(tmp_path, repeats=3).samples() == 3


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("alpaca_eval_clf.txt", "no turns", "has no turns <|im_start|>"),
        ("alpaca_eval_clf.txt", "<|im_start|>user\n{output_1}<|im_end|>", "must name each of"),
        ("df_gamed.csv", "a,b\n1,2\n", "is no df_gamed.csv"),
        ("df_gamed.csv", None, "df_gamed.csv of the hub's data set"),
        ("alpaca_eval_gpt4_baseline.json", None, "licence: CC-BY-NC-4.0"),
        ("alpaca_eval_clf.txt", None, "pip install alpaca-eval"),
    ],
)
def test_what_cannot_be_used_skips_the_row_with_the_mend(
    tmp_path: Path, name: str, text: str | None, words: str
) -> None:
    task = task_in(tmp_path)
    assert task.missing() is None
    if text is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(text)
    assert words in (task.missing() or "")


def test_without_the_solver_the_row_is_skipped_and_the_package_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_in(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    assert "pip install 'fusechat[evaluate]'" in (task.missing() or "")


def test_rows_of_the_baseline_that_are_none_are_kept_with_reasons(tmp_path: Path) -> None:
    task = task_in(tmp_path)
    path = tmp_path / "alpaca_eval_gpt4_baseline.json"
    rows = json.loads(path.read_text())
    rows[1]["instruction"] = " "
    rows[2] = "text"
    path.write_text(json.dumps([*rows, {"instruction": "More?", "output": "x"}]))
    found = [row.reason for row in task.prompts("test") if isinstance(row, UnreadableRow)]
    assert found == [
        "it has no texts in 'instruction' and 'output'", "no row",
        "df_gamed.csv has no row of number 6",
    ]  # fmt: skip
    # The others keep their numbers, by which they have their difficulty.
    assert [row.item for row in prompts_of(task)] == ["0", "3", "4", "5"]


def test_texts_with_places_of_their_own_stay_as_they_are(tmp_path: Path) -> None:
    task = task_in(tmp_path)
    turns = judge_turns(task.found()["judge_prompt"])
    texts = {"instruction": "{output_2}", "output_1": "<|im_end|>", "output_2": "{instruction}"}
    (_, asked) = filled(turns, texts)
    assert asked["content"] == "Q: {output_2}\nm: <|im_end|>\nM: {instruction}\nBest:"
