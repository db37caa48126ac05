"""`fusechat score alpaca_eval_2`: the published figures, and what faulty files get."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from alpaca_cases import instruction, judgments, write_files
from fusechat.cli import main
from fusechat.errors import FusechatError, RecipeError
from fusechat.grading.score_alpaca_eval_2 import agreement, score

PUBLISHED = "judge/alpaca_eval_annotations_FuseChat-Llama-3.1-8B-Instruct.json"


def test_the_command_gives_the_published_figures(
    shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["score", "alpaca_eval_2", str(shared_data / PUBLISHED), "--data-dir", str(shared_data)]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert f"{found['length_controlled_winrate']:.4f}" == "65.3862"
    assert f"{found['win_rate']:.4f}" == "63.3316"
    assert (found["n"], found["status"]) == (805, "ok")
    assert found["standard_error"] == pytest.approx(1.4225, abs=1e-4)


def test_files_are_found_beside_the_judgments(tmp_path: Path) -> None:
    write_files(tmp_path)
    found = score(judgments(tmp_path / "mine.json", [2, 1.5, 1, 2, 0, 1.75]), None)
    # 1, 0.5, 0, 1, 0.5 (the old 0 is a draw), 0.75: 3.75 of 6.
    assert found["win_rate"] == pytest.approx(62.5)
    assert (found["wins"], found["losses"], found["draws"]) == (3, 1, 2)
    assert (found["model"], found["judge"], found["status"]) == ("mine", "judge", "ok")
    assert found["placed_by"] == "instruction"


def test_what_is_missing_or_has_no_preference_is_left_out_and_told(tmp_path: Path) -> None:
    write_files(tmp_path)
    path = judgments(tmp_path / "mine.json", [2, None, 1, float("nan")])
    found = score(path, tmp_path)
    assert (found["n"], found["n_expected"], found["status"]) == (2, 6, "partial")
    assert found["left_out"] == {
        "missing": {"n": 2, "items": [4, 5]}, "no_preference": {"n": 2, "items": [1, 3]}
    }  # fmt: skip
    assert found["win_rate"] == 50.0
    nothing = score(judgments(path, [None] * 6), tmp_path)
    assert (nothing["win_rate"], nothing["n"]) == (None, 0)


def test_an_item_has_the_difficulty_of_its_instruction_wherever_it_stands(tmp_path: Path) -> None:
    write_files(tmp_path)
    path = judgments(tmp_path / "mine.json", [2, 1.2, 1, 1.9, 1.6, 1.1])
    found = score(path, tmp_path)
    rows = json.loads(path.read_text())
    path.write_text(json.dumps(rows[::-1]))
    turned = score(path, tmp_path)
    assert turned["length_controlled_winrate"] == pytest.approx(
        found["length_controlled_winrate"], abs=0.1
    )
    (tmp_path / "alpaca_eval_gpt4_baseline.json").unlink()
    assert score(path, tmp_path)["placed_by"] == "row"


def test_several_models_in_a_file_are_scored_apart_and_the_baseline_has_50(tmp_path: Path) -> None:
    write_files(tmp_path)
    path = judgments(tmp_path / "mine.json", [2] * 6)
    other = json.loads(judgments(tmp_path / "other.json", [1.5] * 6).read_text())
    for row in other:
        row["generator_2"] = row["generator_1"]
    path.write_text(json.dumps(json.loads(path.read_text()) + other))
    found = score(path, tmp_path)["models"]
    assert [one["model"] for one in found] == ["mine", "gpt4_1106_preview"]
    assert found[0]["length_controlled_winrate"] > 90
    assert found[1]["length_controlled_winrate"] == 50.0


def faults(path: Path, data_dir: Path | None) -> str:
    with pytest.raises(FusechatError) as raised:
        score(path, data_dir)
    return str(raised.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"preference": 2.5}, "its preference is 2.5. It is from 1"),
        ({"preference": True}, "its preference is True"),
        ({"preference": "m"}, "its preference is 'm'"),
        ({"output_2": 7}, "it has no text in output_2"),
        ({"instruction": "Another?"}, "no instruction of AlpacaEval: 'Another?'"),
        ({"instruction": instruction(0)}, "is judged at mine.json[0], too"),
        ({"generator_1": "text_davinci_003"}, "its generator_1 is text_davinci_003"),
    ],
)
def test_a_row_that_cannot_count_is_named_with_its_mend(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    write_files(tmp_path)
    path = judgments(tmp_path / "mine.json", [1.2] * 6)
    rows = json.loads(path.read_text())
    rows[4] |= change
    path.write_text(json.dumps(rows))
    found = faults(path, tmp_path)
    assert words in found
    assert "mine.json" in found
    assert found.endswith("1 fault; nothing was run.")


def test_all_faults_come_at_once(tmp_path: Path) -> None:
    write_files(tmp_path)
    path = judgments(tmp_path / "mine.json", [3, 1.5, 0.5, 2, 2, 2])
    rows = json.loads(path.read_text())
    del rows[1]["preference"]
    path.write_text(json.dumps([*rows, 5]))
    found = faults(path, tmp_path)
    assert "mine.json[0]" in found
    assert "mine.json[2]" in found
    assert "mine.json[1]  it has no 'preference'" in found
    assert "mine.json[6]  no object, but int" in found
    path.write_text(json.dumps([{"no": 1}] * 40))
    assert "and 20 more of such" in faults(path, tmp_path)


def test_files_that_are_missing_or_no_json_are_told_with_where_to_get_them(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "data")
    path = judgments(tmp_path / "mine.json", [1.2] * 6)
    (folder / "df_gamed.csv").rename(tmp_path / "gone.csv")
    found = faults(path, folder)
    assert "df_gamed.csv of the hub's data set tatsu-lab/alpaca_eval" in found
    assert "CC-BY-NC-4.0" in found
    assert "--data-dir" in found
    (folder / "df_gamed.csv").write_text("a,b\n1,2\n")
    assert "is no df_gamed.csv of AlpacaEval 2.0: row 1" in faults(path, folder)
    assert "there is no such file" in faults(tmp_path / "none.json", folder)
    (tmp_path / "gone.csv").rename(folder / "df_gamed.csv")
    path.write_text("[{")
    assert "is not JSON" in faults(path, folder)
    path.write_text("[]")
    assert "holds no judgment" in faults(path, folder)
    (folder / "alpaca_eval_gpt4_baseline.json").unlink()
    found = faults(judgments(path, [1.2] * 5), folder)
    assert "it has 5 of 6 judgments; which ones only the baseline's file tells" in found


def test_without_the_solver_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path)
    path = judgments(tmp_path / "mine.json", [1.2] * 6)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, package=None: None if name == "sklearn" else find(name, package),
    )
    found = faults(path, tmp_path)
    assert "pip install 'fusechat[evaluate]'" in found


def test_two_judges_are_compared_on_the_pairs_of_both_in_whatever_order(tmp_path: Path) -> None:
    ours = judgments(tmp_path / "ours.json", [2, 1, 1.2, None])
    theirs = json.loads(judgments(tmp_path / "theirs.json", [1.9, 1.8, 1.4, 1.1, 2]).read_text())
    for row in theirs[:2]:  # the same judgment, told from the other side
        row["output_1"], row["output_2"] = row["output_2"], row["output_1"]
        row["preference"] = 3 - row["preference"]
    theirs[2]["output_2"] = "something else"
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps(theirs))
    found = agreement(ours, path, None)
    # Of instructions 0 and 1 both have a preference of the same pair: 1 and 0 against 0.9 and 0.8.
    assert (found["n"], found["agreement"], found["not_published"]) == (2, 0.5, 1)
    assert (found["mean_ours"], found["mean_published"]) == (0.5, pytest.approx(0.85))
    lonely = judgments(tmp_path / "lonely.json", [2], output_1="Never seen")
    with pytest.raises(RecipeError, match="there is nothing to compare"):
        agreement(lonely, path, None)
